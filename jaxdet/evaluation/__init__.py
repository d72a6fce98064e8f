"""Evaluation: detections store, metrics of each data set, pictures."""
