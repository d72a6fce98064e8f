"""The files in launch/: what they start, with which variables, and when they start it again."""

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import cluster_jobs as jobs
import pytest
import yaml
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

from jaxdet.distributed import environment, trust

LAUNCH = jobs.ROOT / "launch"

# In place of a process of jaxdet: notes its variables, and dies once where the test says so.
WORKER = """
import json, os, signal, sys, time
from pathlib import Path
index = os.environ.get("JAXDET_PROCESS_ID") or os.environ.get("SLURM_PROCID")
folder = Path(os.environ["NOTES"])
attempt = len(list(folder.glob(f"{index}.*")))
(folder / f"{index}.{attempt}").write_text(json.dumps({"environ": dict(os.environ), "argv": sys.argv[1:]}))
if os.environ.get("HANG") == index:
    time.sleep(600)
if os.environ.get("DIES") == index and attempt < int(os.environ["TIMES"]):
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(os.environ.get("STATUS", 0)))
"""


@pytest.fixture
def worker(tmp_path):
    """A module `worker` and its notes: (variables to start it with, function process -> notes of its
    attempts)."""
    (tmp_path / "worker.py").write_text(WORKER)
    notes = tmp_path / "notes"
    notes.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI", "JAXDET"))}
    read = lambda index: [json.loads(p.read_text()) for p in sorted(notes.glob(f"{index}.*"))]  # noqa: E731
    return {**kept, "PYTHONPATH": str(tmp_path), "NOTES": str(notes)}, read


def _local(environ, *flags):
    command = [sys.executable, str(LAUNCH / "local.py"), "--command=worker", "--grace_s=1", *flags]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)


def test_local_gives_every_process_its_place_and_the_commands_own_flags(worker):
    environ, notes = worker
    done = _local(environ, "--processes=3", "--gpus=6", "--config=x.py:a,b", "--config.optim.lr=1")
    assert done.returncode == 0, done.stdout
    places = [environment.find(notes(i)[0]["environ"]) for i in range(3)]
    assert [(p.process, p.count) for p in places if p] == [(0, 3), (1, 3), (2, 3)]
    assert len({p.coordinator for p in places if p}) == 1
    assert [notes(i)[0]["environ"]["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["0,1", "2,3", "4,5"]
    assert notes(2)[0]["argv"] == ["--config=x.py:a,b", "--config.optim.lr=1"]


def _secrets(notes, processes):
    """Secrets of the attempts; within each all processes must have one."""
    attempts = [{note["environ"]["JAXDET_JOB_SECRET"] for note in of} for of in zip(*map(notes, processes))]
    assert all(len(found) == 1 for found in attempts)
    return [found.pop() for found in attempts]


def test_local_makes_a_secret_for_every_attempt_unless_one_is_set(worker):
    environ, notes = worker
    assert _local({**environ, "DIES": "1", "TIMES": "1"}).returncode == 0
    assert _local({**environ, "JAXDET_JOB_SECRET": "chosen"}).returncode == 0
    one, two, chosen = _secrets(notes, (0, 1))
    assert one != two
    assert min(len(one), len(two)) >= trust.SHORTEST
    assert chosen == "chosen"


def test_local_names_who_died_and_starts_again_up_to_the_limit(worker):
    environ, notes = worker
    done = _local({**environ, "DIES": "1", "TIMES": "2"}, "--processes=2", "--restarts=2")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("process 1 died of SIGKILL") == 2
    assert "restart 2 of 2" in done.stdout
    assert len(notes(0)) == len(notes(1)) == 3
    assert _local({**environ, "DIES": "1", "TIMES": "99"}, "--restarts=1").returncode == 1


def test_local_kills_and_names_who_does_not_end(worker):
    environ, _ = worker
    done = _local({**environ, "DIES": "1", "TIMES": "1", "HANG": "0"}, "--restarts=0")
    assert done.returncode == 1
    assert "process 0 still runs after 1 s: killed" in done.stdout


def test_local_does_not_repeat_what_bad_input_ended(worker):
    environ, notes = worker
    assert _local({**environ, "STATUS": "1"}).returncode == 1
    assert len(notes(0)) == 1


def _fake(folder: Path, name: str, text: str) -> str:
    """PATH on which the command `name` is this script."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/usr/bin/env bash\n" + textwrap.dedent(text))
    (folder / name).chmod(0o755)
    (folder / "python").unlink(missing_ok=True)
    (folder / "python").symlink_to(sys.executable)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_slurm_script_starts_train_in_steps_that_find_each_other_and_again_when_one_dies(worker, tmp_path):
    environ, notes = worker
    # As srun: the variables of a step for each task, `python -u -m jaxdet.train` taken by the worker.
    path = _fake(
        tmp_path / "bin",
        "srun",
        """
        while [ "${1#--}" != "$1" ]; do shift; done
        [ "$1 $2 $3 $4" = "python -u -m jaxdet.train" ] || exit 64
        shift 4
        export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST='n[07-08]' SLURM_JOB_ID=42
        status=0
        for i in 0 1; do SLURM_PROCID=$i python -m worker "$@" || status=$?; done
        exit $status
        """,
    )
    command = ["bash", str(LAUNCH / "slurm.sbatch"), "--workdir=/shared/run", "--config=a b"]
    done = subprocess.run(
        command, env={**environ, "PATH": path, "DIES": "1", "TIMES": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    places = [environment.find(notes(i)[0]["environ"]) for i in range(2)]
    assert [(p.process, p.count) for p in places if p] == [(0, 2), (1, 2)]
    assert all(p and p.coordinator.startswith("n07:") for p in places)
    assert notes(1)[0]["argv"] == ["--workdir=/shared/run", "--config=a b"]
    assert len(notes(1)) == 2
    assert all(len(secret) >= trust.SHORTEST for secret in _secrets(notes, (0, 1)))
    assert "restart 1 of 3" in done.stdout


def test_open_mpi_script_names_the_first_host_and_passes_everything_on(tmp_path):
    path = _fake(
        tmp_path / "bin",
        "mpirun",
        'echo "$JAXDET_COORDINATOR"; echo "#$JAXDET_JOB_SECRET"; printf "<%s>" "$@"; exit $MPI_STATUS',
    )
    hosts = tmp_path / "hosts"
    hosts.write_text("# machines\nnode4 slots=1\nnode5 slots=1\n")
    command = ["bash", str(LAUNCH / "openmpi.sh"), str(hosts), "--workdir=w", "--config=a b"]
    environ = {k: v for k, v in os.environ.items() if k != "JAXDET_JOB_SECRET"}
    environ |= {"PATH": path, "MPI_STATUS": "0"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("node4:")
    assert re.search(r"^#[0-9a-f]{64}$", done.stdout, re.MULTILINE)
    assert (
        "<-x><JAXDET_JOB_SECRET>" in done.stdout
    )  # by name: the value would be seen in the list of processes
    assert done.stdout.endswith("<python><-u><-m><jaxdet.train><--workdir=w><--config=a b>")
    environ |= {"MPI_STATUS": "75", "JAXDET_RESTARTS": "2"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 75
    ports = [line for line in done.stdout.replace(">", ">\n").splitlines() if line.startswith("node4:")]
    assert len(set(ports)) == 3


@pytest.fixture(scope="module")
def manifest():
    return yaml.safe_load((LAUNCH / "jobset.yaml").read_text())


def _left_out(given, taken, path=""):
    """Paths of what a reader who knows the schema did not take over from `given`; defaults may have come in
    addition."""
    if isinstance(given, dict) and isinstance(taken, dict):
        return [line for key in given for line in _left_out(given[key], taken.get(key), f"{path}.{key}")]
    if isinstance(given, list) and isinstance(taken, list) and len(given) == len(taken):
        return [line for i, pair in enumerate(zip(given, taken)) for line in _left_out(*pair, f"{path}.{i}")]
    return [] if given == taken else [path]


def test_jobset_manifest_follows_the_published_schema(manifest):
    """Kubeflow's types are generated from the schemas of JobSet and Kubernetes; wrong types and missing
    fields raise."""
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert _left_out(manifest, JobsetV1alpha2JobSet.from_dict(manifest).to_dict()) == []


def test_a_field_that_the_schema_does_not_know_is_found(manifest):
    mistaken = copy.deepcopy(manifest)
    mistaken["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["restart"] = "Never"
    left_out = _left_out(mistaken, JobsetV1alpha2JobSet.from_dict(mistaken).to_dict())
    assert left_out == [".spec.replicatedJobs.0.template.spec.template.spec.restart"]


def test_jobset_pods_find_each_other(manifest):
    """The controller annotates pods; the manifest must hand on what `environment.find` reads."""
    spec = manifest["spec"]
    job, at = spec["replicatedJobs"][0], spec["coordinator"]
    pod = job["template"]["spec"]["template"]["spec"]
    name = manifest["metadata"]["name"]
    prefix = "jobset.sigs.k8s.io/"
    endpoint = f"{name}-{at['replicatedJob']}-{at['jobIndex']}-{at['podIndex']}.{name}"
    annotations = {
        f"{prefix}coordinator": endpoint,
        f"{prefix}replicatedjob-replicas": str(job["replicas"]),
        f"{prefix}job-index": "2",
    }
    container = pod["containers"][0]
    references = {
        e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"] if "valueFrom" in e
    }
    values = {
        k: annotations[v.removeprefix("metadata.annotations['").removesuffix("']")]
        for k, v in references.items()
    }
    place = environment.find(values)
    assert place is not None
    assert place.coordinator == f"{endpoint}:{container['ports'][0]['containerPort']}"
    assert (place.process, place.count) == (2, job["replicas"])
    assert at["replicatedJob"] == job["name"]
    assert pod["restartPolicy"] == "Never"  # a Job knows OnFailure as well; the set is restarted as a whole
    assert container["command"] == ["python", "-u", "-m", "jaxdet.train"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


@pytest.mark.slow
def test_open_mpi_starts_two_processes_that_train_together(tmp_path):
    if not shutil.which("mpirun"):
        pytest.skip("Open MPI is not installed")
    hosts, root = tmp_path / "hosts", jobs.make_recordings(tmp_path / "data")
    hosts.write_text("localhost slots=2\n")
    flags = jobs.train_flags(root, tmp_path / "run", "--config.train.num_iterations=2")
    environ = jobs.environment(1, JAXDET_MPI="--allow-run-as-root -x JAX_PLATFORMS -x JAX_ENABLE_X64")
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    output = jobs.run(["bash", str(LAUNCH / "openmpi.sh"), str(hosts), *flags], environ)
    assert "2 processes (Open MPI)" in output
    assert jobs.checkpoints(tmp_path / "run")[-1] == 4


def test_the_local_launcher_hands_sigterm_on(worker):
    environ, notes = worker
    command = [sys.executable, str(LAUNCH / "local.py"), "--command=worker", "--processes=1", "--grace_s=1"]
    job = jobs.Job(command, {**environ, "HANG": "0"})
    job.wait_for(lambda: notes(0), "start of the worker")
    job.process.send_signal(signal.SIGTERM)
    assert job.wait() == 1
    assert "process 0 died of SIGTERM" in job.output
    assert len(notes(0)) == 1  # told to stop: no restart
