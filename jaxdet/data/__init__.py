"""Recordings and images to batches, in numpy: worker processes never import jax."""
