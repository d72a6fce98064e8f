"""Inference: on recordings, on images and videos, and on streams of events."""
