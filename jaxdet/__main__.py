"""`jaxdet COMMAND`, the same as `python -m jaxdet.COMMAND`."""

import ast
import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jaxdet

if TYPE_CHECKING:
    from jaxdet.cli import Flags  # imports more than listing the commands needs

COMMANDS = (
    "train",
    "evaluate",
    "predict",
    "prepare",
    "info",
    "view",
    "doctor",
    "convert",
    "export",
    "soup",
    "seqnms",
    "submit",
    "reproduce",
    "benchmark",
    "completion",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; without one, list them. Returns the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ["--version"]:
        print(f"jaxdet {jaxdet.__version__}")
        return 0
    if not argv or argv[0] in ("--help", "-h", "help"):
        cli = importlib.import_module("jaxdet.cli")  # takes longer to import than all the rest
        cli.say(_overview())
        return 0
    if argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        print(f"error: no command {argv[0]!r}{meant}; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 1
    return importlib.import_module(f"jaxdet.{argv[0]}").main(argv[1:])


def flags_of_all() -> "dict[str, Flags]":
    """The flags of each command by its words, such as "prepare gen1"; imports them all, which takes
    seconds."""
    found = {}
    for name in COMMANDS:
        module = importlib.import_module(f"jaxdet.{name}")
        for word, command in getattr(module, "COMMANDS", {"": module.main}).items():
            found[f"{name} {word}".strip()] = command.flags()
    return found


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary(name)}" for name in COMMANDS]
    return "\n".join(
        [f"jaxdet {jaxdet.__version__}: {jaxdet.__doc__}", "", *lines, "", "jaxdet COMMAND --help"]
    )


def summary(name: str) -> str:
    """First line of a command's docstring, read without importing it: most commands take seconds to
    import."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
