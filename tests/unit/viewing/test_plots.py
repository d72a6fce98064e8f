"""Curves as pictures."""

import cv2
import numpy as np

from jaxdet.viewing import plots


def test_plots_are_pictures(tmp_path):
    precision = np.linspace(1, 0, 101)[None, :, None] * np.ones((10, 1, 2))
    precision[:, :, 1] = -1  # nothing was labelled
    per_class = np.array([0.5, -1.0])
    plots.precision_recall(tmp_path / "pr.png", ["car", "pedestrian"], precision, 0.5, per_class, per_class)
    plots.lines(tmp_path / "loss.png", {"loss": ([1, 2, 3], [3.0, 2.0, 1.5])}, "step", "loss")
    for name in ("pr.png", "loss.png"):
        assert cv2.imread(str(tmp_path / name)).std() > 5  # not blank
