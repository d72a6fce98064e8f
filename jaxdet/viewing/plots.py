"""Plots of curves: precision over recall, and any value over time. matplotlib is imported when needed."""

import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager

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
