"""Data sets: the layout, classes and preparation that are particular to each."""
