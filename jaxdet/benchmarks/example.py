"""Results of the synthetic example: AP on unseen recordings, ablation of memory and training, a video."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdet.evaluation import recordings
from jaxdet.evaluation.metrics import Metrics
from jaxdet.files import atomic
from jaxdet.inference import recordings as on_recordings
from jaxdet.inference.events import Predictor
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.viewing import drawing, plots

_STRIDE = 10  # steps per picture
_MIN_SCORE = 0.3


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
        "trained": recordings.evaluate(able, unseen, event_buckets, class_names=class_names),
        "untrained": recordings.evaluate(fresh, unseen, event_buckets, class_names=class_names),
        "memory reset": recordings.evaluate(memoryless, unseen, event_buckets, class_names=class_names),
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
    """Write a video of the boxes over the events of one recording, in real time."""
    predictor = Predictor(skeleton, variables)
    with drawing.open_sink(path, fps=1e6 / (predictor.geometry.step_us * _STRIDE)) as sink:
        pictures = drawing.EventSink(sink, predictor.geometry.size, class_names, _STRIDE, _MIN_SCORE)
        for boxes, _, (x, y, polarity), _ in on_recordings.predict(predictor, [recording], event_buckets):
            pictures.add(x, y, polarity, boxes)
