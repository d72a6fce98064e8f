"""Plots of curves: precision over recall, and any value over time. matplotlib is imported when needed."""

import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxdet.files import atomic


def precision_recall(
    path: str | os.PathLike,
    class_names: Sequence[str],
    precision: np.ndarray,
    ap: float,
    ap_per_class: np.ndarray,
    ap50_per_class: np.ndarray,
) -> None:
    """Plot precision over recall of every class (at most ten are named): solid at IoU 0.5, dotted at 0.75.

    `precision` [10, 101, C] is by IoU threshold (0.5 to 0.95), recall (0 to 1) and class, -1 where nothing
    was labelled; `ap_per_class` and `ap50_per_class` are [C].
    """
    recall = np.linspace(0, 1, 101)
    with _axes(path, "recall", "precision") as axes:
        for k, name in enumerate(class_names):
            curves = precision[:, :, k]
            if curves.max(initial=-1) < 0:
                continue
            label = f"{name}  AP {ap_per_class[k]:.3f}, AP50 {ap50_per_class[k]:.3f}"
            (line,) = axes.plot(recall, curves[0], label=label if k < 10 else None)
            axes.plot(recall, curves[5], ":", color=line.get_color())
        axes.set(xlim=(0, 1), ylim=(0, 1.02), title=f"AP {ap:.3f}  (— IoU 0.5,  ··· IoU 0.75)")
        if axes.lines:
            axes.legend(loc="lower left", fontsize=8)


def lines(
    path: str | os.PathLike,
    series: Mapping[str, tuple[Sequence, Sequence]],
    x_label: str,
    y_label: str,
) -> None:
    """Plot named series (x, y), such as loss over steps or AP by month, into one picture."""
    with _axes(path, x_label, y_label) as axes:
        for name, (x, y) in series.items():
            axes.plot(x, y, marker="o" if len(x) < 30 else None, markersize=3, label=name)
        if len(series) > 1:
            axes.legend(fontsize=8)
        else:
            axes.set_title("".join(series))


def thresholds(path: str | os.PathLike, class_names: Sequence[str], curves: Sequence[Any]) -> None:
    """Plot F1 (solid), precision (dashed) and recall (dotted) over the score, with a dot at the best F1.

    `curves` are those of `evaluation.diagnosis`, one a class; at most ten are drawn.
    """
    with _axes(path, "score", "F1 (—), precision (- -), recall (···)") as axes:
        for name, curve in list(zip(class_names, curves, strict=True))[:10]:
            if not len(curve.scores):
                continue
            (line,) = axes.plot(curve.scores, curve.f1, label=f"{name}  best {curve.best:.3f}")
            axes.plot(curve.scores, curve.precision, "--", color=line.get_color(), linewidth=0.8)
            axes.plot(curve.scores, curve.recall, ":", color=line.get_color(), linewidth=0.8)
            axes.plot([curve.best], [curve.at_best[2]], "o", color=line.get_color())
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        if axes.lines:
            axes.legend(fontsize=8)


def matrix(path: str | os.PathLike, names: Sequence[str], counts: np.ndarray) -> None:
    """Draw counts [N, N] by truth (rows) and prediction (columns), coloured by their part of the row."""
    with _axes(path, "prediction", "label") as axes:
        parts = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(parts, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        places = range(len(names))
        axes.set_xticks(places, names, rotation=45, ha="right", fontsize=7)
        axes.set_yticks(places, names, fontsize=7)
        for row in places if len(names) <= 20 else ():
            for column in places:
                shade = "white" if parts[row, column] > 0.5 else "black"
                text = str(counts[row, column])
                axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=7)


def bars(path: str | os.PathLike, values: Mapping[str, float], y_label: str) -> None:
    """Plot a bar of each value; negative ones, where nothing was labelled, have none."""
    with _axes(path, "", y_label) as axes:
        places = range(len(values))
        axes.bar(places, [max(value, 0) for value in values.values()])
        axes.set_xticks(places, list(values), rotation=45 if len(values) > 4 else 0, ha="right", fontsize=8)


def histogram(path: str | os.PathLike, values: np.ndarray, x_label: str, y_label: str) -> None:
    """Plot how often values [N] occur, in 40 parts of their range."""
    with _axes(path, x_label, y_label) as axes:
        axes.hist(values, bins=40)


@contextmanager
def _axes(path, x_label, y_label):
    from matplotlib.figure import Figure  # draws without a screen and keeps no global state

    figure = Figure(figsize=(6, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    yield axes
    with atomic(path) as temporary:
        figure.savefig(temporary)
