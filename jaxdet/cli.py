"""The part that all commands share: flags, one-line errors, logging."""

import argparse
import difflib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn

from absl import flags as absl_flags

from jaxdet import config_files, distributed, terminal
from jaxdet.data.images import layouts
from jaxdet.distributed import flags as xla_flags
from jaxdet.errors import InputError, one_line, printable
from jaxdet.structs import ReadReport

# JAX passes it on when it is imported; else XLA reports every compilation of over two minutes as a fault.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

STRICT = "exit status 1 if anything was left out while reading; the work is done all the same"
RADIOMETRIC = "16-bit pixels to 8: auto, minmax, percentile, kelvin:LO,HI; default: data.radiometric"
_CONFIG = "config: NAME:argument of a published one, or FILE.py:argument (Python, which runs)"


class _Parser(argparse.ArgumentParser):
    """argparse, but a wrong flag raises InputError."""

    def error(self, message: str) -> NoReturn:
        # argparse says "argument --number: =x: expected ...", where "=x: expected ..." is from a type below.
        said = message.removeprefix("argument ").replace(": =", "=", 1)
        raise InputError(f"{said}; --help lists the flags")


class Flags:
    """The flags of one command; values are attributes after parsing.

    Every command owns its set, so that several commands can run in one process. `config` is the ConfigDict of
    `--config`, None without; `override(cfg)` applies `--config.key=value` to a config that is stored
    elsewhere.
    """

    def __init__(self, usage: str = ""):
        self._parser = _Parser(
            usage=argparse.SUPPRESS,
            description=usage.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self._values = argparse.Namespace()
        self._required: list[str] = []
        self._choices: dict[str, tuple[str, ...]] = {}
        self._takes_config = self._stores_config = False
        self._overrides: list[tuple[str, str]] = []
        self.boolean("debug", False, "show the traceback of an input error")

    def string(self, name: str, default: str | None, help: str, required: bool = False) -> None:
        self._add(name, default, help, "TEXT", required, type=str)

    def integer(self, name: str, default: int | None, help: str, required: bool = False) -> None:
        self._add(name, default, help, "INTEGER", required, type=_typed(name, int, "a whole number"))

    def number(self, name: str, default: float | None, help: str, required: bool = False) -> None:
        self._add(name, default, help, "NUMBER", required, type=_typed(name, float, "a number"))

    def boolean(self, name: str, default: bool, help: str) -> None:
        """`--name`, `--noname`, `--name=true` and `--name=false`."""
        typed = _typed(name, _truth, "true or false")
        self._add(name, default, help, "BOOLEAN", type=typed, nargs="?", const=True)
        self._parser.add_argument(
            f"--no{name}", dest=name, action="store_false", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )

    def choice(self, name: str, default: str | None, choices: Sequence[str], help: str) -> None:
        def chosen(text: str) -> str:
            if text not in choices:
                raise argparse.ArgumentTypeError(f"={text}: expected one of {', '.join(choices)}")
            return text

        self._choices[name] = tuple(choices)
        self._add(name, default, f"{help} ({' | '.join(choices)})", "CHOICE", type=chosen)

    def strings(self, name: str, default: Sequence[str], help: str, required: bool = False) -> None:
        """Values with commas between them."""
        split: Callable[[str], list[str]] = lambda text: [w for w in text.split(",") if w]  # noqa: E731
        self._add(name, list(default), help, "LIST", required, type=split)

    def config_file(self, help: str = _CONFIG, stored: bool = False) -> None:
        """`--config`, and `--config.key=value` for any key of it; `stored`: other flags may name a config as
        well."""
        self._add("config", None, help, "CONFIG", type=str)
        self._takes_config, self._stores_config = True, stored

    def _add(self, name, default, help, kind, required=False, **kwargs):
        shown = "" if default in (None, "", [], False) else f"; default: {_shown(default)}"
        text = (help + shown).replace("%", "%%")
        self._parser.add_argument(f"--{name}", default=default, help=text, metavar=kind, **kwargs)
        if required:
            self._required.append(name)

    def listed(self) -> list[tuple[str, str, str]]:
        """Name, kind of value and help of each flag, in the order of --help."""
        shown = [a for a in self._parser._actions if a.help != argparse.SUPPRESS]
        return [(a.dest, str(a.metavar), str(a.help).replace("%%", "%")) for a in shown]

    def choices(self, name: str) -> tuple[str, ...]:
        """Values that a flag takes; () where they are not listed."""
        return self._choices.get(name, ())

    def parse(self, argv: Sequence[str]) -> None:
        """Read `argv` (without the program's name); raises InputError for anything unknown or missing."""
        if "--help" in argv or "-h" in argv:
            print(self._parser.format_help())
            raise SystemExit(0)
        argv, self._overrides = _without_overrides(argv)
        self._values, rest = self._parser.parse_known_args(argv)
        if rest:
            raise InputError(self._unknown(rest[0]))
        missing = [f"--{name}" for name in self._required if not getattr(self._values, name)]
        if missing:
            raise InputError(f"missing {', '.join(missing)}; --help lists the flags")
        if self._overrides and not self._takes_config:
            raise InputError(f"no flag 'config.{self._overrides[0][0]}': this command takes no config")
        if self._takes_config and self._values.config is not None:
            self._values.config = self.override(config_files.load(self._values.config))
        elif self._overrides and not self._stores_config:
            raise InputError(
                f"--config.{self._overrides[0][0]} without --config; which config is to be changed?"
            )

    def override(self, cfg: Any) -> Any:
        """`cfg` with the values of `--config.key=value`."""
        return config_files.override(cfg, self._overrides)

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"{word!r} belongs to no flag; flags have the form --input={word}, --help lists them"
        name = word.lstrip("-").partition("=")[0]
        near = difflib.get_close_matches(name, list(vars(self._values)), 1)
        meant = f" (did you mean --{near[0]}?)" if near else ""
        return f"no flag {name!r}{meant}; --help lists the flags"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._values, name)


def model_flags(flags: Flags) -> None:
    """Flags that overrule what weights say of their model."""
    flags.string("model_sensor", None, "WIDTHxHEIGHT of the event camera that the model was trained for")
    flags.strings("classes", [], "names of the classes, in the order of their labels")
    flags.integer("size", None, "pixels of the longer side at which images are predicted")
    flags.string("model_size", None, "WIDTHxHEIGHT at which HMNet runs instead of the size of its training")


def class_map(pairs: Sequence[str]) -> dict[str, str]:
    """Names of classes by other names, from words such as bike:bicycle; InputError for other words."""
    found = {name: to for name, _, to in (pair.partition(":") for pair in pairs)}
    wrong = [name for name, to in found.items() if not name or not to]
    if wrong:
        raise InputError(f"--class_map={','.join(pairs)}, expected pairs such as bike:bicycle")
    return found


def image_flags(flags: Flags) -> None:
    """Flags that say how labelled images are read; `read_image_flags` puts them into a data block."""
    flags.string(
        "data",
        None,
        "labelled images: data.yaml, COCO annotations or a folder, which say splits and classes; default: "
        "those of the config",
    )
    flags.strings("class_map", [], "annotated:own names of classes, such as bike:bicycle,motor:motorcycle")
    flags.string("radiometric", None, RADIOMETRIC)
    flags.boolean("strict", False, STRICT)


def read_image_flags(flags: Flags, block: Any, fixed_classes: bool = False) -> dict[str, str]:
    """Put the values of `image_flags` into a data block of images; return the splits of `--data`."""
    splits: dict[str, str] = {}
    if block.kind != "images":
        if flags.data or flags.class_map or flags.radiometric:
            raise InputError("--data, --class_map and --radiometric are for images; the config is of events")
        return splits
    with block.unlocked():
        if flags.class_map:
            block.class_map = class_map(flags.class_map)
        described = flags.data or block.get("yaml")
        if described:
            splits = layouts.apply(block, described, fixed_classes, dict(block.get("class_map", {})))
        if flags.radiometric is not None:
            block.radiometric = flags.radiometric
    return splits


def check_losses(report: ReadReport, strict: bool, end: str = "the rest is done") -> None:
    """With `strict`, raise InputError for a report of things that were left out; `end` says what was done."""
    if strict and report.num_lost:
        raise InputError(f"--strict: {report.line()}; {end}")


def _typed(name: str, convert: Callable[[str], Any], expected: str) -> Callable[[str], Any]:
    def typed(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"={text}: expected {expected}") from error

    return typed


def _truth(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _without_overrides(argv: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Arguments but `--config.key=value`, and those; a bare `--config.key` is true."""
    rest, pairs, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            rest.append(word)
            continue
        key, equals, text = word.removeprefix("--config.").partition("=")
        if not equals:
            text = words.pop(0) if words and not words[0].startswith("--") else "true"
        pairs.append((key, text))
    return rest, pairs


@dataclass(frozen=True)
class Command:
    """A command, made of its flags and its body; called with `argv=None`, it returns the exit status.

    One of `several_processes` joins the others of its job (see `jaxdet.distributed`) before its body runs.
    One that `saves_when_told` answers SIGTERM itself, and one that `cleans_up_when_told` removes then what is
    unfinished; others end at once. A first word without a name is the value of the flag `first`.
    """

    define: Callable[[Flags], None]
    body: Callable[[Flags], None]
    usage: str | None
    several_processes: bool = False
    saves_when_told: bool = False
    cleans_up_when_told: bool = False
    first: str | None = None

    def flags(self) -> Flags:
        """The flags, not parsed yet."""
        flags = Flags(self.usage or "")
        self.define(flags)
        return flags

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        argv = list(sys.argv[1:] if argv is None else argv)
        if self.first and argv and not argv[0].startswith("-"):
            argv[0] = f"--{self.first}={argv[0]}"
        flags = self.flags()
        _log_plainly()
        if not absl_flags.FLAGS.is_parsed():
            absl_flags.FLAGS(["jaxdet"])  # Grain's worker processes insist on it
        xla_flags.keep_compiled()
        try:
            flags.parse(argv)
            if self.several_processes:
                distributed.start(self.saves_when_told)
                _log_plainly(distributed.is_main())
            with _unwound_by_sigterm() if self.cleans_up_when_told else nullcontext():
                self.body(flags)
            distributed.finish()
            if sys.stdout is not None:  # a program started with `>&-` has none
                sys.stdout.flush()
        except BrokenPipeError:
            _drop_output()
            return 0
        except (InputError, OSError) as error:
            if "--debug" in argv or os.environ.get("JAXDET_DEBUG"):
                traceback.print_exc()
            distributed.leave(error, _one_line(error))
            print(terminal.paint("error:", "red", sys.stderr), _one_line(error), file=sys.stderr)
            return 1
        except KeyboardInterrupt as error:
            distributed.leave(error, "interrupted")
            print("interrupted", file=sys.stderr)
            return 130
        except Exception as error:
            if distributed.count() > 1:
                traceback.print_exc()
            distributed.leave(error, f"{type(error).__name__}: {_one_line(error)}")
            raise
        return 0


@contextmanager
def _unwound_by_sigterm() -> Iterator[None]:
    """Within, SIGTERM exits through every `with` that is open, with status 143; a second one ends at once."""
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, _) -> None:
        signal.signal(number, before)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say(text: str) -> None:
    """Print before the flags of a command are known; whoever reads it may stop early, as `| head -1` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _drop_output()


def _drop_output() -> None:
    """Whoever read the output has seen enough; the exit of Python must not flush to it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _log_plainly(is_main: bool = True) -> None:
    logging.basicConfig()
    root = logging.getLogger()
    root.setLevel(logging.INFO if is_main else logging.WARNING)
    for handler in root.handlers:
        if type(handler) is logging.StreamHandler:  # importing Orbax may have made it, in another format
            handler.setFormatter(_Plain("%(message)s"))
    for chatty in ("absl", "jax"):  # Orbax would report its every file
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _Plain(logging.Formatter):
    """Log lines without control characters: file names and fields of foreign files may hold some."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).expandtabs().split("\n")))


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return one_line(f"{error.filename}: {error.strerror}")
    return one_line(str(error))
