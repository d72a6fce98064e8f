"""Time a model in inference, training and evaluation, its scaling and input pipeline, or Seq-NMS.

    python -m jaxdet.benchmark --config=configs/gen1_hmnet.py:b3 --fast --batch_sizes=1,16
    python -m jaxdet.benchmark --config=configs/gen1_hmnet.py:b1 --train
    python -m jaxdet.benchmark --config=configs/coco_yolov4.py:p5 --train --size=640
    python -m jaxdet.benchmark --config=configs/gen1_hmnet.py:b1 --evaluate --pairs=1
    python -m jaxdet.benchmark --config=configs/gen1_hmnet.py:b3 --scaling --devices=1,2,4,8 --batch_sizes=4
    python -m jaxdet.benchmark --config=configs/ltd_yolov4.py:p6 --pipeline
    python -m jaxdet.benchmark --config=configs/synthetic_b3.py:short --endurance
    python -m jaxdet.benchmark --weights=yolox_nano.pth --runtimes --pairs=15
    python -m jaxdet.benchmark --seqnms
    python -m jaxdet.benchmark --table --events=4096 --out=speed.json
    python -m jaxdet.benchmark --config=configs/gen1_hmnet.py:b3,short --target=a100 --devices=8 --hosts=4

`--scaling` gives every device `--batch_sizes` lanes or images, and reports the time of an update, its
efficiency against the smallest number of devices, the fraction that summing the gradients takes alone, and
bytes per device. For more devices than exist, only the memory is planned. With several processes (launch/)
all devices are used; `--baseline` names the report of a run on fewer devices.

`--runtimes` exports the model and runs it in ONNX Runtime, and in OpenVINO where that is installed, in turn
with jaxdet on the same inputs; `--peers` are further ONNX files to run in the same turns.

`--target` needs no GPU, only the extra cuda12 or cuda13: it compiles the streamed step, a batch of prediction
and the training step (`--programs`) for a GPU of a table and prints kernels and calls, exchanged bytes,
memory, arithmetic, and an estimate of time with its assumptions. `--devices` are those of each host.

Times of models are medians of runs in turn with the unit, a plain 3x3 convolution from 256 to 256 channels at
60x76, and are given in ms and in units. Without `--weights` they are random, which takes the same time.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax

from jaxdet import api, cli, config_files, distributed
from jaxdet.benchmarks import ahead, endurance, runtimes, scaling, table, timing
from jaxdet.benchmarks import evaluation as evaluation_speed
from jaxdet.benchmarks import pipeline as pipeline_speed
from jaxdet.benchmarks import seqnms as seqnms_speed
from jaxdet.benchmarks.targets import TARGETS
from jaxdet.errors import InputError
from jaxdet.files import atomic, stamped
from jaxdet.inference import folded
from jaxdet.models import from_config
from jaxdet.nn import functional, winograd


def _flags(flags: cli.Flags) -> None:
    flags.config_file(stored=True)
    flags.string("weights", None, "weights folder, run or released file; default: random")
    flags.boolean(
        "fast", False, "Winograd convolutions (CPU): boxes move by fractions of a pixel; also for --train"
    )
    flags.boolean("train", False, "time loss and gradient instead of inference")
    flags.boolean("evaluate", False, "time evaluation beside its full pass, on noise labelled at 4 Hz")
    flags.integer("duration_ms", 1000, "length of the recording of --evaluate")
    flags.strings("batch_sizes", ["1"], "lanes or images at once")
    flags.boolean("scaling", False, "time updates on several devices, and plan their memory")
    flags.strings(
        "devices",
        [],
        "for --scaling: numbers of devices, default 1, 2, 4 ... to all; for --target: devices of a host",
    )
    flags.string("target", None, f"compile for this GPU, which need not be there ({' | '.join(TARGETS)})")
    flags.integer("hosts", 1, "for --target: hosts of the job")
    flags.strings("programs", ahead.PROGRAMS, "for --target: those to compile")
    flags.string("baseline", None, "for --scaling: --out of a run to compare with")
    flags.boolean(
        "pipeline",
        False,
        "training samples per second; for images also of a plain OpenCV loop of the same work",
    )
    flags.boolean("endurance", False, "input pipeline against training step, and growth of host memory")
    flags.integer("updates", 1000, "training steps of --endurance")
    flags.boolean(
        "table", False, "run the whole table: streams, images, training, Seq-NMS, in both types; to --out"
    )
    flags.boolean("runtimes", False, "time the exported model in other runtimes beside jaxdet")
    flags.strings("peers", [], "for --runtimes: ONNX files of one image input to time as well")
    flags.boolean("seqnms", False, "time Seq-NMS on simulated tracks of several sizes")
    flags.boolean("keep_products", True, "recompute only cheap operations in the backward pass of --train")
    flags.integer("events", 2000, "events in a step of a lane")
    flags.integer("steps", 20, "steps of a training segment")
    flags.integer("size", 640, "side of the images in pixels, for image models")
    flags.integer("pairs", 10, "runs of the work, each with one of the unit")
    flags.string("out", None, "also write the figures to this JSON file")


def _run(flags: cli.Flags) -> None:
    if flags.seqnms:
        report = {f"seqnms_{row.num_frames}x{row.max_boxes}": str(row) for row in seqnms_speed.measure()}
    elif flags.table:
        report = _table(flags)
    elif flags.scaling:
        report = _scaling(flags)
    elif flags.runtimes:
        report = _runtimes(flags)
    elif flags.target is not None:
        report = _ahead(flags)
    elif flags.pipeline:
        if flags.config is None:
            raise InputError("--pipeline reads the data set of a config; give --config")
        report = pipeline_speed.measure(flags.config.data, flags.pairs)
    elif flags.endurance:
        if flags.config is None:
            raise InputError("--endurance trains a model on data; give --config")
        report = {"device": str(jax.devices()[0]), **endurance.measure(flags.config, flags.updates).as_dict()}
    else:
        report = _of_model(flags)
    if not distributed.is_main():
        return
    print(json.dumps(report, indent=2))
    if flags.out:
        with atomic(Path(flags.out)) as temporary:
            temporary.write_text(json.dumps(stamped(report), indent=2))


def _table(flags) -> dict[str, Any]:
    rows = table.measure(
        config_files.load, flags.events, pairs=flags.pairs, report=lambda row: print(row, file=sys.stderr)
    )
    if flags.out:
        with atomic(Path(flags.out).with_suffix(".md")) as temporary:
            temporary.write_text(f"{jax.devices()[0].device_kind}\n\n{table.markdown(rows)}")
    return {"device": jax.devices()[0].device_kind, "jax": jax.__version__, "rows": rows}


def _runtimes(flags) -> dict[str, Any]:
    peers = {Path(path).stem: Path(path) for path in flags.peers}
    missing = [str(path) for path in peers.values() if not path.is_file()]
    if missing:
        raise InputError(f"--peers={missing[0]}: no such file; expected ONNX files")
    measured = runtimes.measure(*_model(flags), flags.events, flags.pairs, peers)
    return {"device": str(jax.devices()[0]), "jax": jax.__version__, **measured}


def _of_model(flags) -> dict[str, Any]:
    sizes = _numbers("batch_sizes", flags.batch_sizes)
    cfg, skeleton, variables = _model(flags)
    events = cfg.data.kind == "events"
    _check_size(flags, cfg.data)
    if flags.evaluate and not events:
        raise InputError(f"--evaluate times models of events, data.kind is {cfg.data.kind!r}; leave it out")
    report: dict[str, Any] = {
        "device": str(jax.devices()[0]),
        "jax": jax.__version__,
        "model": cfg.model.name,
    }
    if flags.train:
        return report | _of_training(flags, cfg, sizes, skeleton, variables)
    skeleton, variables = folded.prepare(skeleton, variables, flags.fast)
    if flags.evaluate:
        return report | {"evaluate": _of_evaluation(flags, skeleton, variables)}
    if events:
        report["step"] = timing.one_step(skeleton, variables, flags.events, flags.pairs).as_dict()
    for size in sizes:
        report[f"predict_{size}"] = _throughput(flags, events, skeleton, variables, size)
    return report


def _of_training(flags, cfg, sizes, skeleton, variables) -> dict[str, Any]:
    report, events = {}, cfg.data.kind == "events"
    if events:
        changed = _labelled_at_the_end(cfg, flags.steps, keep_products=flags.keep_products)
        skeleton, _ = functional.abstract(lambda: from_config.build(changed, 0))
    if flags.fast:
        skeleton, variables = winograd.accelerate_training(skeleton, variables)
    for size in sizes:
        if events:
            name = f"train_{size}x{flags.steps}_steps"
            took, cost = timing.train_segment(
                skeleton, variables, size, flags.steps, flags.events, flags.pairs
            )
        else:
            name, side = f"train_{size}", (flags.size, flags.size)
            took, cost = timing.train_images(skeleton, variables, size, side, flags.pairs)
        report[name] = {**took.as_dict(), **cost.as_dict()}
    return report


def _of_evaluation(flags, skeleton, variables) -> dict[str, Any]:
    if not flags.weights:
        variables = evaluation_speed.with_boxes(variables)
    return evaluation_speed.measure(skeleton, variables, flags.duration_ms, flags.events, flags.pairs)


def _scaling(flags) -> dict[str, Any]:
    if flags.config is None:
        raise InputError("--scaling trains a model; give --config")
    _check_size(flags, flags.config.data)
    each = _numbers("batch_sizes", flags.batch_sizes)[0]
    there = jax.device_count()
    counts = _numbers("devices", flags.devices) or sorted({2**i for i in range(there.bit_length())} | {there})
    if distributed.count() > 1:
        counts = [there]
    report: dict[str, Any] = {"device": str(jax.devices()[0]), "processes": distributed.count()}
    reference = _baseline(flags.baseline) if flags.baseline else None
    report["scaling"] = rows = []
    for count in counts:
        cfg = flags.config.copy_and_resolve_references()
        cfg.data.batch_size = each * count
        row: dict[str, Any] = {"devices": count, "planned_bytes": scaling.memory_plan(cfg, count)}
        if count <= there:
            row |= _point(flags, cfg, count)
            reference = reference or row
            row["efficiency"] = round(reference["step_ms"] / row["step_ms"], 3)
        rows.append(row)
    return report


def _ahead(flags) -> dict[str, Any]:
    if flags.config is None:
        raise InputError("--target compiles the programs of a config; give --config")
    _check_size(flags, flags.config.data)
    per_host = (_numbers("devices", flags.devices) or [1])[0]
    wrong = [name for name in flags.programs if name not in ahead.PROGRAMS]
    if wrong or flags.hosts < 1:
        found = f"--programs={wrong[0]}" if wrong else f"--hosts={flags.hosts}"
        raise InputError(f"{found}: expected {', '.join(ahead.PROGRAMS)}; and at least one host")
    cluster = ahead.cluster(flags.target, flags.hosts, per_host)
    cfg, num_steps = flags.config.copy_and_resolve_references(), flags.steps
    events = cfg.data.kind == "events"
    report: dict[str, Any] = {
        "target": f"{len(cluster.devices)} x {cluster.target.product}",
        "hosts": flags.hosts,
        "jax": jax.__version__,
        "model": f"{cfg.model.name} {cfg.model.get('dtype', 'float32')}",
        "assumptions": ahead.assumptions(),
    }
    if "step" in flags.programs and events:
        report |= ahead.streamed(cfg, cluster, flags.events)
    for size in _numbers("batch_sizes", flags.batch_sizes):
        if "predict" in flags.programs:
            report[f"predict_{size}"] = ahead.predicted(cfg, cluster, _batch(flags, cfg, size).inputs)
        if "train" in flags.programs:
            changed = _labelled_at_the_end(cfg, num_steps) if events else cfg
            changed.data.batch_size = size * len(cluster.devices)
            report[f"train_{size}"] = ahead.trained(changed, cluster, _batch(flags, cfg, size))
    return report


def _baseline(path: str) -> dict[str, Any]:
    """The first timed row of an earlier report."""
    try:
        rows = json.loads(Path(path).read_text())["scaling"]
        return next(row for row in rows if "step_ms" in row)
    except (OSError, ValueError, TypeError, KeyError, StopIteration):
        raise InputError(
            f"--baseline={path}: expected the --out of a run of --scaling that timed steps"
        ) from None


def _point(flags, cfg, count) -> dict[str, Any]:
    lanes = cfg.data.batch_size // distributed.count()
    if cfg.data.kind == "events":
        cfg = _labelled_at_the_end(cfg, flags.steps)
    batch = _batch(flags, cfg, lanes)
    point = scaling.measure(cfg, count, batch, flags.pairs)._asdict()
    share = point["reduce_ms"] / point["step_ms"]
    return {
        **{k: round(v, 3) if isinstance(v, float) else v for k, v in point.items()},
        "reduce_share": round(share, 4),
    }


def _batch(flags, cfg, lanes: int):
    """A training batch of random data."""
    if cfg.data.kind == "images":
        return timing.image_batch((flags.size, flags.size), lanes)
    return timing.segment_batch(from_config.geometry(cfg), lanes, flags.steps, flags.events)


def _labelled_at_the_end(cfg, num_steps: int, **changes: Any):
    """The config with `changes` of its model, and a warm-up that leaves only the last step for training."""
    cfg = cfg.copy_and_resolve_references()
    with cfg.model.unlocked():  # published models leave these keys out
        cfg.model.update(warm_up_steps=num_steps - 1, **changes)
    return cfg


def _check_size(flags, data_block) -> None:
    if data_block.kind == "images" and (flags.size < 1 or flags.size % data_block.stride):
        raise InputError(
            f"--size={flags.size}: expected a multiple of {data_block.stride}, the coarsest stride"
        )


def _numbers(name, words) -> list[int]:
    if not all(word.isdigit() and int(word) > 0 for word in words):
        raise InputError(f"--{name}={','.join(words)}: expected numbers above zero, such as 1,16")
    return [int(word) for word in words]


def _model(flags):
    if flags.weights:
        return api.open_weights(flags.weights, flags.config, override=flags.override)
    if flags.config is None:
        raise InputError("nothing to time: give --config, --weights or both")
    return flags.config, *functional.split(from_config.build(flags.config, 0))


def _throughput(flags, events, skeleton, variables, size) -> dict[str, float]:
    if events:
        took, cost, steps = timing.segment(skeleton, variables, size, flags.events, flags.pairs)
        return {**took.as_dict(), **cost.as_dict(), "steps_per_s": round(size * steps / took.ms * 1e3, 2)}
    took, cost = timing.images(skeleton, variables, size, (flags.size, flags.size), flags.pairs)
    return {**took.as_dict(), **cost.as_dict(), "images_per_s": round(size / took.ms * 1e3, 2)}


main = cli.Command(_flags, _run, __doc__, several_processes=True)

if __name__ == "__main__":
    sys.exit(main())
