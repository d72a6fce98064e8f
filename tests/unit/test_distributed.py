"""Who a process is by its environment, who is named when a job stands still, and which flags XLA is given."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxdet import distributed
from jaxdet.distributed import environment, flags
from jaxdet.distributed.watch import COMPUTING, LOST, Board
from jaxdet.errors import InputError

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[003-006]",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "OMPI_MCA_orte_hnp_uri": "1865809920.0;tcp://10.0.0.7,172.17.0.1:44567",
    "PMIX_NAMESPACE": "1865809921",
}
JOBSET = {"JOBSET_JOB_INDEX": "2", "JOBSET_REPLICAS": "4", "JOBSET_COORDINATOR": "jaxdet-worker-0-0.jaxdet"}
OWN = {"JAXDET_COORDINATOR": "node1:1234", "JAXDET_PROCESS_ID": "0", "JAXDET_NUM_PROCESSES": "2"}


@pytest.mark.parametrize(
    ("variables", "host", "process", "count"),
    [
        (SLURM, "gpu003", 3, 4),
        (OPEN_MPI, "10.0.0.7", 1, 2),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, "127.0.0.1", 1, 2),
        (JOBSET, "jaxdet-worker-0-0.jaxdet", 2, 4),
        ({**SLURM, **OWN}, "node1", 0, 2),
        ({**SLURM, "JAXDET_COORDINATOR": "ib0-node:99"}, "ib0-node", 3, 4),
    ],
)
def test_the_place_is_found_in_the_schedulers_own_variables(variables, host, process, count):
    place = environment.find(variables)
    assert place is not None
    assert place.coordinator.rsplit(":", 1)[0] == host
    assert 0 < int(place.coordinator.rsplit(":", 1)[1]) < 32768  # below Linux's ephemeral ports
    assert (place.process, place.count) == (process, count)


def test_all_processes_of_a_job_find_one_coordinator_and_two_jobs_two():
    places = [environment.find({**SLURM, "SLURM_PROCID": str(i)}) for i in range(4)]
    assert len({p.coordinator for p in places if p}) == 1
    other = environment.find({**SLURM, "SLURM_JOB_ID": "4712"})
    assert other is not None
    assert other.coordinator != places[0].coordinator


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # a batch script without srun
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
    ],
)
def test_a_process_on_its_own_stays_so(variables):
    assert environment.find(variables) is None


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"JAXDET_NUM_PROCESSES": "2", "JAXDET_PROCESS_ID": "0"}, "JAXDET_COORDINATOR"),
        ({**OWN, "JAXDET_PROCESS_ID": "2"}, "JAXDET_PROCESS_ID=2"),
        ({**OWN, "JAXDET_PROCESS_ID": ""}, "JAXDET_PROCESS_ID"),
        ({**OWN, "JAXDET_COORDINATOR": "node1"}, "host:port"),
        ({k: v for k, v in OPEN_MPI.items() if "hnp" not in k}, "JAXDET_COORDINATOR"),
        ({k: v for k, v in JOBSET.items() if "COORD" not in k}, "jobset.yaml"),
    ],
)
def test_variables_that_contradict_each_other_are_an_error_that_names_them(variables, word):
    with pytest.raises(InputError, match=word):
        environment.find(variables)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node7", "node7"), ("a1,a2", "a1"), ("gpu[003-006,9],login", "gpu003"), ("r[2,5]-ib", "r2-ib")],
)
def test_first_host_of_a_slurm_list(nodes, first):
    assert environment.first_host(nodes) == first


def _note(**changes):
    return {
        "host": "h",
        "doing": COMPUTING,
        "done": 1,
        "failed": "",
        "status": 0,
        "left": False,
        "beat": 0,
        **changes,
    }


def _board(own=0, silent=3, still=6):
    board = Board(own, 2, silent, still)
    board.hear({0: _note(), 1: _note()})
    return board


def _verdicts(board, ticks, note_of):
    """First verdict while `note_of(tick)` gives all notes, None for an unanswered tick."""
    for tick in range(1, ticks + 1):
        notes = note_of(tick)
        if notes is not None:
            board.hear(notes)
        if found := board.verdict():
            return found
    return None


def test_nobody_is_accused_while_all_go_on():
    both = lambda t: {0: _note(beat=t, done=t), 1: _note(beat=t, done=t)}  # noqa: E731
    assert _verdicts(_board(), 50, both) is None


def test_a_silent_process_is_named():
    only_0 = lambda t: {0: _note(beat=t, done=t), 1: _note()}  # noqa: E731
    line, status = _verdicts(_board(), 50, only_0)
    assert "process 1 on h is silent" in line
    assert status == LOST


def test_a_coordinator_that_does_not_answer_is_named():
    line, _ = _verdicts(_board(own=1), 50, lambda t: None)
    assert "process 0 on h, the coordinator" in line


def test_of_two_that_live_the_one_that_waits_for_its_disk_is_named():
    reads = lambda t: {0: _note(beat=t), 1: _note(beat=t, doing="reading a batch")}  # noqa: E731
    line, _ = _verdicts(_board(), 50, reads)
    assert line == "no progress: process 1 on h is reading a batch"


def test_an_error_elsewhere_ends_the_job_with_its_status():
    fails = lambda t: {0: _note(beat=t), 1: _note(beat=t, failed="no such file", status=1)}  # noqa: E731
    assert _verdicts(_board(), 50, fails) == ("process 1 on h failed: no such file", 1)


def test_a_process_that_left_in_good_order_may_be_silent():
    left = lambda t: {0: _note(beat=t, done=t), 1: _note(left=True)}  # noqa: E731
    assert _verdicts(_board(), 50, left) is None


def test_alone_there_is_nothing_to_wait_for_or_gather():
    distributed.barrier()
    assert distributed.gather([1]) == [[1]]
    assert distributed.gather_in_order(distributed.share_of("abc")) == ["a", "b", "c"]
    assert list(distributed.report_each(range(3), "counting")) == [0, 1, 2]
    assert distributed.is_main()


def test_unknown_flags_are_left_out_and_what_was_found_is_kept(tmp_path):
    asked = []

    def accepts(tried):
        asked.append(tried)
        return not any("nonsense" in flag for flag in tried)

    wanted = ["--xla_good=1", "--xla_nonsense=1"]
    assert flags.probed(wanted, tmp_path, accepts) == ["--xla_good=1"]
    assert asked == [wanted, ["--xla_good=1"], ["--xla_nonsense=1"]]
    assert flags.probed(wanted, tmp_path, accepts) == ["--xla_good=1"]
    assert len(asked) == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"--xla_good=1": 3}', b"\xff"])
def test_a_damaged_cache_of_flags_is_asked_for_again(tmp_path, content):
    flags.probed(["--xla_good=1"], tmp_path, lambda tried: True)
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    assert flags.probed(["--xla_good=1"], tmp_path, lambda tried: True) == ["--xla_good=1"]
    assert json.loads(path.read_text()) == {"--xla_good=1": True}


def test_a_cache_of_flags_that_cannot_be_written_is_no_fault(tmp_path):
    (tmp_path / "file").write_text("")
    assert flags.probed(["--xla_good=1"], tmp_path / "file", lambda tried: True) == ["--xla_good=1"]


def test_a_flag_that_is_set_already_stays_and_one_with_a_longer_name_is_another(monkeypatch):
    monkeypatch.setattr(flags, "probed", lambda wanted, folder: wanted)
    environ = {
        "XLA_FLAGS": "--xla_good_and_longer=1 --xla_set=1",
        "JAXDET_XLA_FLAGS": "--xla_good=2 --xla_set=2",
        "JAX_PLATFORMS": "cpu",
    }
    assert flags.prepare(environ) == []
    assert environ["XLA_FLAGS"] == "--xla_good_and_longer=1 --xla_set=1 --xla_good=2"


@pytest.mark.slow
def test_a_flag_this_xla_does_not_know_kills_no_process(tmp_path):
    environ = {
        "JAXDET_XLA_FLAGS": "--xla_no_such_flag=1 --xla_cpu_enable_fast_min_max=true",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
    }
    assert flags.prepare(environ) == ["--xla_no_such_flag=1"]
    assert environ["XLA_FLAGS"] == "--xla_cpu_enable_fast_min_max=true"
    assert list(tmp_path.glob("xla_flags_*.json"))


def test_importing_the_module_starts_no_jax():
    code = "import sys; from jaxdet import distributed; distributed.start(); sys.exit('jax' in sys.modules)"
    root = Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    assert subprocess.run([sys.executable, "-c", code], env=environ, cwd=root).returncode == 0
