"""Pages opened in headless Chromium, for tests of the marker `browser`."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--virtual-time-budget=20000", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
# Looks at the page when all of it is loaded, and leaves what it saw in the document.
_LOOK = """<script>
addEventListener("load", async () => {
  const said = await (%s)();
  const holder = document.createElement("pre");
  holder.id = "seen";
  holder.textContent = JSON.stringify(said);
  document.body.append(holder);
});
</script>"""
_PICTURES = """async () =>
  [...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight, i.offsetWidth])"""


class Opened(NamedTuple):
    """What Chromium made of a page."""

    seen: Any  # result of the function that looked at it
    console: list[str]  # lines of the console
    shot: Path


def opened(page: Path, folder: Path, look: str = _PICTURES) -> Opened:
    """Open a copy of `page` that calls the JavaScript function `look` when it is loaded.

    Skips the test where there is no Chromium. By default `look` gives [complete, width, height, shown width]
    of every picture.
    """
    copy = page.with_name(f"looked_at_{page.name}")
    copy.write_text(looking(page.read_text(encoding="utf-8"), look), encoding="utf-8")
    shot = folder / "shot.png"
    runs = [
        run(file.as_uri(), folder, *more)
        for file, more in (
            (copy, ["--dump-dom"]), (page, ["--window-size=1200,7000", f"--screenshot={shot}"])
        )
    ]  # fmt: skip
    copy.unlink()
    console = [line for one in runs for line in one.stderr.splitlines() if ":CONSOLE" in line]
    return Opened(seen(runs[0]), console, shot)


def looking(text: str, look: str) -> str:
    """A page that calls the function `look` when it is loaded, for `seen`."""
    return text.replace("</body>", _LOOK % look + "</body>")


def run(address: str, folder: Path, *flags: str) -> subprocess.CompletedProcess:
    """Open an address; skips the test where there is no Chromium."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium")
    command = [browser, *_FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def seen(opened: subprocess.CompletedProcess) -> Any:
    """Result of the function that looked at the page, of a run with --dump-dom."""
    found = re.search(r'<pre id="seen">(.*?)</pre>', opened.stdout, re.DOTALL)
    assert found is not None, opened.stderr[-2000:]
    return json.loads(found[1])
