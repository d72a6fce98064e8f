"""Viewing: boxes drawn on pictures and videos, plots of curves, comparisons."""
