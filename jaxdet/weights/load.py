"""`--weights` and `--init`: a converted folder, a training run, or a released file."""

import os
from pathlib import Path

from jaxdet import folders
from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.weights import checkpoint, rules
from jaxdet.weights.rules import Rules, WeightsReport
from jaxdet.weights.torch import file, state_dict


def load(
    path: str | os.PathLike, family: Rules, target: Variables, lenient: bool = False
) -> tuple[Variables, WeightsReport]:
    """Weights at `path` in the shape of `target` (arrays or shapes), as NumPy arrays, and a report.

    `path` is a folder of `convert` or `soup`, the folder of a run (its newest checkpoint;
    `RUN/checkpoints/STEP` for another), or a torch file. Averaged weights are preferred where a run has them.
    `lenient`, for initialisation, keeps `target`'s arrays where the file has none of that name and shape.
    Raises InputError, in one line.
    """
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
    try:
        if path.is_file():
            contents = state_dict.find(file.load(path))
            return rules.from_torch(contents.state_dict, family, target, lenient)
        variables, _ = load_folder(path)
        return rules.fitted(variables, family.name, target, lenient)
    except InputError as error:
        text = str(error)
        raise InputError(text if str(path) in text else f"{path}: {text}") from error


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
