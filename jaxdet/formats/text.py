"""Text and JSON files of foreign origin: UTF-8 with or without byte order mark, errors as one line."""

import json
import math
import os
from pathlib import Path
from typing import Any

from jaxdet.errors import InputError


def read_text(path: str | os.PathLike, expected: str) -> str:
    """Text of a file. InputError, which says what was `expected`, if there is none or it is not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected {expected}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; expected {expected} as UTF-8") from error
    except (OSError, ValueError) as error:  # a folder, no permission; a zero byte in the name
        raise InputError(f"{path}: {error}; expected {expected}") from error


def read_json(path: str | os.PathLike, expected: str) -> Any:
    """Content of a JSON file; errors as `read_text`."""
    text = read_text(path, expected)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); expected {expected}") from error


def read_json_lines(path: str | os.PathLike, expected: str) -> list[dict[str, Any]]:
    """Objects of a file of JSON lines, without a last line that a kill cut short; errors as `read_text`."""
    found = []
    for count, line in enumerate(read_text(path, expected).split("\n")[:-1], 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {count}: not JSON ({error}); expected {expected}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {count}: {shown(row)}, expected an object of {expected}")
        found.append(row)
    return found


def number(value: Any) -> float | None:
    """A finite int or float as float; None for anything else, text and truth values included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def shown(value: Any) -> str:
    """A value for a message: printable and short."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
