"""Configs that are stored with runs and weights: those of older versions, and what they say of a step."""

import os
from collections.abc import Mapping
from typing import Any

from jaxdet import files
from jaxdet.errors import InputError


def current(stored: dict[str, Any], path: str | os.PathLike) -> dict[str, Any]:
    """The config (JSON values) that the file `path` stores, with the names of today; other keys stay.

    Version 0.1.0 called the kind of data of recordings "gen1" instead of "events". InputError for a newer
    version of the format.
    """
    if not isinstance(stored, dict):
        raise InputError(f"{path}: a {type(stored).__name__} in place of a config; convert or train again")
    files.check_version(stored, path)
    config = {key: value for key, value in stored.items() if key != files.VERSION_KEY}
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
