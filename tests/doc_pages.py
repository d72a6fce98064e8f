"""Code blocks of the documentation's pages, and what becomes of each."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
# The changelog is none of them: what it names may have gone since.
PAGES = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "ARCHITECTURE"))]
PAGES += sorted((ROOT / "docs").rglob("*.md"))

# Pages whose Python blocks a test executes in order, as the text of one program or one by one.
EXECUTED = {
    "README.md": "integration/test_api.py",
    "ARCHITECTURE.md": "test_adding.py",
    "docs/api.md": "integration/test_api.py",
    "docs/export.md": "integration/test_runners.py",
    "docs/index.md": "integration/test_api.py",
    "docs/live.md": "integration/test_api.py",
}
# Python blocks, by page and first line, that nothing executes.
UNEXECUTED = {
    ("ARCHITECTURE.md", "class Detector(nnx.Module):"): "an outline of a class of the package",
    ("ARCHITECTURE.md", "# State is returned, not kept."): "pairs of lines, of which the first is wrong",
    ("docs/live.md", "# Metavision SDK"): "needs a camera and its maker's library",
    ("docs/live.md", "# dv-processing"): "needs a camera and its maker's library",
    ("docs/live.md", "# aestream"): "needs a camera and the library",
}
# Programs of shell blocks, by page, that are neither jaxdet nor checked in another way.
FOREIGN = {
    ("CONTRIBUTING.md", "pre-commit"): "installs a git hook",
    (
        "docs/export.md",
        "g++",
    ): "needs a compiler and a header; see tests/integration/test_runners.py",
    ("docs/export.md", "./recurrent"): "the program that g++ made",
    ("docs/cluster.md", "kubectl"): "needs a cluster",
}


class Block(NamedTuple):
    """A block of code of a page; one that `runs` is executed from a wheel in an empty folder."""

    page: str
    language: str
    text: str
    runs: bool

    @property
    def first_line(self) -> str:
        """The line by which a block is listed."""
        return self.text.split("\n", 1)[0]


def blocks(path: Path) -> list[Block]:
    """Fenced blocks of a page, in order."""
    page = path.relative_to(ROOT).as_posix()
    found = re.findall(r"^(<!-- runs -->\n)?```(\w*)\n(.*?)^```$", path.read_text(), re.M | re.S)
    return [Block(page, language, text, bool(mark)) for mark, language, text in found]


def executed_python(page: str) -> list[str]:
    """Python blocks of a page but those that are listed as not executed."""
    return [
        block.text
        for block in blocks(ROOT / page)
        if block.language == "python" and (page, block.first_line) not in UNEXECUTED
    ]


def command_lines(text: str) -> Iterator[list[str]]:
    """Words of every command of a shell block, without comments, assignments of variables and what follows a
    sign of redirection."""
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word != "&&":
                words.append(word)
                continue
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            if words:
                yield list(itertools.takewhile(lambda word: word != ">", words))
            words = []
