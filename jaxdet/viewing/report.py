"""Page of a diagnosis: an HTML file that holds its pictures and needs no network, the pictures beside it."""

import base64
import html
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from jaxdet.errors import InputError
from jaxdet.files import atomic
from jaxdet.structs import Boxes
from jaxdet.viewing import drawing, plots

PAGE = "report.html"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em;
  color: #222 }
h2 { margin-top: 2em; border-bottom: 1px solid #ccc } table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .2em .7em; border: 1px solid #ddd; text-align: right } th:first-child { text-align: left }
img { max-width: 100% } figure { margin: 1em 0 } figcaption { color: #555 }
"""


_COUNTS = (("images", "images"), ("truth", "labels"), ("detections", "detections"))


class Pair(NamedTuple):
    """One picture with its labels and its detections; `image` is BGR, or None if it is not at hand."""

    title: str
    image: np.ndarray | None
    truth: Boxes
    found: Boxes


class _Section(NamedTuple):
    """A part of the page with one picture."""

    title: str
    file: str
    draw: Callable[[Path], None]
    text: str = ""


def write(
    folder: str | Path,
    numbers: Mapping[str, Any],
    curves: Mapping[str, Any],
    diagnosis: Any,
    pairs: Iterable[Pair],
) -> Path:
    """Write the page and its pictures; return the path of the page.

    `numbers` is the JSON of `evaluate`, which the page holds as well; `curves` are the arguments of
    `plots.precision_recall`; `diagnosis` is an `evaluation.diagnosis.Diagnosis`. The page comes last, so that
    it is only there with all of its pictures.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_overview(numbers)]
    for section in _sections(numbers, curves, diagnosis):
        path = folder / section.file
        section.draw(path)
        parts.append(f"<h2>{html.escape(section.title)}</h2>{section.text}{_figure(path, section.title)}")
    parts.append(_worst(folder, diagnosis.class_names, pairs))
    with atomic(folder / PAGE) as temporary:
        temporary.write_text(_page("".join(parts), numbers), encoding="utf-8")
    return folder / PAGE


def _page(body: str, numbers: Mapping[str, Any]) -> str:
    stored = json.dumps(numbers).replace("</", "<\\/")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Evaluation</title>'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head><body><h1>Evaluation</h1>{body}'
        f'<script type="application/json" id="numbers">{stored}</script></body></html>\n'
    )


def _sections(numbers: Mapping[str, Any], curves: Mapping[str, Any], diagnosis: Any) -> Iterator[_Section]:
    names = diagnosis.class_names
    costs = {kind: share.cost for kind, share in diagnosis.errors.items()}
    sizes = {k: numbers["statistics"][f"AP_{k}"] for k in ("small", "medium", "large")}
    counts = dict(zip(names, diagnosis.label_counts.tolist()))
    yield _Section(
        "Precision and recall", "precision_recall.png", lambda path: plots.precision_recall(path, **curves)
    )
    yield _Section(
        "Score thresholds at IoU 0.5",
        "thresholds.png",
        lambda path: plots.thresholds(path, names, diagnosis.curves),
        _best_scores(diagnosis),
    )
    yield _Section(
        "Confusion at the best scores",
        "confusion.png",
        lambda path: plots.matrix(path, (*names, "background"), diagnosis.confusion),
    )
    yield _Section("Errors by kind", "errors.png", partial(_bars, costs, "AP50 it costs"), _errors(diagnosis))
    yield _Section("AP by size", "sizes.png", partial(_bars, sizes, "AP"), _rows("size", ["AP"], sizes))
    for kind, parts in diagnosis.parts.items():
        values = {name: part.ap50 for name, part in parts.items()}
        yield _Section(
            f"AP50 by {kind}", f"by_{kind}.png", partial(_bars, values, "AP50"), _parts(kind, parts)
        )
    yield _Section("Labels by class", "labels.png", partial(_bars, counts, "labels"))
    yield _Section(
        "Size of labels",
        "label_sizes.png",
        lambda path: plots.histogram(path, diagnosis.sides, "square root of the area, pixels", "labels"),
    )


def _bars(values: Mapping[str, Any], unit: str, path: Path) -> None:
    plots.bars(path, values, unit)


def _overview(numbers: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{numbers[f'num_{name}']} {said}" for name, said in _COUNTS)
    left_out = "".join(f"<li>{n} {html.escape(reason)}</li>" for reason, n in numbers["left_out"].items())
    rows = {name: (values["AP"], values["AP50"]) for name, values in numbers["classes"].items()}
    note = f"<p>Left out:</p><ul>{left_out}</ul>" if left_out else ""
    return (
        f"<p>{counts}</p>{note}{_rows('metric', ['value'], numbers['statistics'])}"
        f"{_rows('class', ['AP', 'AP50'], rows)}"
    )


def _best_scores(diagnosis: Any) -> str:
    rows = {
        name: (curve.best, *curve.at_best)
        for name, curve in zip(diagnosis.class_names, diagnosis.curves, strict=True)
    }
    return _rows("class", ["best score", "precision", "recall", "F1"], rows)


def _errors(diagnosis: Any) -> str:
    rows = {kind: (share.count, share.cost) for kind, share in diagnosis.errors.items()}
    text = (
        "<p>The cost is the AP50 that is gained if the errors of one kind alone are mended; "
        "costs of several kinds do not add up.</p>"
    )
    return text + _rows("kind", ["errors", "AP50 it costs"], rows)


def _parts(kind: str, parts: Mapping[str, Any]) -> str:
    rows = {name: (part.num_images, part.num_truth, part.ap, part.ap50) for name, part in parts.items()}
    return _rows(kind, ["images", "labels", "AP", "AP50"], rows)


def _rows(first: str, columns: Sequence[str], rows: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in (first, *columns))
    body = ""
    for name, values in rows.items():
        cells = values if isinstance(values, tuple) else (values,)
        shown = (f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells)
        body += f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in shown)}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


def _figure(path: Path, title: str) -> str:
    kind = "png" if path.suffix == ".png" else "jpeg"
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(title)
    return (
        f'<figure><img alt="{text}" src="data:image/{kind};base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _worst(folder: Path, class_names: Sequence[str], pairs: Iterable[Pair]) -> str:
    parts = [
        "<h2>Worst pictures</h2><p>Left: labels. Right: detections from the classes' best scores on.</p>"
    ]
    for number, pair in enumerate(pairs, 1):
        path = folder / f"worst_{number:02d}.jpg"
        drawing.write_picture(path, side_by_side(pair, class_names))
        note = "" if pair.image is not None else " (picture not at hand)"
        parts.append(_figure(path, pair.title + note))
    if len(parts) == 1:
        parts.append("<p>No image has an error at the best scores.</p>")
    return "".join(parts)


def side_by_side(pair: Pair, class_names: Sequence[str]) -> np.ndarray:
    """Labels left and detections right, uint8 [H, W, 3]; on grey where the picture is not at hand."""
    image = _canvas(pair) if pair.image is None else pair.image
    longest = max(image.shape[:2])
    if longest > 1280:
        part = 1280 / longest
        image = cv2.resize(image, None, fx=part, fy=part, interpolation=cv2.INTER_AREA)
    else:
        part = 1.0
    scale = drawing.scale_of(image.shape[1])
    halves = [
        drawing.draw(image, boxes.scaled(part), class_names, scale, scores=scores)
        for boxes, scores in ((pair.truth, False), (pair.found, True))
    ]
    gap = np.full((halves[0].shape[0], 6, 3), 255, np.uint8)
    return np.concatenate([halves[0], gap, halves[1]], 1)


def _canvas(pair: Pair) -> np.ndarray:
    if pair.truth.image_size is not None:
        height, width = pair.truth.image_size
    else:
        corners = np.concatenate([pair.truth.xyxy, pair.found.xyxy]).max(0, initial=1)
        width, height = (int(np.ceil(side)) + 2 for side in corners[2:])
    if max(height, width) > 20_000:
        raise InputError(f"{pair.title}: a picture of {width}x{height} pixels, expected at most 20000 a side")
    return np.full((height, width, 3), 40, np.uint8)
