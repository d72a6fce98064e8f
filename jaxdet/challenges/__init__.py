"""Challenges: recipes of their tracks, reproduction of the results, and submissions."""
