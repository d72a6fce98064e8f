"""Print the script that completes commands and flags in a shell.

    jaxdet completion bash > ~/.local/share/bash-completion/completions/jaxdet
    jaxdet completion zsh > ~/.zfunc/_jaxdet         # with fpath+=~/.zfunc before compinit in ~/.zshrc
    jaxdet completion fish > ~/.config/fish/completions/jaxdet.fish

The script is of this version: print it again after an update.
"""

import argparse
import importlib
import sys
from typing import Any

from jaxdet import __main__ as commands
from jaxdet import cli
from jaxdet.errors import InputError

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")


def _flags(flags: cli.Flags) -> None:
    flags.choice("shell", "bash", SHELLS, "shell that runs the script")


def _run(flags: cli.Flags) -> None:
    print(script(flags.shell))


def script(shell: str) -> str:
    """The script, made by shtab from the flags of all commands."""
    try:
        shtab: Any = importlib.import_module("shtab")
    except ImportError as error:
        raise InputError("completion needs shtab; pip install shtab") from error
    return shtab.complete(_parser(), shell)


def _parser() -> argparse.ArgumentParser:
    """All commands as the parser of one program, as far as completion needs it."""
    root = argparse.ArgumentParser("jaxdet")
    groups = {"": root.add_subparsers()}
    for words, flags in commands.flags_of_all().items():
        first, _, second = words.partition(" ")
        if second and first not in groups:
            groups[first] = groups[""].add_parser(first, help=commands.summary(first)).add_subparsers()
        parser = groups[first if second else ""].add_parser(second or first, help=commands.summary(first))
        for name, kind, text in flags.listed():
            options: dict[str, Any] = {"action": "store_true"} if kind == "BOOLEAN" else {"metavar": kind}
            choices = flags.choices(name)
            if choices:
                options = {"choices": choices}
            parser.add_argument(f"--{name}", help=text.replace("%", "%%"), **options)
    return root


main = cli.Command(_flags, _run, __doc__, first="shell")

if __name__ == "__main__":
    sys.exit(main())
