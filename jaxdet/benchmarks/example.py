"""Results of the synthetic example: AP on unseen recordings, ablation of memory and training, a video."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdet import distributed, terminal
from jaxdet.benchmarks import timing
from jaxdet.benchmarks.side_by_side import Film, Truth
from jaxdet.data.datasets import gen1, preparation
from jaxdet.data.events import recordings
from jaxdet.data.events.labels import interval_us
from jaxdet.data.synthetic import gen1 as synthetic
from jaxdet.errors import InputError
from jaxdet.evaluation import recordings as on_labels
from jaxdet.evaluation.metrics import Metrics
from jaxdet.files import atomic
from jaxdet.inference import recordings as on_recordings
from jaxdet.inference.events import Predictor
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.training import setup
from jaxdet.viewing import drawing, plots

_STRIDE = 10  # steps per picture
_MIN_SCORE = 0.3

# Seconds of the parts on the machine where they were measured, simulation on one core, and of the unit of
# `timing` there.
_FIXED_S, _SIMULATE_S, _STEP_S, _UNIT_S = 45.0, 20.0, 0.115, 0.012


def simulate(block: Any) -> None:
    """Simulate and prepare the recordings of the example, unless they are there already."""
    wanted, root = block.simulate, Path(block.root)
    source = root.with_name(root.name + "_source")
    counts = {split: wanted[split] for split in synthetic.SPLITS}
    simulation = synthetic.Simulation(seed=wanted.seed, duration_s=wanted.duration_s)
    synthetic.write(source, counts, simulation)
    report = gen1.make(source, root, gen1.Gen1Options(duration_ms=None), workers=2)
    preparation.finish(root, report)
    if report.problems:
        raise InputError(f"{source}: {report.problems[0]}; remove the folder and run again")


def show(cfg: Any, skeleton: Skeleton, trained: Variables, workdir: Path, film_name: str) -> None:
    """Print and write the AP on recordings never trained on, beside baselines; film one of them."""
    unseen = [recordings.open_recording(path) for path in recordings.find(cfg.data.root, cfg.data.test_split)]
    event_buckets = tuple(cfg.data.event_buckets)
    untrained = functional.split(from_config.build(cfg, cfg.seed))[1]
    results = compare(skeleton, trained, untrained, unseen, event_buckets, cfg.data.classes)
    if not distributed.is_main():
        return
    print(f"on {len(unseen)} recordings never trained on:\n{table(results)}")
    write(workdir, results)
    film(workdir / film_name, skeleton, trained, unseen[0], event_buckets, cfg.data.classes)
    print(advice(cfg, workdir, film_name))


def compare(
    skeleton: Skeleton,
    trained: Variables,
    untrained: Variables,
    unseen: Sequence[Any],
    event_buckets: Sequence[int],
    class_names: Sequence[str],
) -> dict[str, Metrics]:
    """Metrics on recordings: trained, untrained, and trained but with its memory reset at every step."""
    lanes = max(1, min(4, len(unseen)))
    able, fresh = (Predictor(skeleton, v, lanes, head_batch=lanes) for v in (trained, untrained))
    memoryless = Predictor(skeleton, trained, lanes, head_batch=lanes, reset_memory=True)
    return {
        "trained": on_labels.evaluate(able, unseen, event_buckets, class_names=class_names),
        "untrained": on_labels.evaluate(fresh, unseen, event_buckets, class_names=class_names),
        "memory reset": on_labels.evaluate(memoryless, unseen, event_buckets, class_names=class_names),
    }


def table(results: Mapping[str, Metrics]) -> str:
    """Table with a line per model: AP, AP50 and AP50 of every class."""
    names = next(iter(results.values())).class_names
    lines = [f"{'':14}{'AP':>8}{'AP50':>8}" + "".join(f"{f'AP50 {name}':>18}" for name in names)]
    for title, metrics in results.items():
        per_class = "".join(f"{value:18.3f}" for value in metrics.ap50_per_class)
        lines.append(f"{title:14}{metrics.statistics[0]:8.3f}{metrics.statistics[1]:8.3f}{per_class}")
    return "\n".join(lines)


def write(workdir: Path, results: Mapping[str, Metrics]) -> None:
    """Write `evaluation.json`, and the precision-recall curves of the trained model as a picture."""
    with atomic(workdir / "evaluation.json") as temporary:
        temporary.write_text(json.dumps({k: m.as_json() for k, m in results.items()}, indent=2))
    plots.precision_recall(workdir / "precision_recall.png", **results["trained"].curves())


def film(
    path: Path,
    skeleton: Skeleton,
    variables: Variables,
    recording: Any,
    event_buckets: Sequence[int],
    class_names: Sequence[str],
) -> None:
    """Write a film of one labelled recording, truth and prediction side by side, in real time.

    The latest picture with the most true boxes lies beside it as .png.
    """
    predictor = Predictor(skeleton, variables)
    step_us = predictor.geometry.step_us
    labels = recording.labels
    truth = Truth(labels, interval_us(labels) * 3 // 4)
    with drawing.open_sink(path, fps=1e6 / (step_us * _STRIDE)) as sink:
        size, duration_us = predictor.geometry.size, 1000 * recording.duration_ms
        pictures = Film(sink, truth, size, duration_us, class_names, _MIN_SCORE)
        steps = on_recordings.predict(predictor, [recording], event_buckets)
        for number, step in enumerate(terminal.track(steps, "film", duration_us // step_us, "steps"), 1):
            x, y, polarity = step.events
            pictures.add(x, y, polarity, step.boxes, number * step_us, number % _STRIDE == 0)
    pictures.write_best(path.with_suffix(".png"))


def announcement(cfg: Any, workdir: Path, film: str) -> str:
    """The plan of the example, with an estimate of its time on this machine."""
    wanted = cfg.data.simulate
    num = wanted.train + wanted.val + wanted.test
    minutes, cores = estimate_s(cfg) / 60, len(os.sched_getaffinity(0))
    return f"""The example takes about {minutes:.0f} minutes on the {cores} CPU cores here, if they are idle:
  1. simulate {num} recordings of {wanted.duration_s:g} s, a street seen by an event camera: {cfg.data.root}
  2. train a small HMNet on {wanted.train} of them, {_num_updates(cfg)} steps, in {workdir}
  3. measure it on the {wanted.test} recordings that it never saw, with its memory reset, and untrained
  4. draw {workdir / film}: truth and prediction side by side
Ctrl-C saves; the same command resumes."""


def estimate_s(cfg: Any) -> float:
    """Seconds that the example takes on idle cores here, by the time of the unit of `timing`."""
    # Two workers simulate. A step is one of many small operations, in which a second core gains little.
    workers = min(len(os.sched_getaffinity(0)), 2)
    slower = timing.unit_seconds() / _UNIT_S
    return slower * (_FIXED_S + _SIMULATE_S / workers + _STEP_S * _num_updates(cfg))


def _num_updates(cfg: Any) -> int:
    return cfg.train.num_iterations * setup.num_segments(cfg.data)


def advice(cfg: Any, workdir: Path, film: str) -> str:
    """Commands to go on with after the example."""
    recording = Path(cfg.data.root, cfg.data.test_split)
    return f"""next:
  look at it        {workdir / film}; numbers in {workdir / "evaluation.json"}
  find boxes        jaxdet predict --weights={workdir} --split={recording.name} --out=predictions
  why it errs       jaxdet evaluate --weights={workdir} --report=report
  your recording    jaxdet info mine.raw
  released weights  jaxdet predict --weights=gen1_hmnet_B3_tbptt.pth --input=mine.raw --render=mine.webm"""
