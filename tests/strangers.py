"""A job that exchanges values, and a program that is not of it: JAX's own client, which leaves live
pickles."""

import os
import sys
from pathlib import Path

import cluster_jobs as jobs

SECRET = "0123456789abcdef" * 2

# Gathers, waits for the file argv[1] and gathers again.
JOB = """
import sys, time
from pathlib import Path
import numpy as np
from jaxdet import cli, distributed
from jaxdet.evaluation.protocols import Rows
def run(flags):
    own = distributed.index()
    rows = Rows(np.arange(own), np.zeros((own, 4), np.float32), None, None)
    first = distributed.gather(rows, Rows)
    print("first", [len(other.t_us) for other in first], flush=True)
    with distributed.activity("waiting for the test"):
        while not Path(sys.argv[1]).exists():
            time.sleep(0.1)
    print("second", distributed.gather(own * 10), flush=True)
sys.exit(cli.Command(lambda flags: None, run, "", several_processes=True)([]))
"""

# Takes the seat of process 1 of the job at argv[1]; whoever unpickles what it leaves makes the file argv[2].
STRANGER = """
import os, pickle, sys
from jax._src.lib import _jax
class Live:
    def __reduce__(self):
        return os.system, (f"touch {sys.argv[2]}",)
pickle.loads(pickle.dumps(Live()))
assert os.path.exists(sys.argv[2])
os.remove(sys.argv[2])
print("live", flush=True)
client = _jax.get_distributed_runtime_client(sys.argv[1], 1, init_timeout=5)
client.connect()
print("joined", flush=True)
for i in range(20):
    client.key_value_set_bytes(f"jaxdet/gather/{i}/1/0", pickle.dumps(Live()))
    client.key_value_set_bytes(f"jaxdet/gather/{i}/1/parts", b"1")
print("left", flush=True)
import time
time.sleep(60)
"""


def process(folder: Path, coordinator: str, index: int, prefix=(), **more: str) -> jobs.Job:
    """Process `index` of two, started by `prefix`; it goes on to its second exchange when `folder/go` is
    there."""
    place = {
        "JAXDET_COORDINATOR": coordinator,
        "JAXDET_PROCESS_ID": str(index),
        "JAXDET_NUM_PROCESSES": "2",
        "JAXDET_JOB_SECRET": SECRET,
    }
    environ = jobs.environment(1, **{**place, **more})
    return jobs.Job([*prefix, sys.executable, "-c", JOB, str(folder / "go")], environ)


def stranger(folder: Path, coordinator: str, prefix=()) -> jobs.Job:
    """The program that is not of the job."""
    command = [*prefix, sys.executable, "-c", STRANGER, coordinator, str(folder / "ran")]
    return jobs.Job(command, {**os.environ, "JAX_PLATFORMS": "cpu"})


def assert_undisturbed(folder: Path, processes: list[jobs.Job], other: jobs.Job) -> None:
    """The job exchanged what it always does, and nothing that the stranger left was run."""
    assert "live" in other.output
    assert "joined" not in other.output
    assert not (folder / "ran").exists()
    for job in processes:
        assert "first [0, 1]" in job.output
        assert "second [0, 10]" in job.output


def tell(folder: Path) -> None:
    """Let the processes go on."""
    (folder / "go").touch()
