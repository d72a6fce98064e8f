"""Weights: checkpoints, torch files read without torch, conversion rules, soups."""
