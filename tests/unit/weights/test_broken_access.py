"""A damaged checkpoint or a full disk is one line, also after the process that met it has ended."""

import os
import subprocess
import sys
from textwrap import dedent

PROGRAM = """
    import sys
    from pathlib import Path
    import numpy as np
    from jaxdet.errors import InputError
    from jaxdet.nn.functional import Variables
    from jaxdet.weights import checkpoint

    folder = Path(sys.argv[1]) / "w"
    arrays = {f"layer{i}": np.ones((300, 30), np.float32) for i in range(40)}
    checkpoint.save_weights(folder, Variables(arrays, {}), {})
    for path in (folder / "weights").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    try:
        checkpoint.load_weights(folder)
    except InputError as error:
        print(error)
"""


def test_nothing_is_printed_but_the_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", dedent(PROGRAM), tmp_path], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 1
    assert "damaged weights" in done.stdout
    assert "Traceback" not in done.stderr


_FULL = """
import resource, signal, sys
import numpy as np
from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.weights import checkpoint

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
arrays = {f"a{i}": np.random.default_rng(i).normal(size=40_000) for i in range(20)}
try:
    checkpoint.save_weights(sys.argv[1], Variables(arrays, {}), {})
except InputError as error:
    print(error)
"""


def test_weights_that_do_not_fit_on_the_disk_are_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path / "w")], capture_output=True, text=True, timeout=120
    )
    (line,) = done.stdout.splitlines()
    assert "could not be written" in line
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []
