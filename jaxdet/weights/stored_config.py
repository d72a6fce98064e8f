"""Configs that older versions stored, in the terms of this one."""

from typing import Any


def current(config: dict[str, Any]) -> dict[str, Any]:
    """A stored config (JSON values) with the names of today; other keys stay as they are.

    Version 0.1.0 called the kind of data of recordings "gen1" instead of "events".
    """
    data = config.get("data")
    if isinstance(data, dict) and data.get("kind") == "gen1":
        return {**config, "data": {**data, "kind": "events"}}
    return config
