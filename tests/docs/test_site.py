"""The site builds without a warning, which a broken link or anchor is."""

import base64
import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import browser
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))


def _check_console(page, folder):
    """A page opened from its folder has nothing to complain of; without Chromium nothing is checked."""
    if shutil.which("chromium"):
        opened = browser.run(page.as_uri(), folder, "--dump-dom")
        assert ":CONSOLE" not in opened.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the site, built with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.docs
def test_the_site_builds_without_a_warning(site, tmp_path):
    _check_console(site / "index.html", tmp_path)
    for page in ("index", "reference/commands", "reference/config", "reference/errors", "architecture"):
        assert (site / f"{page}.html").stat().st_size > 10_000


@pytest.mark.docs
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_show_text_and_pictures_that_they_made(site, tmp_path, notebook):
    page = site / "notebooks" / f"{notebook.stem}.html"
    _check_console(page, tmp_path)
    text = page.read_text()
    assert "Traceback" not in text
    assert re.search(r'class="jp-RenderedText[^>]*>\s*<pre>\S', text)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert pictures
    for picture in pictures:
        assert len(base64.b64decode(picture)) > 3000


@pytest.mark.docs
def test_the_evaluation_finds_the_faults_that_the_notebook_makes(site):
    """A fault of class, place or number is found as such; missed ones may be hidden by a neighbour's box."""
    text = html.unescape((site / "notebooks" / "evaluate_boxes.html").read_text())
    counts = re.findall(r"(class|place|duplicate): +(\d+) found, +(\d+) made", text)
    assert len(counts) == 3
    for _, found, made in counts:
        assert found == made != "0"
