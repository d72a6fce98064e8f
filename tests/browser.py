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
  const place = document.createElement("pre");
  place.id = "seen";
  place.textContent = JSON.stringify(said);
  document.body.append(place);
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
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium")
    copy = page.with_name(f"looked_at_{page.name}")
    copy.write_text(
        page.read_text(encoding="utf-8").replace("</body>", _LOOK % look + "</body>"), encoding="utf-8"
    )
    shot = folder / "shot.png"
    runs = [
        subprocess.run(
            [browser, *_FLAGS, f"--user-data-dir={folder / 'profile'}", *more, file.as_uri()],
            capture_output=True, text=True, timeout=240,
        )
        for file, more in (
            (copy, ["--dump-dom"]), (page, ["--window-size=1200,7000", f"--screenshot={shot}"])
        )
    ]  # fmt: skip
    copy.unlink()
    found = re.search(r'<pre id="seen">(.*?)</pre>', runs[0].stdout, re.DOTALL)
    assert found is not None, runs[0].stderr[-2000:]
    console = [line for run in runs for line in run.stderr.splitlines() if ":CONSOLE" in line]
    return Opened(json.loads(found[1]), console, shot)
