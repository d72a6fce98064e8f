"""Released weights that were trained on COCO, by the size of a model: `--init=coco`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdet.errors import InputError
from jaxdet.model_sizes import YOLOV4_SIZES, YOLOX_SIZES


def file_name(model: Mapping[str, Any]) -> str | None:
    """Name under which the weights of a model block are released; None if it is of no released size."""
    if model["name"] == "yolox":
        same = (s for s, table in YOLOX_SIZES.items() if _same(model, table, {"depthwise": False}))
        return next((f"yolox_{size}.pth" for size in same), None)
    if model["name"] == "yolov4":
        # Anchors are no weights: a set may have its own.
        tables = {s: {k: v for k, v in t.items() if k != "anchors"} for s, t in YOLOV4_SIZES.items()}
        rest = {"width": 1.0, "depth": 1.0, "neck_depths": (3, 3)}
        return next(
            (f"yolov4-{size}.pt" for size, table in tables.items() if _same(model, table, rest)), None
        )
    return None


def _same(model: Mapping[str, Any], table: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    wanted = {**default, **table}
    return all(_plain(model.get(key, default.get(key))) == _plain(value) for key, value in wanted.items())


def _plain(value: Any) -> Any:
    """Lists of stored configs as the tuples of files."""
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def find(model: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Path:
    """The released file for a model block.

    It is looked for in the folder that JAXDET_WEIGHTS names, in `weights` of the working folder, in the
    working folder and in ~/.cache/jaxdet/weights. Nothing is downloaded. Raises InputError, which names the
    file and the folders, where there is none.
    """
    name = file_name(model)
    if name is None:
        raise InputError(
            f"--init=coco: this {model['name']} is of no size with released weights; give a file as --init"
        )
    named = [environ["JAXDET_WEIGHTS"]] if environ.get("JAXDET_WEIGHTS") else []
    folders = [Path(p) for p in (*named, "weights", ".", os.path.expanduser("~/.cache/jaxdet/weights"))]
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if found is None:
        places = ", ".join(str(folder) for folder in folders)
        raise InputError(
            f"--init=coco: no {name} in {places}; download it from its authors' release into one of them, "
            "or give its path as --init"
        )
    return found
