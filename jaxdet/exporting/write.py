"""Export of a detector: the file, its manifest and the table of its check, all of them or none."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxdet.errors import InputError
from jaxdet.exporting import check as checks
from jaxdet.exporting import inputs, manifest, onnx_file, programs, quantised, runtimes, stablehlo_file
from jaxdet.exporting.predictor import FilePredictor
from jaxdet.exporting.programs import Program
from jaxdet.files import atomic
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables

logger = logging.getLogger(__name__)

SUFFIXES = (".onnx", ".stablehlo")
TYPES = ("float32", "float16", "bfloat16")
NUM_EVENTS = 4096


@dataclass(frozen=True)
class Form:
    """Contents of a file beside the model.

    `raw`: outputs of the head instead of boxes. `batch`: number of images, "any" for one that is left to the
    caller; by default 1 in ONNX and any in StableHLO. `dtype`: type of the computation, by default the
    model's; with `int8`, convolutions are quantised. `num_events`: most events of a step.
    """

    raw: bool = False
    batch: int | str | None = None
    dtype: str | None = None
    int8: bool = False
    num_events: int = NUM_EVENTS

    def count(self, is_onnx: bool) -> int | None:
        """Number of images; None leaves it to the caller."""
        batch = (1 if is_onnx else "any") if self.batch is None else self.batch
        return None if batch == "any" else int(batch)


def export(
    path: Path,
    cfg: Any,
    skeleton: Skeleton,
    variables: Variables,
    form: Form,
    *,
    version: str,
    check: bool = True,
    source: Path | None = None,
    licence: str = "not stated",
    measure: Callable[[FilePredictor], float] | None = None,
) -> list[checks.Comparison]:
    """Write a detector for another runtime; see docs/export.md.

    `source` is what the file is compared on: images, or a recording; without it, simulated ones. `measure`
    gives the AP of a predictor on annotated images. A check that fails raises InputError, and nothing is
    kept. Raises InputError as well for a suffix that is not known, a file that exists, and a model or a form
    that the format cannot hold.
    """
    _refuse(path, source)
    _refuse_form(path, cfg, form, check, source)
    is_onnx = path.suffix == ".onnx"
    count = form.count(is_onnx)
    exact = _in_type(cfg, skeleton, "float32") if _in_float32(cfg, form) else skeleton
    reference = program(cfg, exact, variables, form.num_events)
    held, typed = reference, _in_type(cfg, skeleton, form.dtype)
    if not held.state and (count != 1 or typed is not exact):
        held = programs.of_images(typed, variables, image_size(cfg), count)
    described = manifest.of(held, cfg, form.raw, is_onnx, licence, version)
    described["type"] = _type(cfg, form)
    job = _Export(cfg, reference, form, count, source, measure)
    with _folder_beside(path) as folder:
        made = Path(folder) / path.name
        if is_onnx:
            onnx_file.write(made, held, form.raw, {manifest.KEY: json.dumps(described)})
        else:
            stablehlo_file.write(made, held, form.raw)
        if form.int8:
            _quantised(made, job)
        found = _checked(made, job) if check else []
        described["check"] = [comparison.as_json() for comparison in found]
        _keep(made, path, described)
    return found


class _Export(NamedTuple):
    """An export under way: the reference, the form and the data of the check."""

    cfg: Any
    reference: Program
    form: Form
    count: int | None
    source: Path | None
    measure: Callable[[FilePredictor], float] | None


def _type(cfg: Any, form: Form) -> str:
    """Name of the type of the computation, by which differences are judged."""
    return "int8" if form.int8 else form.dtype or cfg.model.get("dtype") or "float32"


def _in_float32(cfg: Any, form: Form) -> bool:
    """A model in half precision is compared in float32; one of events only if it is exported in it."""
    return cfg.model.get("dtype") in TYPES[1:] and (cfg.data.kind != "events" or form.dtype is not None)


def _in_type(cfg: Any, skeleton: Skeleton, dtype: str | None) -> Skeleton:
    """The skeleton of the model that computes in another type."""
    if dtype is None or dtype == cfg.model.get("dtype"):
        return skeleton
    changed = cfg.copy_and_resolve_references()
    with changed.unlocked():
        changed.model.dtype = dtype
    return functional.abstract(lambda: from_config.build(changed, 0))[0]


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


def _refuse_form(path: Path, cfg: Any, form: Form, check: bool, source: Path | None) -> None:
    """Raise InputError for a form that the model or the format does not have."""
    is_onnx = path.suffix == ".onnx"
    if form.dtype not in (None, *TYPES):
        raise InputError(f"--dtype={form.dtype}: expected one of {', '.join(TYPES)}")
    if form.batch not in (None, "any") and not (str(form.batch).isdecimal() and int(form.batch) > 0):
        raise InputError(f"--batch={form.batch}: expected a number of images, or any")
    if cfg.data.kind == "events" and (form.batch or form.int8 or form.dtype in TYPES[1:]):
        raise InputError("--batch, --int8 and half precision are for models of images; this one is of events")
    if is_onnx and (form.dtype or cfg.model.get("dtype")) == "bfloat16":
        raise InputError(
            "bfloat16: ONNX Runtime and OpenVINO have no convolution of it on CPU, so the file could not be "
            "checked; give --dtype=float32, or float16, or write .stablehlo"
        )
    if not form.int8:
        return
    if not is_onnx or (form.dtype or cfg.model.get("dtype")) in TYPES[1:]:
        raise InputError("--int8 is for .onnx files, from float32; name --out .onnx and leave --dtype out")
    if source is None:
        raise InputError("--int8 takes the ranges of values from --images; give some like those of its use")
    if form.raw or not check:
        raise InputError("--int8 is measured by its boxes, so it goes with neither --raw nor --nocheck")


def _folder_beside(path: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for the parts of the file, which goes again; InputError where none can be made."""
    try:
        return tempfile.TemporaryDirectory(".partial", f".{path.stem[:32]}.", path.parent)
    except OSError as error:
        raise InputError(f"{path.parent}: no file can be written there: {error.strerror}") from error


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


def _quantised(made: Path, job: _Export) -> None:
    """Replace a file by its quantised form."""
    images = inputs.images(job.cfg.data, image_size(job.cfg), job.source, inputs.MOST_QUANTISED)
    quantised.quantise(made, inputs.batches(images, job.count))


def _checked(made: Path, job: _Export) -> list[checks.Comparison]:
    found = []
    allowed = checks.TOLERANCES[_type(job.cfg, job.form)]
    own = _average_precision(job, jax.jit(job.reference.detect), 1) if job.measure else None
    for name, exported in runtimes.open_file(made).items():
        given = _given(job)
        is_onnx = made.suffix == ".onnx"
        result = checks.run(job.reference, job.form.raw, name, exported, given, is_onnx, allowed)
        if job.measure:
            result.ap, result.ap_of_jaxdet = _average_precision(job, exported, job.count or 1), own
        found.append(result)
        logger.info("%s", result.line())
    failed = [comparison for comparison in found if not comparison.passed]
    if failed:
        raise InputError(
            f"the exported file differs from jaxdet, so it is not kept: {failed[0].line()}; "
            f"expected: {allowed.line()}"
        )
    return found


def _given(job: _Export) -> Iterator[dict[str, Any]]:
    if job.reference.state:
        return inputs.steps(from_config.geometry(job.cfg), job.form.num_events, job.source)
    return inputs.batches(inputs.images(job.cfg.data, image_size(job.cfg), job.source), job.count)


def _average_precision(job: _Export, run: runtimes.Run, batch: int) -> float:
    assert job.measure is not None
    return job.measure(FilePredictor(job.cfg.data, image_size(job.cfg), run, batch))


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
