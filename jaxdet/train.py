"""Train a detector.

    python -m jaxdet.train --config=configs/gen1_hmnet.py:b3,short --workdir=runs/b3
    python -m jaxdet.train --config=configs/gen1_hmnet.py:b3,tbptt --init=runs/b3 --workdir=runs/b3_tbptt
    python -m jaxdet.train --config=configs/ltd_yolov4.py:p6 --init=yolov4-p6.pt --workdir=runs/day_p6

Run the same command again to resume from the newest checkpoint, with any number of processes and devices
(launch/). The first batches are drawn with their labels, batch_0.jpg and so on. Without --config a small
HMNet learns from simulated recordings, is evaluated on unseen ones and drawn into a video: a few minutes on a
CPU.
"""

import logging
import math
import sys
from pathlib import Path

import numpy as np

import jaxdet
from jaxdet import cli, config, data, distributed, reports, sharding, terminal
from jaxdet.benchmarks import ahead, dry_run, example
from jaxdet.benchmarks.targets import TARGETS
from jaxdet.errors import InputError
from jaxdet.evaluation import splits, validation
from jaxdet.evaluation.validation import Validation
from jaxdet.nn.functional import Variables
from jaxdet.structs import ReadReport
from jaxdet.training import log_writers, loop, recipe, state
from jaxdet.training import setup as runs
from jaxdet.training.checkpoint import RunCheckpoints
from jaxdet.training.hooks import Every, Log, Preemption
from jaxdet.viewing import plots, training_batches
from jaxdet.weights import initial

logger = logging.getLogger(__name__)

_FILM = "unseen.webm"


def _flags(flags: cli.Flags) -> None:
    flags.config_file("config; default: that of the run in --workdir, else the example", stored=True)
    flags.string("workdir", None, "folder of the run; default: runs/<model>")
    flags.string(
        "init",
        None,
        "weights to start from: a run, a converted folder, a released .pth or .pt file, or coco: the "
        "released file of this size, in the folder JAXDET_WEIGHTS or weights",
    )
    flags.choice("check", None, ("headers", "full"), "look at the images before the first step; full decodes")
    cli.image_flags(flags)
    flags.integer("overfit", 0, "train on this many fixed samples only")
    flags.boolean("dry_run", False, "print parameters, memory, steps and time per epoch, and stop")
    flags.string("target", None, f"for --dry_run: plan for GPUs elsewhere ({' | '.join(TARGETS)})")
    flags.integer("devices", 1, "for --target: devices of a host")
    flags.integer("hosts", 1, "for --target: hosts of the job")


def _run(flags: cli.Flags) -> None:
    if flags.target is not None and not flags.dry_run:
        raise InputError(f"--target={flags.target} plans a run for a GPU; add --dry_run")
    cfg, workdir = _config(flags)
    if flags.overfit:
        cfg.data.overfit = flags.overfit
    if cli.read_image_flags(flags, cfg.data):
        cfg.model.num_classes = len(cfg.data.classes)
    if flags.check and cfg.data.kind == "images":
        cfg.data.check = flags.check
    if cfg.model.num_classes != len(cfg.data.classes):
        raise InputError(
            f"data.classes names {len(cfg.data.classes)} classes, model.num_classes is "
            f"{cfg.model.num_classes}; make them agree"
        )
    init = initial.weights(flags.init, cfg.model)
    if "simulate" in cfg.data:
        recipe.make(cfg, runs.num_segments(cfg.data))  # says what it refuses before the simulation
        if not flags.dry_run and distributed.is_main():
            print(example.announcement(cfg, workdir, _FILM), flush=True)
        distributed.main_first(lambda: example.simulate(cfg.data))
    batches = _open(cfg)
    cli.check_losses(getattr(batches.source, "report", ReadReport()), flags.strict, "nothing was trained")
    if flags.target is not None:
        dry_run.plan(cfg, ahead.cluster(flags.target, flags.hosts, flags.devices), batches)
        return
    mesh = sharding.make_mesh(cfg.data.batch_size)
    run = runs.assemble(cfg, mesh, init)
    if flags.dry_run:
        dry_run.describe(cfg, run, batches)
        return
    # Not before: what is refused leaves no folder behind.
    workdir.mkdir(parents=True, exist_ok=True)
    done, told = _fit(cfg, run, batches, workdir)
    if distributed.is_main():
        _draw_log(workdir)
    if "simulate" in cfg.data and told:
        logger.info("told to stop, so not evaluated; the same command goes on from here")
    elif "simulate" in cfg.data:
        example.show(cfg, done.skeleton, _weights(done.state), workdir, _FILM)


def _config(flags: cli.Flags) -> tuple[config.Config, Path]:
    """The config of the run and its folder."""
    if flags.config is not None:
        return flags.config, Path(flags.workdir or f"runs/{flags.config.model.name}")
    stored = runs.read_config(Path(flags.workdir)) if flags.workdir else None
    cfg = flags.override(config.synthetic() if stored is None else stored)
    return cfg, Path(flags.workdir or "runs/synthetic")


def _open(cfg) -> data.Batches:
    """The training batches; opening them checks the data set, whose size fixes the length of an epoch."""
    process = (distributed.index(), distributed.count())
    batches = data.open(cfg.data, cfg.data.train_split, process=process)
    runs.resolve_epochs(cfg, batches.steps_per_epoch)
    cfg.lock()
    return batches


def _fit(cfg, run: runs.Run, batches: data.Batches, workdir: Path) -> tuple[runs.Run, bool]:
    """Train from the newest checkpoint, or the beginning, to the end or until told to stop -> (run, told)."""
    runs.write_config(cfg, workdir, jaxdet.__version__)
    checkpoints = RunCheckpoints(workdir, runs.as_json(cfg), cfg.train.keep, cfg.train.keep_every)
    current, carry = run.state, run.carry
    if checkpoints.latest() is not None:
        current, carry = checkpoints.restore(current, carry)
        logger.info("resuming from step %d of %s", int(current.step), workdir)
    start = int(current.step)
    batches.seek(start)
    if start == 0 and distributed.is_main():
        training_batches.write_first(workdir, cfg, batches.source)
    log = _log(cfg, run, workdir, start)
    every, preemption = _hooks(cfg, run, workdir, start, checkpoints, log)
    bar = terminal.Progress("train", run.num_steps, "steps", start, lines=False)
    progress = lambda info: bar.advance(note=f"loss {info.metrics['loss']:.3f}")  # noqa: E731
    ahead = sharding.can_run_ahead()
    try:
        with bar:
            current, carry = loop.fit(
                run.train_step,
                current,
                carry,
                runs.device_batches(distributed.report_each(batches, "reading a batch"), run.mesh),
                start=start,
                stop=run.num_steps,
                hooks=[progress, log, *every, preemption],
                # max() asks every hook: processes agree there on where to stop.
                needs_state=lambda step: max(hook.due(step) for hook in (*every, preemption)) or not ahead,
            )
    except loop.NonFiniteLoss as error:
        path = runs.save_offending_batch(workdir, error)
        raise InputError(
            f"{error}; its batch is in {path}, the newest checkpoint is step {checkpoints.latest()}; "
            "lower optim.lr or look at the batch"
        ) from error
    finally:
        for opened in (preemption, batches, checkpoints, *log.writers):
            opened.close()
    log_writers.write_left_out(workdir, getattr(batches.source, "report", ReadReport()), batches.dropped)
    return run._replace(state=current, carry=carry), preemption.came


def _log(cfg, run: runs.Run, workdir: Path, start: int) -> Log:
    """The log of the run, with the running mean of step `start`."""
    epochs = math.ceil(cfg.train.num_iterations / cfg.train.iterations_per_epoch)
    writers = log_writers.open_all(workdir, run.loss_names, run.num_steps, epochs, start, runs.as_json(cfg))

    def rate(step: int) -> float:
        return float(np.asarray(run.schedule(step)))

    log = Log(writers, rate, cfg.train.log_every, run.segments, cfg.train.iterations_per_epoch)
    mean = log_writers.read_mean(workdir, start) if start else None
    if mean is not None:
        log.resume(mean)
    return log


def _hooks(
    cfg, run: runs.Run, workdir: Path, start: int, checkpoints: RunCheckpoints, log: Log
) -> tuple[list[Every], Preemption]:
    """Hooks that read the state: evaluation and checkpoints, and the one that ends the run when told."""

    def save(info: loop.StepInfo) -> None:
        with distributed.activity(f"writing checkpoint {info.step}"):
            log_writers.keep_mean(workdir, info.step, log.mean)
            checkpoints.save(info.step, info.state, info.carry)

    show = reports.on_trackers(log.writers, workdir, start)
    every = [Every(cfg.train.checkpoint_every, run.num_steps, save)]
    if cfg.train.evaluate_every:
        validate = Validation(workdir, _measure(cfg, run), runs.as_json(cfg), start, show)
        evaluate = lambda info: validate(info.step, _weights(info.state))  # noqa: E731
        every.insert(0, Every(cfg.train.evaluate_every, run.num_steps, evaluate))
    return every, Preemption(save)


def _weights(current: state.TrainState) -> Variables:
    """The weights to evaluate, whole in every process."""
    found = state.variables(current)
    return found if sharding.is_single() else sharding.to_host(found)


def _measure(cfg: config.Config, run: runs.Run) -> splits.Measure:
    """Function that measures weights on the validation split."""
    block = cfg.data.copy_and_resolve_references()
    if "pad" in block:
        block.pad = 0.0  # Parity: rectangles are larger in the stand-alone test only.
    return splits.measure(block, run.skeleton, cfg.data.validation_split)


def _draw_log(workdir: Path) -> None:
    """Loss over steps as `loss.png`, and AP as `ap.png` where the run was evaluated."""
    log, evaluations = log_writers.read_log(workdir), validation.read(workdir)
    for name, lines, keys in (("loss", log, ("Loss",)), ("ap", evaluations, ("AP", "AP50"))):
        if lines:
            steps = [line["step"] for line in lines]
            series = {key: (steps, [line[key] for line in lines]) for key in keys}
            plots.lines(workdir / f"{name}.png", series, "step", name)


main = cli.Command(_flags, _run, __doc__, several_processes=True, saves_when_told=True)

if __name__ == "__main__":
    sys.exit(main())
