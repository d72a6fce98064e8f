"""YOLOv4's names: the released files number the layers of one long list, ours are named by purpose."""

import re
from collections.abc import Sequence

import numpy as np

from jaxdet.errors import InputError
from jaxdet.weights.rules import Rules, StateDict, in_order

Anchors = Sequence[Sequence[Sequence[float]]]


def layers(num_stages: int, num_levels: int, stem: bool = True) -> list[str | None]:
    """Module path of every layer in the order of the released files; None for those without weights.

    `stem` tells whether a layer at full resolution comes before the stages.
    """
    out: list[str | None] = ["backbone.stem"] if stem else []
    for i in range(num_stages):
        out += [f"backbone.stages.{i}.down", f"backbone.stages.{i}.block"]
    out += ["neck.spp"]
    for i in reversed(range(num_levels - 1)):
        step = f"neck.top_down.{i}"
        out += [f"{step}.reduce", None, f"{step}.route", None, f"{step}.merge"]
    out += ["neck.out.0"]
    for i in range(num_levels - 1):
        step = f"neck.bottom_up.{i}"
        out += [f"{step}.down", None, f"{step}.merge", f"neck.out.{i + 1}"]
    return [*out, "head"]


def rules(num_classes: int, num_stages: int, anchors: Anchors, stem: bool = True) -> Rules:
    """Rules of the YOLOv4 with these anchors [levels][anchors][2] (pixels); the last stages feed the levels.

    Files hold the anchors in pixels and in cells; both are compared with the ones given, and written back.
    """
    paths = layers(num_stages, len(anchors), stem)
    last = len(paths) - 1
    pairs = [(f"model.{i}.", f"{path}.") for i, path in enumerate(paths) if path]
    pairs[-1] = (f"model.{last}.m.", "head.preds.")
    strides = 2.0 ** np.arange(num_stages - len(anchors) + 1, num_stages + 1)
    pixels = np.asarray(anchors, np.float32)
    buffers = {
        f"model.{last}.anchors": pixels / strides.reshape(-1, 1, 1).astype(np.float32),
        f"model.{last}.anchor_grid": pixels.reshape(len(anchors), 1, -1, 1, 1, 2),
    }

    def derived(_: StateDict) -> StateDict:
        return dict(buffers)

    def check(state_dict: StateDict) -> None:
        found = head_of(state_dict)
        if found is not None and found[0] != num_classes:
            raise InputError(
                f"the file detects {found[0]} classes, the configuration {num_classes}; set model.num_classes"
            )

    return Rules(
        name=f"YOLOv4 with {num_stages} stages and {len(anchors)} levels",
        keys=(*((f"^{re.escape(key)}", path) for key, path in pairs), (r"\.bn\.", ".norm.")),
        inverse=(*((f"^{re.escape(path)}", key) for key, path in pairs), (r"\.norm\.", ".bn.")),
        ignored=((rf"model\.{last}\.anchor(s|_grid)", "compared with the configuration"),),
        derived=derived,
        check=check,
        order=in_order("model anchors anchor_grid conv cv1 cv2 cv3 cv4 cv5 cv6 bn cv7 m"),
    )


def head_of(state_dict: StateDict) -> tuple[int, list[list[list[float]]]] | None:
    """Class count and anchors in pixels that a released file was made with; None if it is not a YOLOv4."""
    grids = [key for key in state_dict if re.fullmatch(r"model\.\d+\.anchor_grid", key)]
    if len(grids) != 1:
        return None
    grid = state_dict[grids[0]].astype(np.float64)
    prefix = grids[0].removesuffix("anchor_grid")
    outputs = state_dict[f"{prefix}m.0.bias"].shape[0]
    return outputs // grid.shape[2] - 5, grid.reshape(grid.shape[0], grid.shape[2], 2).tolist()
