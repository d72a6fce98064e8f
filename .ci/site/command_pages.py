"""The reference page of the commands, made of their parsers."""

import importlib
import re

from jaxdet import __main__ as commands


def page() -> str:
    """Markdown of all commands with all of their flags."""
    lines: list[str] = []
    shown: set[str] = set()
    for words, flags in commands.flags_of_all().items():
        name = words.split()[0]
        if name not in shown:
            shown.add(name)
            lines += [f"## {name}", "", *_usage(name), ""]
        if words != name:
            lines += [f"### {words}", ""]
        lines += ["| flag | value | meaning |", "|---|---|---|"]
        lines += [f"| `--{n}` | {kind.lower()} | {_cell(text)} |" for n, kind, text in flags.listed()]
        lines.append("")
    return "\n".join(lines)


def _usage(name: str) -> list[str]:
    """The docstring of a command; its indented lines are commands to type."""
    text = importlib.import_module(f"jaxdet.{name}").__doc__ or ""
    blocks = [block for block in re.split(r"\n\s*\n", text.strip()) if block]
    lines: list[str] = []
    for block in blocks:
        if block.startswith("    "):
            lines += ["```sh", *(line.removeprefix("    ") for line in block.splitlines()), "```", ""]
        else:
            lines += [_cell(" ".join(block.split())), ""]
    return lines


def _cell(text: str) -> str:
    """Text whose flags and signs are safe in Markdown."""
    text = re.sub(r"(?<![\w`])(--[a-z_]+(?:[.=][\w./:,<>|]*[\w/])?)", r"`\1`", text)
    text = re.sub(r"<(?=[a-z])", "&lt;", re.sub(r"\*", r"\\*", text))
    return text.replace("|", "\\|")
