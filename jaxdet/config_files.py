"""Config files: found by name or path, loaded, and changed by `--config.key=value`.

A config file is Python and runs when it is loaded: load those you trust.
"""

import ast
import difflib
import importlib.util
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from jaxdet.errors import InputError

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def published() -> dict[str, Path]:
    """The config files that come with the package, by name."""
    package = Path(__file__).parent
    # A wheel holds them as jaxdet/configs, a checkout beside the package.
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"}
    return {}


def find(text: str, flag: str = "--config") -> tuple[Path, str]:
    """File and argument of `FILE.py:argument` or `NAME:argument`, NAME being that of a published config.

    Raises InputError if there is no such file.
    """
    name, _, argument = text.partition(":")
    if Path(name).is_file():
        return Path(name), argument
    known = published()
    # A published config is found by its path in a checkout from any folder as well.
    stem = Path(name).stem if Path(name).parent.name in ("", "configs") else ""
    if stem in known:
        return known[stem], argument
    raise InputError(f"{flag}={name}: no such file; published are {', '.join(known)}")


def load_module(path: Path) -> ModuleType:
    """The module of a config or recipe file; InputError naming the line where it fails."""
    spec = importlib.util.spec_from_file_location(f"jaxdet_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: not a Python file; expected one that defines get_config()")
    module = importlib.util.module_from_spec(spec)
    _run(spec.loader.exec_module, module)
    if not hasattr(module, "get_config"):
        raise InputError(f"{path} defines no get_config(); the published configs are examples")
    return module


def load(text: str, flag: str = "--config") -> Any:
    """The locked ConfigDict of `FILE.py:argument` or `NAME:argument`."""
    path, argument = find(text, flag)
    get_config = load_module(path).get_config
    cfg = _run(get_config, *([argument] if argument else []))
    if not isinstance(cfg, ConfigDict):
        raise InputError(f"{path}: get_config() returns a {type(cfg).__name__}, expected a ConfigDict")
    return cfg.lock()


def _run(function, *arguments) -> Any:
    """Call code of a config file; whatever it raises becomes one line."""
    try:
        return function(*arguments)
    except InputError:
        raise
    except SyntaxError as error:
        raise InputError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())
        raise InputError(f"{frame.filename}, line {frame.lineno}: {type(error).__name__} {said}") from error


def override(cfg: Any, pairs: Iterable[tuple[str, str]]) -> Any:
    """Set the values of `pairs` (dotted key, text) in `cfg`, each in the type of the value it replaces.

    Returns `cfg`. Raises InputError for an unknown key, a block, and a text that is no value of the type.
    """
    for key, text in pairs:
        *blocks, last = key.split(".")
        block = cfg
        for name in blocks:
            block = _value(block, name)
        old = _value(block, last)
        with block.unlocked(), block.ignore_type():
            block[last] = _parsed(old, text, f"--config.{key}={text}")
    return cfg


def _value(block: Any, name: str) -> Any:
    if isinstance(block, ConfigDict) and name in block:
        return block[name]
    near = difflib.get_close_matches(name, list(block) if isinstance(block, ConfigDict) else [], 1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    raise InputError(f"the config has no key {name!r}{meant}; a run's config.json shows all keys")


def _parsed(old: Any, text: str, where: str) -> Any:
    """`text` in the type of `old`."""
    if isinstance(old, ConfigDict):
        raise InputError(f"{where}: a block of {len(old)} keys, expected one of {', '.join(old)} after it")
    if isinstance(old, bool):
        if text.lower() not in _TRUTH:
            raise InputError(f"{where}: expected true or false")
        return _TRUTH[text.lower()]
    if isinstance(old, str):
        return text
    if isinstance(old, (int, float)):
        try:
            return type(old)(text)
        except ValueError as error:
            kind = "a whole number" if isinstance(old, int) else "a number"
            raise InputError(f"{where}: expected {kind}, such as {old}") from error
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        if old is None:
            return text
        raise InputError(f"{where}: expected a list of values, such as {old}") from error
    if old is None:
        return value
    return type(old)(value if isinstance(value, (list, tuple)) else (value,))
