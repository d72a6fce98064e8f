"""The config keys: types and defaults from the published configs, meanings from a table."""

import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MEANINGS = ROOT / "docs" / "config_keys.toml"
MAPPINGS = ("data.class_map",)  # whose value is a table, not a block of keys
TITLES = {"": "Top level", "train": "Training", "optim": "Optimiser", "model": "Model", "data": "Data"}


class MissingMeaning(Exception):
    """A config has a key that the table of meanings lacks, or the other way round."""


def values(configs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Dotted key -> name of a config -> its value."""
    found: dict[str, dict[str, Any]] = {}

    def walk(block: dict, prefix: str, name: str) -> None:
        for key, value in block.items():
            path = f"{prefix}{key}"
            if isinstance(value, dict) and path not in MAPPINGS:
                walk(value, f"{path}.", name)
            else:
                found.setdefault(path, {})[name] = value

    for name, config in configs.items():
        walk(config, "", name)
    return found


def meanings() -> dict[str, tuple[str, str]]:
    """Dotted key -> unit and meaning."""
    found: dict[str, tuple[str, str]] = {}

    def walk(block: dict, prefix: str) -> None:
        for key, value in block.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                found[f"{prefix}{key}"] = tuple(value)

    walk(tomllib.loads(MEANINGS.read_text(encoding="utf-8")), "")
    return found


def check(of_keys: dict[str, dict[str, Any]], known: dict[str, tuple[str, str]]) -> None:
    """Raise MissingMeaning unless both have the same keys and every key has a meaning."""
    lacking = sorted(key for key in of_keys if not known.get(key, ("", ""))[1].strip())
    unknown = sorted(set(known) - set(of_keys))
    if lacking or unknown:
        raise MissingMeaning(f"{MEANINGS}: without a meaning: {lacking}; in no published config: {unknown}")


def page() -> str:
    """Markdown of all keys with type, default, unit and meaning."""
    stored = json.loads((ROOT / "tests" / "configs.json").read_text(encoding="utf-8"))
    of_keys, known = values(stored), meanings()
    check(of_keys, known)
    lines = [f"Published configs: {', '.join(f'`{name}`' for name in stored)}.", ""]
    for block, title in TITLES.items():
        lines += [f"## {title}", "", "| key | type | default | unit | meaning |", "|---|---|---|---|---|"]
        for key in sorted(of_keys):
            if key.rpartition(".")[0].partition(".")[0] == block:
                unit, meaning = known[key]
                kind, default = _default(of_keys[key])
                lines.append(
                    f"| `{key}` | {kind} | {default} | {unit} | {meaning.replace('|', chr(92) + '|')} |"
                )
        lines.append("")
    return "\n".join(lines)


def _default(by_config: dict[str, Any]) -> tuple[str, str]:
    """Type and commonest value, shortened, with the number of other values."""
    counted = Counter(json.dumps(value) for value in by_config.values())
    (text, _), *rest = counted.most_common()
    kind = type(json.loads(text)).__name__.replace("list", "tuple")
    text = text if len(text) <= 40 else text[:37] + "..."
    return kind, f"`{text}`" + (f" and {len(rest)} others" if rest else "")
