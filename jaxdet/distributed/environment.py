"""A process's place among the processes of a job, from the variables its launcher or scheduler sets."""

import re
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from jaxdet.errors import InputError

JOBSET_PORT = 8476


class Place(NamedTuple):
    """One process of several."""

    coordinator: str  # host:port on which process 0 listens
    process: int
    count: int
    told_by: str


def find(environ: Mapping[str, str]) -> Place | None:
    """The place that `environ` tells, None for a process on its own.

    jaxdet's own variables come first: JAXDET_COORDINATOR (host:port), JAXDET_PROCESS_ID,
    JAXDET_NUM_PROCESSES; then those of a SLURM step, of Open MPI, and of a Kubernetes JobSet
    (launch/jobset.yaml). JAXDET_COORDINATOR alone replaces the coordinator that a scheduler names. Raises
    InputError where the variables contradict each other.
    """
    for source in _SOURCES:
        if not environ.get(source.count):
            continue
        process, count = _number(environ, source.process), _number(environ, source.count)
        if process >= count:
            raise InputError(
                f"{source.process}={process} and {source.count}={count}: processes are numbered from 0; "
                "set them alike on all processes"
            )
        if count == 1:
            return None
        coordinator = environ.get("JAXDET_COORDINATOR") or source.coordinator(environ)
        if not re.fullmatch(r".+:\d+", coordinator):
            raise InputError(
                f"the coordinator is {coordinator!r}, expected host:port; set JAXDET_COORDINATOR"
            )
        return Place(coordinator, process, count, source.name)
    return None


def first_host(nodes: str) -> str:
    """The first host of a SLURM list: `gpu[003-006,9],login` -> `gpu003`."""
    name = re.match(r"[^,\[]+", nodes)
    inside = re.match(r"[^,\[]*\[([^\]]*)\]([^,\[]*)", nodes)
    if name is None:
        raise InputError(f"SLURM_STEP_NODELIST={nodes!r} names no host; set JAXDET_COORDINATOR")
    if inside is None:
        return name.group()
    return name.group() + re.split(r"[-,]", inside.group(1))[0] + inside.group(2)


class _Source(NamedTuple):
    name: str
    process: str  # variable with the number of the process
    count: str  # variable with the number of processes
    coordinator: Callable[[Mapping[str, str]], str]


def _own(environ: Mapping[str, str]) -> str:
    raise InputError("JAXDET_NUM_PROCESSES without JAXDET_COORDINATOR; set it to host:port of process 0")


def _slurm(environ: Mapping[str, str]) -> str:
    return f"{first_host(environ.get('SLURM_STEP_NODELIST', ''))}:{_port(environ.get('SLURM_JOB_ID', ''))}"


def _open_mpi(environ: Mapping[str, str]) -> str:
    """On one machine, itself; on several, the one where mpirun runs (Open MPI 4 tells it to all)."""
    port = _port(environ.get("PMIX_NAMESPACE", ""))
    if environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == environ["OMPI_COMM_WORLD_SIZE"]:
        return f"127.0.0.1:{port}"
    launcher = re.search(r"tcp://\[?([^,:;\]]+)", environ.get("OMPI_MCA_orte_hnp_uri", ""))
    if launcher is None:
        raise InputError(
            "Open MPI does not say where process 0 is; give mpirun -x JAXDET_COORDINATOR=<its host>:<port>"
        )
    return f"{launcher.group(1)}:{port}"


def _jobset(environ: Mapping[str, str]) -> str:
    host = environ.get("JOBSET_COORDINATOR")
    if not host:
        raise InputError("JOBSET_REPLICAS without JOBSET_COORDINATOR; see launch/jobset.yaml")
    return f"{host}:{JOBSET_PORT}"


# A SLURM step has STEP variables; a batch script of several tasks that calls Python without srun has not.
_SOURCES = (
    _Source("JAXDET_NUM_PROCESSES", "JAXDET_PROCESS_ID", "JAXDET_NUM_PROCESSES", _own),
    _Source("SLURM", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", _slurm),
    _Source("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", _open_mpi),
    _Source("JobSet", "JOBSET_JOB_INDEX", "JOBSET_REPLICAS", _jobset),
)


def _number(environ: Mapping[str, str], name: str) -> int:
    value = environ.get(name, "")
    if not value.isdigit():
        raise InputError(f"{name}={value!r}, expected a number; set it on every process")
    return int(value)


def _port(job: str) -> int:
    """A port below the ephemeral ones, the same for all processes of a job and unlikely that of another."""
    return 20_000 + zlib.crc32(job.encode()) % 10_000
