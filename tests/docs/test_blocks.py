"""Every code block of every page is executed, or its commands are parsed, or it is listed with a reason."""

import ast
import importlib
import itertools
import re
import shlex
import tomllib

import command_pages
import doc_pages
import pytest
from doc_pages import PAGES, ROOT, Block

from jaxdet import __main__ as commands
from jaxdet import config_files
from jaxdet.cli import Command
from jaxdet.data.datasets import event_sets
from jaxdet.errors import InputError

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LAUNCHERS = {"launch/local.py": 0, "launch/openmpi.sh": 1, "launch/slurm.sbatch": 0}  # words before the flags
OF_LOCAL = ("--processes", "--gpus", "--restarts", "--grace_s", "--command")
BLOCKS = [block for path in PAGES for block in doc_pages.blocks(path)]
DESCRIPTION = {
    "classes": ["car", "person"], "width": 640, "height": 480, "label_interval_us": 50_000, "most_boxes": 8,
    "most_labelled_times_in_200_ms": 4, "load": {"5": [100, 200, 300], "400": [1000, 2000, 3000]},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _prepared(monkeypatch):
    """Any folder counts as a prepared set, of which a config of events reads the description."""
    monkeypatch.setattr(event_sets, "read_description", lambda root: DESCRIPTION)


def _parse(words: list[str]) -> None:
    """Parse the words after `jaxdet` as the command does; InputError for what it does not know."""
    name, rest = words[0], words[1:]
    if words == ["--version"]:
        return
    if name not in commands.COMMANDS:
        raise InputError(f"no command {name}")
    module = importlib.import_module(f"jaxdet.{name}")
    command: Command = module.COMMANDS[rest.pop(0)] if hasattr(module, "COMMANDS") else module.main
    if command.first and rest and not rest[0].startswith("-"):
        rest[0] = f"--{command.first}={rest[0]}"
    flags = command.flags()
    flags.parse(rest)
    if name == "reproduce":
        config_files.load_module(config_files.find(flags.recipe)[0])


def _parse_launcher(words: list[str], at: int) -> None:
    """Parse what a script of launch/ passes on to its command."""
    script = ROOT / words[at]
    assert script.is_file()
    rest = words[at + 1 + LAUNCHERS[words[at]] :]
    own = dict(word.partition("=")[::2] for word in rest if word.partition("=")[0] in OF_LOCAL)
    assert not own or script.name == "local.py", own
    for flag in own:
        assert f'"{flag}"' in script.read_text()
    command = own.get("--command", "jaxdet.train").removeprefix("jaxdet.")
    _parse([command, *(word for word in rest if word.partition("=")[0] not in OF_LOCAL)])


def _check(page: str, words: list[str]) -> None:
    """Check one command line of a page; AssertionError or InputError if it cannot work."""
    launcher = next((i for i, word in enumerate(words) if word in LAUNCHERS), None)
    match words:
        case ["jaxdet", *rest] if rest:
            _parse(rest)
        case ["python", "-m", module, *rest] if module.split(".")[0] == "jaxdet":
            _parse([*module.split(".")[1:], *rest])
        case _ if launcher is not None:
            _parse_launcher(words, launcher)
        case ["pip", "install", *rest]:
            for extra in re.findall(r"\[([\w,]+)\]", " ".join(rest)):
                assert set(extra.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
        case ["pytest", *rest]:
            known = [line.split(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]]
            assert "-m" not in rest or rest[rest.index("-m") + 1] in known
        case [program, *_] if program.startswith(".ci/"):
            assert (ROOT / program).is_file()
        case [program, *_]:
            assert (page, program) in doc_pages.FOREIGN, f"{program}: neither checked nor listed"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_command_lines_of_blocks_are_parsed_by_the_commands(path):
    for block in doc_pages.blocks(path):
        assert block.language in ("sh", "python", "text"), block
        for words in doc_pages.command_lines(block.text) if block.language == "sh" else ():
            try:
                _check(block.page, words)
            except InputError as error:
                pytest.fail(f"{shlex.join(words)}: {error}")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_in_the_text_are_parsed_by_the_commands(path):
    """But for those with an ellipsis or a placeholder, whose flags `test_reference` looks for."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    for code in re.findall(r"`((?:jaxdet|python -m jaxdet|launch/\w+\.\w+)\s[^`]+)`", text):
        words = next(doc_pages.command_lines(code.replace("\\|", "|").replace("\n", " ")))
        if "..." in code or any(word.rpartition("=")[2].isupper() for word in words):
            continue
        for one in itertools.product(*(word.split("|") for word in words)):
            try:
                _check(path.relative_to(ROOT).as_posix(), list(one))
            except InputError as error:
                if not str(error).startswith("missing "):  # a flag that the sentence is not about
                    pytest.fail(f"{shlex.join(one)}: {error}")


def test_command_lines_of_the_reference_are_parsed():
    text = command_pages.page()
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for words in doc_pages.command_lines(block.replace("[", "").replace("]", "")):
            if "..." not in " ".join(words):
                _check("docs/reference/commands.md", words)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=lambda b: b.first_line)
def test_python_blocks_are_executed_or_listed(block: Block):
    ast.parse(block.text.replace("{..., ", "{**the_rows_before, "))
    test = doc_pages.EXECUTED.get(block.page)
    listed = (block.page, block.first_line) in doc_pages.UNEXECUTED
    assert block.runs or test or listed, "execute it, or list it in tests/doc_pages.py"
    if test and not block.runs:
        page = block.page.rpartition("/")[2]
        assert page in (ROOT / "tests" / test).read_text()


def test_what_is_listed_is_there():
    first_lines = {(block.page, block.first_line) for block in BLOCKS}
    assert doc_pages.UNEXECUTED.keys() <= first_lines
    programs = {
        (block.page, words[0])
        for block in BLOCKS
        if block.language == "sh"
        for words in doc_pages.command_lines(block.text)
    }
    assert doc_pages.FOREIGN.keys() <= programs
    assert all((*doc_pages.UNEXECUTED.values(), *doc_pages.FOREIGN.values()))


@pytest.mark.parametrize(
    "line",
    [
        "jaxdet predict --inputs=a.raw",
        "jaxdet train --config=gen1_hmnet:b7",
        "jaxdet train --config=events:tiny,data/mine --config.optim.rate=1",
        "python -m jaxdet.retrain",
        "launch/local.py --command=jaxdet.evaluate --weight=runs/b3",
        "jaxdet evaluate --protocol=hmnet2",
    ],
)
def test_a_slip_is_found(line):
    with pytest.raises(InputError):
        _check("page.md", next(doc_pages.command_lines(line)))


@pytest.mark.parametrize(
    "line",
    ["pip install 'jaxdet[exports]'", "pytest -m slowly", ".ci/runs", "docker build .", "launch/local"],
)
def test_another_program_that_is_not_known_is_found(line):
    with pytest.raises(AssertionError):
        _check("page.md", next(doc_pages.command_lines(line)))
