"""What every command shares: flags, one-line errors, logging."""

import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import flags as absl_flags
from ml_collections import config_flags

from jaxdet import distributed
from jaxdet.distributed.flags import cache_folder
from jaxdet.errors import InputError


class Flags:
    """The flags of one command. Values are attributes after parsing; `args` holds what is not a flag.

    Every command owns its set, so that several commands can run in one process.
    """

    def __init__(self):
        self._values = absl_flags.FlagValues()
        self._required: list[str] = []
        self.args: list[str] = []
        self.boolean("debug", False, "show the traceback of an input error")

    def string(self, name: str, default: str | None, help: str, required: bool = False) -> None:
        absl_flags.DEFINE_string(name, default, help, flag_values=self._values)
        self._require(name, required)

    def integer(self, name: str, default: int | None, help: str, required: bool = False) -> None:
        absl_flags.DEFINE_integer(name, default, help, flag_values=self._values)
        self._require(name, required)

    def number(self, name: str, default: float | None, help: str, required: bool = False) -> None:
        absl_flags.DEFINE_float(name, default, help, flag_values=self._values)
        self._require(name, required)

    def boolean(self, name: str, default: bool, help: str) -> None:
        absl_flags.DEFINE_boolean(name, default, help, flag_values=self._values)

    def choice(self, name: str, default: str | None, choices: Sequence[str], help: str) -> None:
        absl_flags.DEFINE_enum(name, default, list(choices), help, flag_values=self._values)

    def strings(self, name: str, default: Sequence[str], help: str, required: bool = False) -> None:
        absl_flags.DEFINE_list(name, list(default), help, flag_values=self._values)
        self._require(name, required)

    def config_file(
        self, default: str | None = None, help: str = "config file, FILE.py or FILE.py:argument"
    ) -> None:
        config_flags.DEFINE_config_file("config", default, help, flag_values=self._values)

    def _require(self, name, required):
        if required:
            self._required.append(name)

    def parse(self, argv: Sequence[str], usage: str) -> None:
        """Read `argv` (without the program's name); raises InputError for anything unknown or missing."""
        if "--help" in argv or "-h" in argv:
            print(usage, self._values.main_module_help() or self._values.get_help(), sep="\n")
            raise SystemExit(0)
        try:
            with _as_sys_argv(argv):
                self.args = self._values(sys.argv)[1:]
        except (absl_flags.Error, KeyError, AttributeError, TypeError, SyntaxError) as error:
            raise InputError(_flag_error(error)) from error
        if "config" in self._values and self._values["config"].value is not None:
            path = Path(self._values["config"].config_filename.partition(":")[0])
            if not path.is_file():
                raise InputError(f"--config={path}: no such file; configs/ has those that are published")
        missing = [f"--{name}" for name in self._required if not self._values[name].value]
        if missing:
            raise InputError(f"missing {', '.join(missing)}; --help lists the flags")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._values, name)


def _flag_error(error: Exception) -> str:
    """What is wrong with a flag or a config, from the errors that absl and ml_collections wrap around it."""
    chain: list[BaseException] = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    first, last = str(error).splitlines()[0], " ".join(str(chain[-1]).split())
    # Key and attribute errors of a config file are not wrapped; only their traceback passes through it.
    inside = [f for f in traceback.extract_tb(error.__traceback__) if f.name in ("get_config", "<module>")]
    if inside:
        return f"{inside[-1].filename}, line {inside[-1].lineno}: {type(error).__name__} {last}"
    if last.endswith("has no attribute 'get_config'"):
        return "the file of --config defines no get_config(); those in configs/ are examples"
    if isinstance(chain[-1], KeyError):
        hint = next((m for e in chain if (m := re.search(r'Did you mean "([^"]+)"', str(e)))), None)
        meant = f" (did you mean {hint[1]!r}?)" if hint else ""
        return f"the config has no key {last}{meant}; a run's config.json shows all keys"
    if "parsing config file" in first:
        # Its first line says no more than the flag, the rest is a traceback.
        return f"{first.split(': ')[0]}: {last}"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    return f"{first}; --help lists the flags"


@contextmanager
def _as_sys_argv(argv: Sequence[str]) -> Iterator[None]:
    """ml_collections looks for the overrides of a config in `sys.argv`."""
    before, sys.argv = sys.argv, ["jaxdet", *argv]
    try:
        yield
    finally:
        sys.argv = before


def command(
    define: Callable[[Flags], None],
    run: Callable[[Flags], None],
    usage: str | None,
    several_processes: bool = False,
    saves_when_told: bool = False,
):
    """Make `main(argv=None) -> exit status` of a command from its flags and its body.

    A command of `several_processes` joins the others of its job (see `jaxdet.distributed`) before its body runs. One that
    `saves_when_told` answers SIGTERM itself; others end at once.
    """

    def main(argv: Sequence[str] | None = None) -> int:
        flags = Flags()
        define(flags)
        _log_plainly()
        if not absl_flags.FLAGS.is_parsed():
            absl_flags.FLAGS(["jaxdet"])  # Grain's worker processes insist on it
        _keep_compiled()
        try:
            flags.parse(sys.argv[1:] if argv is None else argv, usage or "")
            if several_processes:
                distributed.start(saves_when_told)
                _log_plainly(distributed.is_main())
            run(flags)
            distributed.finish()
        except (InputError, OSError) as error:
            if "--debug" in (argv or sys.argv) or os.environ.get("JAXDET_DEBUG"):
                traceback.print_exc()
            distributed.abandon(error, _one_line(error))
            print(f"error: {_one_line(error)}", file=sys.stderr)
            return 1
        except KeyboardInterrupt as error:
            distributed.abandon(error, "interrupted")
            print("interrupted", file=sys.stderr)
            return 130
        except Exception as error:
            if distributed.count() > 1:
                traceback.print_exc()
            distributed.abandon(error, f"{type(error).__name__}: {_one_line(error)}")
            raise
        return 0

    return main


def _keep_compiled() -> None:
    """Compiled programs are kept between runs, in the place that JAX_COMPILATION_CACHE_DIR names or a default."""
    jax = sys.modules.get("jax")
    if jax is None:
        return
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # The many small programs that make fresh weights take a third of the start of a large model.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):  # jax has read the variable itself
        return
    jax.config.update("jax_compilation_cache_dir", str(cache_folder()))


def _log_plainly(is_main: bool = True) -> None:
    logging.basicConfig()
    root = logging.getLogger()
    root.setLevel(logging.INFO if is_main else logging.WARNING)
    for handler in root.handlers:
        if type(handler) is logging.StreamHandler:  # importing Orbax may have made it, in another format
            handler.setFormatter(logging.Formatter("%(message)s"))
    for chatty in ("absl", "jax"):  # Orbax would report its every file
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
