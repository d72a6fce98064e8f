"""Commands of pages that need no data, from a wheel, each page in an empty folder, at small size."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path for path in (ROOT / "docs").glob("*.md") if "<!-- runs -->" in path.read_text()}
# Flags that make a command of a page small: the last of equal flags counts.
SMALL = {
    "prepare synthetic --layout=events": ["--train=2", "--val=1", "--test=1", "--duration_s=1"],
    "train --config=events:tiny,data/street": [
        *("--config.train.num_iterations=2", "--config.train.iterations_per_epoch=2"),
        *("--config.model.widths=(16,)", "--config.data.batch_size=2"),
    ],
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


def _commands(page):
    for block in re.findall(r"<!-- runs -->\n```sh\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line)
            assert words[0] == "jaxdet", line
            yield words[1:]


def _small(words):
    known = next((key for key in SMALL if words[: len(key.split())] == key.split()), None)
    extra = SMALL.get(known, [])
    given = {word.partition("=")[0] for word in extra}
    return [word for word in words if word.partition("=")[0] not in given] + extra


def test_pages_with_commands_to_run_are_there():
    assert {"tutorial_events", "tutorial_seasons", "tutorial_ltdv2"} <= set(PAGES)


@pytest.mark.docs
@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_commands_of_a_page_lead_from_nothing_to_its_end(installed, tmp_path, name):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    for words in _commands(PAGES[name]):
        run = subprocess.run(
            [sys.executable, "-m", "jaxdet", *_small(words)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        print(shlex.join(words), run.stdout[-500:], run.stderr[-500:], sep="\n")
        assert run.returncode == 0, (words, run.stderr[-2000:])
