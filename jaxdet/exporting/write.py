"""Export of a detector: the file, its manifest and the table of its check, all of them or none."""

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from jaxdet.errors import InputError
from jaxdet.exporting import check as checks
from jaxdet.exporting import inputs, manifest, onnx_file, programs, runtimes, stablehlo_file
from jaxdet.exporting.programs import Program
from jaxdet.files import atomic
from jaxdet.models import from_config
from jaxdet.nn.functional import Skeleton, Variables

logger = logging.getLogger(__name__)

SUFFIXES = (".onnx", ".stablehlo")
NUM_EVENTS = 4096


def export(
    path: Path,
    cfg: Any,
    skeleton: Skeleton,
    variables: Variables,
    *,
    version: str,
    raw: bool = False,
    check: bool = True,
    source: Path | None = None,
    num_events: int = NUM_EVENTS,
    licence: str = "not stated",
) -> list[checks.Comparison]:
    """Write a detector for another runtime; see docs/export.md.

    `source` is what the file is compared on: images, or a recording; without it, simulated ones. A check that
    fails raises InputError, and nothing is kept. Raises InputError as well for a suffix that is not known, a
    file that exists, and a model that the format cannot hold.
    """
    _refuse(path, source)
    is_onnx = path.suffix == ".onnx"
    whole = program(cfg, skeleton, variables, num_events)
    held = whole if is_onnx or whole.state else _any_batch(cfg, skeleton, variables)
    described = manifest.of(held, cfg, raw, is_onnx, licence, version)
    with _folder_in(path.parent) as folder:
        made = Path(folder) / path.name
        if is_onnx:
            onnx_file.write(made, held, raw, {manifest.KEY: json.dumps(described)})
        else:
            stablehlo_file.write(made, held, raw)
        found = _checked(made, cfg, whole, raw, source, num_events) if check else []
        described["check"] = [comparison.as_json() for comparison in found]
        _keep(made, path, described)
    return found


def _refuse(path: Path, source: Path | None) -> None:
    """Raise InputError before any work for what cannot succeed."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}")
    for taken in (path, manifest.beside(path), path.with_name(path.name + ".data")):
        if taken.exists():
            raise InputError(f"{taken} exists; remove it, or choose another name")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; make it first")
    if source is not None and not source.exists():
        raise InputError(f"{source}: no such file; expected images or a recording to compare on")
    runtimes.need(*(("onnx", "onnxruntime") if path.suffix == ".onnx" else ("flatbuffers",)))


def _folder_in(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for the parts of the file, which goes again; InputError where none can be made."""
    try:
        return tempfile.TemporaryDirectory(dir=parent, prefix=".export")
    except OSError as error:
        raise InputError(f"{parent}: no file can be written there: {error.strerror}") from error


def image_size(cfg: Any) -> tuple[int, int]:
    """Height and width of a network's images: the config's, rounded up to whole cells."""
    stride = int(cfg.data.stride)
    size = -(-int(cfg.data.size) // stride) * stride
    return size, size


def program(cfg: Any, skeleton: Skeleton, variables: Variables, num_events: int) -> Program:
    """The function that a file of this detector holds: one image, or a step of up to `num_events` events."""
    if cfg.data.kind == "events":
        return programs.of_events(skeleton, variables, num_events)
    return programs.of_images(skeleton, variables, image_size(cfg))


def _any_batch(cfg: Any, skeleton: Skeleton, variables: Variables) -> Program:
    return programs.of_images(skeleton, variables, image_size(cfg), stablehlo_file.any_batch())


def _checked(made: Path, cfg, whole: Program, raw: bool, source, num_events: int) -> list[checks.Comparison]:
    found = []
    for name, exported in runtimes.open_file(made).items():
        if cfg.data.kind == "events":
            given = inputs.steps(from_config.geometry(cfg), num_events, source)
        else:
            given = ({"images": a} for a in inputs.images(cfg.data, image_size(cfg), source))
        found.append(checks.run(whole, raw, name, exported, given, made.suffix == ".onnx"))
        logger.info("%s", found[-1].line())
    failed = [comparison for comparison in found if not comparison.passed]
    if failed:
        raise InputError(
            f"the exported file differs from jaxdet, so it is not kept: {failed[0].line()}; "
            f"allowed: {100 * (1 - checks.MATCHED):.1f} % of boxes, {checks.RELATIVE:g} of raw outputs and "
            "states"
        )
    return found


def _keep(made: Path, path: Path, described: dict[str, Any]) -> None:
    """Put the parts in place; the file itself comes last."""
    for part in (made.with_name(made.name + ".data"), made):
        if not part.exists():
            continue
        if part == made:
            with atomic(manifest.beside(path)) as temporary:
                temporary.write_text(json.dumps(described, indent=2) + "\n")
        with atomic(path.with_name(part.name)) as temporary:
            temporary.write_bytes(part.read_bytes())
