"""Train a detector.

    python -m jaxdet.train --config=configs/gen1_hmnet.py:b3,short --workdir=runs/b3
    python -m jaxdet.train --config=configs/gen1_hmnet.py:b3,tbptt --init=runs/b3 --workdir=runs/b3_tbptt

Run the same command again to go on from the newest checkpoint. Without --config a small HMNet learns from simulated
recordings, is evaluated on unseen ones and drawn into a video: a few minutes on a CPU.
"""

import logging
import sys
import time
from pathlib import Path

import jax
import numpy as np

import jaxdet
from jaxdet import cli, config, data, sharding
from jaxdet.errors import InputError
from jaxdet.training import loop, metrics
from jaxdet.training import run as runs
from jaxdet.training.checkpoint import RunCheckpoints
from jaxdet.training.hooks import Every, Log, Preemption

logger = logging.getLogger(__name__)


def _flags(flags: cli.Flags) -> None:
    flags.config(help="config file, FILE.py or FILE.py:argument; default: the synthetic example")
    flags.string("workdir", None, "folder of the run; default: runs/<model>")
    flags.string(
        "init", None, "weights to start from: a run, a converted folder, or a released .pth or .pt file"
    )
    flags.integer("overfit", 0, "train on this many fixed samples only")
    flags.boolean("dry_run", False, "print parameters, memory, steps and time of an epoch, and stop")


def _run(flags: cli.Flags) -> None:
    cfg: config.Config = flags.config if flags.config is not None else config.synthetic()
    workdir = Path(flags.workdir or f"runs/{'synthetic' if flags.config is None else cfg.model.name}")
    if flags.overfit:
        cfg.data.overfit = flags.overfit
    cfg.lock()
    workdir.mkdir(parents=True, exist_ok=True)
    mesh = sharding.make_mesh()
    run = runs.assemble(cfg, mesh)
    if flags.dry_run:
        _describe(cfg, run)
        return
    _fit(cfg, run, workdir)


def _fit(cfg, run: runs.Run, workdir: Path) -> runs.Run:
    """Train from the newest checkpoint, or from the beginning, to the end."""
    runs.write_config(cfg, workdir, jaxdet.__version__)
    checkpoints = RunCheckpoints(workdir, runs.as_json(cfg), cfg.train.keep, cfg.train.keep_every)
    state, carry = run.state, run.carry
    if checkpoints.latest() is not None:
        state, carry = checkpoints.restore(state, carry)
        logger.info("going on from step %d of %s", int(state.step), workdir)
    start = int(state.step)
    batches = _open(cfg, start)
    writers = metrics.open_all(workdir, run.loss_names, run.num_steps, start, cfg.train.tensorboard)

    def save(moment: loop.Moment) -> None:
        checkpoints.save(moment.step, moment.state, moment.carry)

    def rate(step: int) -> float:
        return float(np.asarray(run.schedule(step)))

    hooks = [
        Log(writers, rate, cfg.train.log_every, run.segments, cfg.train.iterations_per_epoch),
        Every(cfg.train.checkpoint_every, run.num_steps, save),
        Preemption(save),
    ]
    try:
        state, carry = loop.fit(
            run.train_step,
            state,
            carry,
            runs.device_batches(batches, run.mesh),
            start=start,
            stop=run.num_steps,
            hooks=hooks,
        )
    except loop.NonFiniteLoss as error:
        path = runs.save_offending_batch(workdir, error)
        raise InputError(
            f"{error}; its batch is in {path}, the newest checkpoint is step {checkpoints.latest()}; "
            "lower optim.lr or look at the batch"
        ) from error
    finally:
        batches.close()
        checkpoints.close()
        for writer in writers:
            writer.close()
    for name, count in batches.losses.items():
        if count:
            logger.warning("left out while reading: %d %s", count, name)
    return run._replace(state=state, carry=carry)


def _open(cfg, start: int) -> data.Batches:
    process = (jax.process_index(), jax.process_count())
    return data.open(cfg.data, cfg.data.train_split, start=start, process=process)


def _describe(cfg, run: runs.Run) -> None:
    """Parameters, memory, steps and time of an epoch, the last measured over a few steps."""
    batches = _open(cfg, 0)
    stream = runs.device_batches(batches, run.mesh)
    batch = next(stream)
    state, carry = run.state, run.carry
    memory = runs.memory_estimate(run, batch)
    for _ in range(3):
        began = time.perf_counter()
        state, carry, values = run.train_step(state, carry, batch)
        jax.block_until_ready(values)
    step_s = time.perf_counter() - began
    batches.close()
    steps = cfg.train.iterations_per_epoch * run.segments
    print(f"parameters        {run.num_parameters:,}")
    print(f"memory a device   {memory / 2**20:,.0f} MiB for a step")
    print(f"steps             {run.num_steps:,} in all, {steps:,} an epoch")
    print(f"time              {step_s:.3f} s a step, {metrics.duration(step_s * steps)} an epoch")


main = cli.command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
