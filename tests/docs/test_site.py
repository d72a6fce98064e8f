"""The site builds without a warning, which a broken link or anchor is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import browser
import pytest

ROOT = Path(__file__).parents[2]


def _check_console(page, folder):
    """A page opened from its folder has nothing to complain of; without Chromium nothing is checked."""
    if shutil.which("chromium"):
        opened = browser.run(page.as_uri(), folder, "--dump-dom")
        assert ":CONSOLE" not in opened.stderr


@pytest.mark.docs
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    _check_console(tmp_path / "site" / "index.html", tmp_path)
    for page in ("index", "reference/commands", "reference/config", "reference/errors", "architecture"):
        assert (tmp_path / "site" / f"{page}.html").stat().st_size > 10_000
