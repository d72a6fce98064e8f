"""Configs that are stored with runs and weights: those of older versions, and what they say of a step."""

from collections.abc import Mapping
from typing import Any


def current(config: dict[str, Any]) -> dict[str, Any]:
    """A stored config (JSON values) with the names of today; other keys stay as they are.

    Version 0.1.0 called the kind of data of recordings "gen1" instead of "events".
    """
    data = config.get("data")
    if isinstance(data, dict) and data.get("kind") == "gen1":
        return {**config, "data": {**data, "kind": "events"}}
    return config


def epoch_of(config: Mapping[str, Any], step: int) -> float:
    """Epochs that an optimiser step ends, by the config of its run; 0 where the config does not say."""
    iterations = config.get("train", {}).get("iterations_per_epoch", 0)
    data = config.get("data", {})
    segments = max(1, data["window_ms"] // data["segment_ms"]) if data.get("segment_ms") else 1
    return step / (iterations * segments) if iterations else 0.0
