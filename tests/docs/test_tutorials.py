"""Commands of pages that need no data, from a wheel, each page in an empty folder, at small size."""

import os
import shlex
import shutil
import subprocess
import sys

import doc_pages
import pytest
from doc_pages import ROOT
from xla_flags import FAST_COMPILES

PAGES = {
    path.stem: [block for block in doc_pages.blocks(path) if block.runs]
    for path in (ROOT / "docs").glob("*.md")
}
PAGES = {name: blocks for name, blocks in PAGES.items() if blocks}
FEW_UPDATES = [
    *("--config.train.num_iterations=2", "--config.train.iterations_per_epoch=2"),
    *("--config.model.widths=(16,)", "--config.data.batch_size=2"),
]
# Flags that make a command of a page small: the last of equal flags counts.
SMALL = {
    "prepare synthetic --layout=events": ["--train=2", "--val=1", "--test=1", "--duration_s=1"],
    "train --config=events:tiny,data/street": FEW_UPDATES,
    "--processes=2 --config=events:tiny,data/street": FEW_UPDATES,
    "prepare synthetic-ltd": ["--test=25", "--frames=2"],
    "prepare synthetic": ["--train=16", "--val=16", "--test=8"],
    "train": ["--config.data.size=64", "--config.train.epochs=1", "--config.data.plain_epochs=0"],
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with the package as the wheel installs it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("jaxdet-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


def _programs(blocks):
    """Words of the commands of a page, and its Python blocks as commands of their own, in order."""
    for block in blocks:
        if block.language == "python":
            yield [sys.executable, "-c", block.text]
        for words in doc_pages.command_lines(block.text) if block.language == "sh" else ():
            assert words[0] in ("jaxdet", "launch/local.py"), words
            program = ["-m", "jaxdet"] if words[0] == "jaxdet" else [words[0]]
            yield [sys.executable, *program, *_small(words[1:])]


def _small(words):
    known = next((key for key in SMALL if words[: len(key.split())] == key.split()), None)
    extra = SMALL.get(known, [])
    given = {word.partition("=")[0] for word in extra}
    return [word for word in words if word.partition("=")[0] not in given] + extra


def test_pages_with_commands_to_run_are_there():
    tutorials = {
        "tutorial_events",
        "tutorial_seasons",
        "tutorial_ltdv2",
        "tutorial_cluster",
        "tutorial_export",
    }
    assert tutorials <= set(PAGES)


@pytest.mark.docs
@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_commands_of_a_page_lead_from_nothing_to_its_end(installed, tmp_path, name):
    # One device a process, as on a machine of a reader, where conftest makes four.
    environment = {**os.environ, "PYTHONPATH": str(installed), "XLA_FLAGS": FAST_COMPILES}
    if any("launch/" in block.text for block in PAGES[name]):
        shutil.copytree(ROOT / "launch", tmp_path / "launch")
    for words in _programs(PAGES[name]):
        run = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800
        )  # fmt: skip
        print(shlex.join(words), run.stdout[-500:], run.stderr[-500:], sep="\n")
        assert run.returncode == 0, (words, run.stdout[-2000:], run.stderr[-2000:])
