"""Jobs of several processes for tests: started, watched, interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import recordings_data
from cluster_config import SIZE
from xla_flags import FAST_COMPILES

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "tests" / "cluster_config.py"
LIMIT_S = 1500  # a job on a busy machine; what hangs is ended here


def make_recordings(root: Path) -> Path:
    """Prepared recordings of 0.6 s, more than a batch in `train`, an odd number in `test`."""
    for split, num in (("train", 6), ("val", 3), ("test", 5)):
        for i in range(num):
            rng = np.random.default_rng([i, len(split)])
            times = np.arange(150_000, 600_000, 50_000) + 5000 * i
            events = recordings_data.chunk(rng, 4000, 600, *SIZE)
            recordings_data.write(
                root, split, f"{split}{i}", events, recordings_data.labels(times), 600, size=SIZE
            )
    return root


def environment(devices: int, **more: str) -> dict[str, str]:
    """Variables of a process with `devices` CPU devices; float64 and patient unless told otherwise."""
    own = {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {FAST_COMPILES}",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "PYTHONUNBUFFERED": "1",
        # A machine that does other work as well may give a process no turn for minutes.
        "JAXDET_SILENT_S": "900",
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI", "JAXDET"))}
    return {**kept, **own, **more}


def train_flags(root: Path, workdir: Path, *more: str, config: Path | str = CONFIG) -> list[str]:
    return [f"--config={config}", f"--config.data.root={root}", f"--workdir={workdir}", *more]


def launched(processes: int, *arguments: str, command: str = "jaxdet.train") -> list[str]:
    """The command line of a job; of one process, without a launcher."""
    if processes == 1:
        return [sys.executable, "-m", command, *arguments]
    return [
        sys.executable,
        str(ROOT / "launch" / "local.py"),
        f"--processes={processes}",
        f"--command={command}",
        *arguments,
    ]


def assert_evaluated_alike(folder: Path, *flags: str, atol: float = 0.0) -> None:
    """`evaluate` with `flags` on one process and on two counts the same, and some of everything."""
    reports = []
    for processes in (1, 2):
        out = folder / f"{processes}.json"
        command = launched(processes, *flags, f"--out={out}", command="jaxdet.evaluate")
        run(command, environment(1, JAX_ENABLE_X64="0"))
        reports.append(json.loads(out.read_text()))
    one, two = reports
    for count in ("num_images", "num_truth", "num_detections"):
        assert one[count] == two[count] > 0, count
    assert one["statistics"].keys() == two["statistics"].keys()
    for name, value in one["statistics"].items():
        np.testing.assert_allclose(two["statistics"][name], value, rtol=0, atol=atol, err_msg=name)


class Job:
    """A running job whose output is read as it comes."""

    def __init__(self, command: list[str], environ: dict[str, str]):
        self.process = subprocess.Popen(
            command,
            env=environ,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            self.lines.extend(iter(stream.readline, ""))

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def pid(self, index: int) -> int:
        """Process id of process `index` of the latest attempt."""
        return int(re.findall(rf"process {index} is pid (\d+)", self.output)[-1])

    def wait_for(self, condition, what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert self.process.poll() is None, f"ended before {what}:\n{self.output}"
            assert time.monotonic() < end, f"no {what}:\n{self.output}"
            time.sleep(0.05)

    def wait(self) -> int:
        """Exit status."""
        try:
            status = self.process.wait(LIMIT_S)
        finally:
            self.kill()
        self._reader.join()
        return status

    def kill(self) -> None:
        """End the launcher and all it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def run(command: list[str], environ: dict[str, str]) -> str:
    """Output of a job that must end well."""
    job = Job(command, environ)
    status = job.wait()
    assert status == 0, job.output
    return job.output


def losses(workdir: Path) -> dict[int, float]:
    """Loss by step, as the log has it."""
    lines = (workdir / "train.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def checkpoints(workdir: Path) -> list[int]:
    """Complete checkpoints: those under their final name."""
    return sorted(int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit())
