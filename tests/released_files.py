"""State dicts as released files hold them: of the manifests, without memory, and of the golden folder."""

import golden_data
import numpy as np
import pytest

from jaxdet.weights.torch import file as torch_file
from jaxdet.weights.torch import state_dict
from jaxdet.weights.torch.state_dict import Contents

HMNET = ["B1", "L1", "B3", "L3"]
YOLOX = ["nano", "tiny", "s", "m", "l", "x"]
YOLOV4 = ["csp_nc4", "p5_nc4", "p6_nc4", "p7_nc4", "p6_nc80", "p7_nc80"]
ALL = [*(("hmnet", n) for n in HMNET), *(("yolox", n) for n in YOLOX), *(("yolov4", n) for n in YOLOV4)]
PT = [
    "last_059.pt",
    "last_059_legacy_format.pt",
    "last_059_strip.pt",
    "last_059_syncbn.pt",
    "last_069.pt",
    "last_079.pt",
    "plain_state_dict.pt",
    "soup.pt",
]


def of_manifest(family: str, name: str, **extras) -> Contents:
    """Every key of a manifest with its shape and one number everywhere; the anchors are the released ones."""
    entry = golden_data.manifest(family)[name]
    file = {k: np.broadcast_to(np.ones((), dtype), shape) for k, shape, dtype in entry["state_dict"]}
    for key in [k for k in file if k.endswith(".anchor_grid")]:
        file[key] = np.asarray(entry["anchor_grid_px"], np.float32).reshape(file[key].shape)
    return Contents(file, "bare state dict", extras)


def of_file(name: str) -> Contents:
    """A file of the golden folder, such as `pt/soup.pt`."""
    path = golden_data.path(name)
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return state_dict.find(torch_file.load(path))


def renumbered(contents: Contents, old: str, new: str) -> Contents:
    """The same with `old` in keys replaced by `new`."""
    return Contents({k.replace(old, new): a for k, a in contents.state_dict.items()}, contents.layout)


def changed(contents: Contents, **shapes: tuple[int, ...]) -> Contents:
    """The same with other shapes for all keys that end in `.NAME`, dots of NAME written as __."""
    file = dict(contents.state_dict)
    for name, shape in shapes.items():
        for key in [k for k in file if k.endswith("." + name.replace("__", "."))]:
            file[key] = np.broadcast_to(file[key].reshape(-1)[:1], shape)
    return Contents(file, contents.layout, contents.extras)
