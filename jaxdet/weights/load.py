"""`--weights` and `--init`: a converted folder, a training run, or a released file."""

import os
from pathlib import Path

import jax
import numpy as np

from jaxdet import folders
from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.weights import checkpoint, rules
from jaxdet.weights.identify import identify
from jaxdet.weights.rules import Rules, WeightsReport
from jaxdet.weights.torch import file, state_dict


def load(
    path: str | os.PathLike, family: Rules, target: Variables, lenient: bool = False
) -> tuple[Variables, WeightsReport]:
    """Weights at `path` in the shape of `target` (arrays or shapes), as NumPy arrays, and a report.

    `path` is a folder of `convert` or `soup`, the folder of a run (its newest checkpoint;
    `RUN/checkpoints/STEP` for another), or a torch file. Averaged weights are preferred where a run has them.
    `lenient`, for initialisation, keeps `target`'s arrays where the file has none of that name and shape.
    Raises InputError, in one line, also for weights that are NaN or infinite.
    """
    path = check_there(path)
    try:
        if path.is_file():
            contents = state_dict.find(file.load(path))
            found = rules.from_torch(contents.state_dict, family, target, lenient)
            found[1].num_classes = _num_classes(contents)
        else:
            variables, config = load_folder(path)
            found = rules.fitted(variables, family.name, target, lenient)
            found[1].sensor = _sensor(config)
            found[1].num_classes = config.get("model", {}).get("num_classes")
        check_finite(found[0])
        return found
    except InputError as error:
        text = str(error)
        raise InputError(text if str(path) in text else f"{path}: {text}") from error


def check_there(path: str | os.PathLike) -> Path:
    """The path of weights; InputError if nothing is there."""
    path = Path(path)
    if not path.exists():
        kept = folders.aside(path)
        more = (
            f"; a save that was cut short left the older weights in {kept}, rename it"
            if kept.exists()
            else ""
        )
        raise InputError(
            f"{path} does not exist; expected a weights folder, a run or a .pth or .pt file{more}"
        )
    return path


def _sensor(config: dict) -> tuple[int, int, int] | None:
    """Height and width that an HMNet sees and the side of its cells, pixels; None where it is not stored."""
    model, data = config.get("model", {}), config.get("data", {})
    size = model.get("image_size") or (data.get("height"), data.get("width"))
    return None if None in size else (int(size[0]), int(size[1]), int(model.get("window", 4)))


def _num_classes(contents: state_dict.Contents) -> int | None:
    try:
        return identify(contents).num_classes
    except InputError:  # a part of a model is a fair start
        return None


def check_finite(variables: Variables) -> None:
    """Raise InputError that names the first array with a NaN or an infinite number, of those in memory."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    arrays = [(path, leaf) for path, leaf in leaves if isinstance(leaf, (np.ndarray, jax.Array))]
    spoilt = [path for path, leaf in arrays if not np.isfinite(np.asarray(leaf, np.float32)).all()]
    if spoilt:
        raise InputError(
            f"{len(spoilt)} of {len(arrays)} arrays of weights hold NaN or infinity, "
            f"first {jax.tree_util.keystr(spoilt[0], simple=True, separator='.')}; take an earlier checkpoint"
        )


def load_folder(path: str | os.PathLike) -> tuple[Variables, dict]:
    """Weights and config of a weights folder, a run, or one checkpoint of a run."""
    path = Path(path)
    if checkpoint.is_weights(path):
        return checkpoint.load_weights(path)
    run = run_of(path)
    if run is not None:
        return checkpoint.load_run(*run)
    raise InputError(f"{path} holds no weights; expected a folder made by convert, soup or train")


def run_of(path: str | os.PathLike) -> tuple[Path, int | None] | None:
    """Folder of the run and step (None: newest) that `path` names; None if it is not a run."""
    path = Path(path)
    if path.parent.name == "checkpoints" and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return (path, None) if (path / "checkpoints").is_dir() else None
