"""Pages name flags and keys that exist, and the reference has every flag, key and error."""

import ast
import json
import re

import code_lines
import command_pages
import config_keys
import error_lines
import pytest
from doc_pages import PAGES, ROOT

import jaxdet
from jaxdet import __main__ as commands

LISTED = {words: flags.listed() for words, flags in commands.flags_of_all().items()}
FLAGS = {words: {name for name, *_ in listed} for words, listed in LISTED.items()}
STORED = json.loads((ROOT / "tests" / "configs.json").read_text())
KEYS = set(config_keys.values(STORED))
# Flags of the launchers and of other programs, which the pages name too.
LAUNCHERS = {"processes", "gpus", "restarts", "command", "grace_s"}
OTHERS = {"help", "version"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_flags_of_commands_with_an_ellipsis_exist(page):
    """Those without one are parsed, in `test_blocks`."""
    for code in re.findall(r"(?<!`)`jaxdet ([^`]+)`", page.read_text()):
        words = code.replace("&lt;", "<").split()
        if words[0] not in commands.COMMANDS:
            continue
        known = FLAGS.get(" ".join(words[:2])) or FLAGS.get(words[0], set()) | OTHERS
        for word in words:
            flag = word.removeprefix("--").partition("=")[0]
            if flag.startswith("config."):
                assert flag.removeprefix("config.") in KEYS, word
            elif word.startswith("--") and flag:
                assert flag in known or flag.removeprefix("no") in known, f"{words}: no flag --{flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_flags_in_the_text_exist(page):
    everything = set().union(*FLAGS.values()) | LAUNCHERS | OTHERS
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for flag in re.findall(r"`--([a-z][\w.]*)", text):
        if not flag.islower() or flag == "config":  # stands for any, as --NAME does
            continue
        if flag.startswith("config."):
            assert flag.removeprefix("config.").rstrip(".") in KEYS, flag
        else:
            assert flag in everything or flag.removeprefix("no") in everything, f"{page.name}: --{flag}"


def test_every_flag_is_documented():
    page = command_pages.page()
    for words, listed in LISTED.items():
        for name, _, text in listed:
            assert f"| `--{name}` |" in page
            assert text.strip(), f"{words} --{name} has no help"
    for name in commands.COMMANDS:
        assert f"## {name}\n" in page


def test_every_config_key_has_type_default_unit_and_meaning():
    page = config_keys.page()
    for key in KEYS:
        assert f"| `{key}` |" in page


def test_a_key_without_a_meaning_fails_the_build():
    of_keys = config_keys.values(STORED)
    known = config_keys.meanings()
    config_keys.check(of_keys, known)
    with pytest.raises(config_keys.MissingMeaning, match=r"optim\.lr"):
        config_keys.check(of_keys, {k: v for k, v in known.items() if k != "optim.lr"})
    with pytest.raises(config_keys.MissingMeaning, match="data_of_old"):
        config_keys.check(of_keys, known | {"data_of_old": ("", "nothing")})


def test_errors_are_read_from_the_sources():
    source = 'def f(x):\n    raise InputError(f"{x}: no such file; " f"expected {x}")\n'
    assert error_lines.messages(source) == ["...: no such file; expected ..."]
    page = error_lines.page()
    raised = sum(
        isinstance(node, ast.Raise) and "InputError(" in ast.unparse(node)
        for path in (ROOT / "jaxdet").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    # Some pass on a text that was made elsewhere.
    assert page.count("\n- `") > 0.8 * raised


def test_python_pages_name_public_names():
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    for module, name in jaxdet._PUBLIC.values():
        assert f"::: jaxdet.{module}.{name}\n" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_of_the_package_in_the_text_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for name in re.findall(r"`(jaxdet(?:\.\w+)+)\b[^`\n]*`", text):
        known = name.split(".")[1]
        if known not in jaxdet.__all__ and known != "configs":
            code_lines.place(name)
    for path in re.findall(r"`((?:jaxdet|configs|launch|tests|docs)/[\w/.]+)`", text):
        assert (ROOT / path.rstrip(".")).exists(), path


def test_a_name_has_the_line_of_its_definition():
    path, line = code_lines.place("jaxdet.models.events.EventWrite.query")
    assert path == "jaxdet/models/events.py"
    assert "def query(" in (ROOT / path).read_text().splitlines()[line - 1]
    assert code_lines.place("jaxdet.ops") == ("jaxdet/ops/__init__.py", 1)
    for gone in ("jaxdet.ops.attentions", "jaxdet.models.events.EventWrite.answer"):
        with pytest.raises(code_lines.NoSuchName):
            code_lines.place(gone)
    assert code_lines.numbered("`jaxdet.ops` and `jaxdet`") == "`jaxdet.ops` (ops/__init__.py:1) and `jaxdet`"
