"""Simulated recordings and thermal clips."""
