"""A damaged checkpoint is one line, also after the process that met it has ended."""

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
