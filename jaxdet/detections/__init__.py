"""Boxes on disk."""
