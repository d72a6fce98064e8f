"""Detectors: HMNet, YOLOv4 and YOLOX behind one interface."""
