"""Real jobs of several processes compute what one process computes, whatever happens to them on the way.

Everything is in float64, where the order of a sum moves the last of sixteen digits: what is left after twenty
updates is far below the tolerances, and anything wrong with normalisers, statistics or data far above.
"""

import os
import signal

import cluster_config
import cluster_jobs as jobs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recordings_data

from jaxdet.data.events import dat
from jaxdet.evaluation import validation
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.training import setup as runs
from jaxdet.weights import checkpoint

STEPS = 20


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return jobs.make_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def unbroken(root, tmp_path_factory):
    """One process with one device trains through."""
    workdir = tmp_path_factory.mktemp("unbroken")
    _train(1, 1, root, workdir, STEPS)
    return workdir


def _train(processes, devices, root, workdir, steps, *more, config=jobs.CONFIG, **variables):
    iterations = f"--config.train.num_iterations={steps // 2}"
    flags = jobs.train_flags(root, workdir, iterations, *more, config=config)
    return jobs.run(jobs.launched(processes, *flags), jobs.environment(devices, **variables))


def _assert_equal(workdir, reference, num_steps, relative=1e-6):
    found, expected = jobs.losses(workdir), jobs.losses(reference)
    steps = sorted(expected)[:num_steps]
    assert len(steps) >= num_steps // 2  # a line an iteration of two segments
    found, expected = ([each[s] for s in steps] for each in (found, expected))
    print(f"losses of {len(steps)} iterations: {_farthest(found, expected):.1e} apart at most, relatively")
    np.testing.assert_allclose(found, expected, rtol=relative)


def _farthest(found, expected):
    return np.max(np.abs(np.subtract(found, expected) / expected))


def _assert_equal_weights(workdir, reference, step):
    ours, theirs = (checkpoint.load_run(w, step)[0] for w in (workdir, reference))
    apart = jax.tree.map(lambda a, b: np.max(np.abs(a - b) / (np.abs(b) + 1e-4), initial=0), ours, theirs)
    print(f"parameters: {max(jax.tree.leaves(apart)):.1e} apart at most, relatively")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9), ours, theirs)


@pytest.mark.slow  # five jobs one after the other
def test_a_job_that_is_killed_told_to_stop_and_moved_equals_an_unbroken_run(root, tmp_path, unbroken):
    """2 processes x 2 devices; one is killed, then one gets SIGTERM; 1 process x 4 devices goes on."""
    flags = jobs.train_flags(root, tmp_path, "--config.train.num_iterations=100000")
    job = jobs.Job(jobs.launched(2, *flags), jobs.environment(2, JAXDET_SILENT_S="25"))
    try:
        job.wait_for(lambda: jobs.checkpoints(tmp_path), "a checkpoint")
        os.kill(job.pid(1), signal.SIGKILL)
        job.wait_for(lambda: "restart 1 of 3" in job.output, "a restart")
        first = jobs.checkpoints(tmp_path)[-1]
        job.wait_for(lambda: jobs.checkpoints(tmp_path)[-1] > first, "another checkpoint")
        os.kill(job.pid(1), signal.SIGTERM)
        assert job.wait() == 0, job.output
    finally:
        job.kill()
    assert "process 1 died of SIGKILL" in job.output
    assert "told to stop: saved at step" in job.output
    stopped = jobs.checkpoints(tmp_path)[-1]
    if stopped < STEPS:
        _train(1, 4, root, tmp_path, STEPS)
        _assert_equal_weights(tmp_path, unbroken, STEPS)
    _assert_equal(tmp_path, unbroken, STEPS)


def _eager_weights(folder):
    """Fresh weights whose coarsest level reports boxes that the protocol does not drop as too small."""
    cfg = cluster_config.get_config()
    cfg.model.dtype = "float32"
    variables = functional.split(from_config.build(cfg, 0))[1]
    level = variables.params["head"]["levels"]["2"]
    for name, bias in (("reg_pred", [0.0, 0.0, 1.0, 1.0]), ("obj_pred", [0.0]), ("cls_pred", [0.0, 0.0])):
        level[name]["bias"] = jnp.array(bias)
    checkpoint.save_weights(folder, variables, runs.as_json(cfg))


@pytest.mark.slow
def test_evaluation_over_two_processes_counts_as_one(root, tmp_path):
    _eager_weights(tmp_path / "weights")
    flags = [f"--weights={tmp_path / 'weights'}", f"--config={jobs.CONFIG}", f"--config.data.root={root}"]
    jobs.assert_evaluated_alike(tmp_path, *flags, atol=1e-6)


@pytest.mark.slow
def test_evaluation_while_training_over_two_processes_is_that_of_one(root, tmp_path):
    """Three recordings share the lanes of one process; two processes have two and one of them."""
    _eager_weights(tmp_path / "weights")
    flags = f"--init={tmp_path / 'weights'}", "--config.train.evaluate_every=2"
    for processes in (1, 2):
        _train(processes, 2 // processes, root, tmp_path / str(processes), 4, *flags)
    one, two = (validation.read(tmp_path / name) for name in ("1", "2"))
    assert [line["step"] for line in one] == [2, 4]
    assert min(line["AP50"] for line in one) > 0
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-6)


@pytest.mark.slow
def test_a_job_goes_on_without_an_xla_flag_that_would_kill_it(root, tmp_path):
    output = _train(1, 1, root, tmp_path, 4, JAXDET_XLA_FLAGS="--xla_no_such_flag=1")
    assert "this XLA has no flag --xla_no_such_flag=1: left out" in output
    assert jobs.checkpoints(tmp_path) == [4]


def test_two_processes_prepare_the_same_bytes_as_one(tmp_path):
    for i, split in enumerate(("train", "train", "test")):
        folder = tmp_path / "source" / split
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(i)
        dat.write_dat(folder / f"r{i}_td.dat", recordings_data.chunk(rng, 3000, 600))
        boxes = np.zeros(3, dat.BOX_DTYPE)
        boxes["t"], boxes["w"], boxes["h"] = 100_000 * np.arange(1, 4), 20, 15
        dat.write_boxes(folder / f"r{i}_bbox.npy", boxes)
    trees = []
    for processes in (1, 2):
        out = tmp_path / f"out{processes}"
        flags = ["gen1", f"--source={tmp_path / 'source'}", f"--out={out}", "--workers=1", "--duration_s=0"]
        jobs.run(jobs.launched(processes, *flags, command="jaxdet.prepare"), jobs.environment(1))
        files = sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file())
        trees.append({str(name): (out / name).read_bytes() for name in files})
    assert trees[0] == trees[1]
    assert "manifest.json" in trees[0]


@pytest.mark.slow
def test_bad_input_of_one_process_ends_all_and_is_not_tried_again(root, tmp_path):
    flags = jobs.train_flags(root / "nowhere", tmp_path / "run")
    job = jobs.Job(jobs.launched(2, *flags), jobs.environment(1))
    assert job.wait() == 1
    assert "nowhere" in job.output
    assert "restart" not in job.output


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(2, 2), (1, 4)])
def test_three_memories_train_alike_on_any_processes_and_devices(root, tmp_path_factory, processes, devices):
    reference = tmp_path_factory.getbasetemp() / "b3_unbroken"
    if not reference.exists():
        _train(1, 1, root, reference, STEPS, config=f"{jobs.CONFIG}:b3")
    workdir = tmp_path_factory.mktemp("b3")
    _train(processes, devices, root, workdir, STEPS, config=f"{jobs.CONFIG}:b3")
    _assert_equal(workdir, reference, STEPS)
    _assert_equal_weights(workdir, reference, STEPS)


@pytest.mark.slow
def test_restarted_on_2_then_1_then_4_processes_the_losses_are_those_of_one(root, tmp_path, unbroken):
    for processes, steps in ((2, 6), (1, 12), (4, STEPS)):
        _train(processes, 1, root, tmp_path, steps)
    _assert_equal(tmp_path, unbroken, STEPS)
    _assert_equal_weights(tmp_path, unbroken, STEPS)


@pytest.mark.slow
def test_fully_sharded_parameters_give_the_same_losses(root, tmp_path, unbroken):
    _train(2, 2, root, tmp_path, STEPS, '--config.sharding=((".*", "data"),)')
    _assert_equal(tmp_path, unbroken, STEPS)
    _assert_equal_weights(tmp_path, unbroken, STEPS)


@pytest.mark.slow
def test_in_float32_the_first_loss_agrees(root, tmp_path):
    for name, processes, devices in (("one", 1, 1), ("two", 2, 2)):
        _train(processes, devices, root, tmp_path / name, STEPS, JAX_ENABLE_X64="0")
    one, two = (jobs.losses(tmp_path / name) for name in ("one", "two"))
    for step in sorted(one):
        print(f"step {step}: {_farthest([two[step]], [one[step]]):.1e} apart, relatively")
    assert two[2] == pytest.approx(one[2], rel=1e-5)  # after one update


@pytest.mark.slow
def test_a_process_that_stands_still_is_named_and_the_job_ends(root, tmp_path):
    flags = jobs.train_flags(root, tmp_path, "--config.train.num_iterations=100000")
    command = [*jobs.launched(2, *flags), "--restarts=0"]
    job = jobs.Job(command, jobs.environment(1, JAXDET_SILENT_S="25"))
    job.wait_for(lambda: jobs.checkpoints(tmp_path), "a checkpoint")
    os.kill(job.pid(1), signal.SIGSTOP)
    assert job.wait() == 1
    assert "process 1" in job.output
    assert "is silent" in job.output
