"""The whole table of speed of one machine, and what was estimated for it beside what was measured."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdet.benchmarks import ahead, seqnms, targets, timing
from jaxdet.benchmarks.latency import latency
from jaxdet.inference import folded
from jaxdet.inference.streaming import StreamDetector
from jaxdet.models import from_config
from jaxdet.nn import functional

DTYPES = "float32", "bfloat16"
STREAMED = "gen1_hmnet:b1", "gen1_hmnet:l1", "gen1_hmnet:b3", "gen1_hmnet:l3"
IMAGES = {"coco_yolox:s": 640, "coco_yolov4:p6": 1280, "coco_yolov4:p7": 1536}
TRAINED = {"gen1_hmnet:b3,short": 4, "coco_yolov4:p6": 2}
_LANES = 25
_TRAINED_STEPS, _TRAINED_SIDE = 20, 1280

Row = dict[str, Any]


def measure(
    load: Callable[[str], Any],
    num_events: int = 4096,
    num_steps: int = 500,
    pairs: int = 10,
    report: Callable[[Row], None] = lambda row: None,
    streamed: Sequence[str] = STREAMED,
    images: Mapping[str, int] = IMAGES,
    trained: Mapping[str, int] = TRAINED,
    dtypes: Sequence[str] = DTYPES,
) -> list[Row]:
    """Rows of names, and times in ms; `report` gets each when it is there.

    `load` gives the config of a name. Weights are random, so that suppression has little to do. Streamed
    models run `num_steps` steps of `num_events` events; a model of images is named with its side, one
    that is trained with its batch. Where the device is one of `targets.TARGETS` and XLA's compiler takes
    it, rows of streamed steps hold the estimate as well.
    """
    rows: list[Row] = []

    def add(name: str, dtype: str, values: dict[str, Any]) -> None:
        rows.append({"name": name, "dtype": dtype, **values})
        report(rows[-1])

    for dtype in dtypes:
        for name in streamed:
            cfg = _config(load(name), dtype)
            add(f"stream {name}", dtype, _streamed(cfg, num_events, num_steps))
            add(f"{_LANES} lanes {name}", dtype, _lanes(cfg, num_events, pairs))
        for name, side in images.items():
            took, cost = timing.images(*_prepared(_config(load(name), dtype)), 1, (side, side), pairs)
            add(f"predict {name} at {side}", dtype, {"p50_ms": took.ms, **cost.as_dict()})
        for name, size in trained.items():
            add(
                f"train {name}, batch {size}",
                dtype,
                _trained(_config(load(name), dtype), size, num_events, pairs),
            )
    for one in seqnms.measure(repeats=3):
        add(f"seqnms {one.num_frames}x{one.max_boxes}", "float32", {"p50_ms": 1e3 * one.seconds})
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table in markdown; a column is there if any row has its value."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_shown(row.get(key, "")) for key in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _config(cfg: Any, dtype: str) -> Any:
    cfg = cfg.copy_and_resolve_references()
    with cfg.unlocked():
        cfg.model.dtype = dtype
    return cfg


def _prepared(cfg: Any):
    return folded.prepare(*functional.split(from_config.build(cfg, 0)))


def _streamed(cfg: Any, num_events: int, num_steps: int) -> dict[str, Any]:
    stream = StreamDetector(*_prepared(cfg), event_sizes=(num_events,))
    stream.compile()
    rng = np.random.default_rng(0)
    height, width = stream.geometry.size

    step_us = stream.geometry.step_us
    seconds = []
    for begin in range(0, num_steps * step_us, step_us):
        t_us = begin + np.sort(rng.integers(0, step_us, num_events))
        t_us[-1] = begin + step_us - 1
        x, y = rng.integers(0, width, num_events), rng.integers(0, height, num_events)
        steps = stream.feed(t_us, x, y, rng.integers(0, 2, num_events))
        seconds += [step.seconds or 0.0 for step in steps]
    found = {f"{name}_ms": value for name, value in latency(seconds, min(43, num_steps // 2)).items()}
    product = jax.devices()[0].device_kind
    name = next((n for n, target in targets.TARGETS.items() if target.product == product), None)
    if name is not None:
        mean = ahead.streamed(cfg, ahead.cluster(name), num_events)["step_mean"]
        found |= {key: mean[key] for key in ("estimated_ms", "launches")}
        found["measured_by_estimated"] = found["p50_ms"] / mean["estimated_ms"]
    return found


def _lanes(cfg: Any, num_events: int, pairs: int) -> dict[str, Any]:
    """Throughput of many lanes, as streams that keep pace with their camera."""
    took, _, num_steps = timing.segment(*_prepared(cfg), _LANES, num_events, pairs)
    step_s = from_config.geometry(cfg).step_us / 1e6
    each = took.ms / num_steps
    return {"p50_ms": each, "real_time_streams": int(_LANES * step_s / (each / 1e3))}


def _trained(cfg: Any, size: int, num_events: int, pairs: int) -> dict[str, Any]:
    if cfg.data.kind == "images":
        arguments = functional.split(from_config.build(cfg, 0))
        took, cost = timing.train_images(*arguments, size, (_TRAINED_SIDE, _TRAINED_SIDE), pairs)
    else:
        with cfg.model.unlocked():
            cfg.model.warm_up_steps = _TRAINED_STEPS - 1
        arguments = functional.split(from_config.build(cfg, 0))
        took, cost = timing.train_segment(*arguments, size, _TRAINED_STEPS, num_events, pairs)
    return {"p50_ms": took.ms, **cost.as_dict()}
