"""Torch files, read and written without torch."""
