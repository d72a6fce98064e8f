"""Challenges: recipes, their reproduction, submissions."""
