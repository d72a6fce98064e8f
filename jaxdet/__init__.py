"""Object detection in event streams and thermal video, in JAX."""

__version__ = "0.1.0"
