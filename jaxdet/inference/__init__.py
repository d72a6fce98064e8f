"""Detectors at work: on recordings, on images, on events as they come."""
