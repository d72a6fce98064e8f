"""Metrics of boxes in files, which `predict` or any other tool wrote, in any format."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxdet import class_names as names_of
from jaxdet.data.events import recordings as prepared
from jaxdet.data.images import samples, scenes, sets
from jaxdet.detections import files, store
from jaxdet.errors import InputError
from jaxdet.evaluation import labels as label_sets
from jaxdet.evaluation import protocols
from jaxdet.evaluation.evaluator import evaluate
from jaxdet.evaluation.metrics import Metrics
from jaxdet.evaluation.protocols import Protocol
from jaxdet.files import finished
from jaxdet.formats import coco, names, npy
from jaxdet.structs import Boxes, ReadReport


def of_files(
    detections: str | Path,
    *,
    labels: str | Path | None = None,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    data: Any = None,
    split: str | None = None,
    protocol: str = "hmnet",
    camera: str | None = None,
    backend: str = "pycocotools",
    class_map: Mapping[str, str] | None = None,
) -> Metrics:
    """Metrics of a file or folder of boxes against one kind of labels.

    The labels are COCO `annotations`, YOLO text beside `images` (a folder or list), a folder of `.npy` files
    of recordings (`labels`), or the `split` of a config's `data` block, by default its test split. `protocol`
    and `camera` (see `evaluation.protocols`) apply to recordings. Raises InputError if no labels are given,
    or if they do not belong to the detections.
    """
    if annotations is not None:
        return against_annotations(detections, annotations, backend, class_map)
    if images is None and data is not None and data.kind == "images" and labels is None:
        annotated = samples.annotated_split(data.root, split or data.test_split)
        if annotated is not None:
            return against_annotations(detections, annotated.file, backend, class_map, annotated.part)
    if images is not None or (data is not None and data.kind == "images" and labels is None):
        if data is None:
            raise InputError("--images with YOLO text needs --config, which names the classes")
        class_names = tuple(data.classes)
        if images is not None:
            report = ReadReport()
            items = sets.open_input(images, report)
            items, rows = samples.with_labels(items, len(class_names), report)
        else:
            items, rows, report = samples.open_split(data, split or data.test_split)
        truth = label_sets.of_images(items, rows)
        return against_images(detections, truth, class_names, backend, report)
    starts_us: dict[str, int] = {}
    if labels is not None:
        truth = label_sets.of_files(labels)
    elif data is not None:
        paths = prepared.find(data.root, split or data.test_split)
        opened = [prepared.open_recording(path) for path in paths]
        truth = label_sets.of_recordings(opened)
        starts_us = {recording.name: recording.start_us for recording in opened}
    else:
        raise InputError("--detections needs --labels, --config, --images or --annotations to compare with")
    rules = protocols.for_labels(protocol, truth, camera)
    if data is not None:
        class_names = tuple(data.classes)
    else:
        class_names, rules = _classes_of_camera(truth, rules)
    return against_recordings(detections, truth, rules, class_names, backend, starts_us)


def _classes_of_camera(truth: Sequence[Boxes], protocol: Protocol) -> tuple[tuple[str, ...], Protocol]:
    """Class names that nobody gave, and the protocol for them: those of GEN1, of 1Mpx or of DSEC-Det.

    Of 1Mpx's classes the first three are scored, without those after the last that has a label. eTraM numbers
    its eight classes otherwise, so that a label beyond the first three is not one of the same meaning.
    """
    if protocol.name == "dsec-det":
        return names_of.DSEC_DET, protocol
    if protocol.camera == "gen1":
        return names_of.GEN1, protocol
    num_scored = min(3, max((int(boxes.labels.max()) + 1 for boxes in truth if len(boxes)), default=3))
    class_names = names_of.ONEMPX[:3] if protocol.name == "etram" else names_of.ONEMPX
    return class_names, protocol._replace(scored=class_names[:num_scored])


def against_annotations(
    detections: str | Path,
    annotations: str | Path,
    backend: str = "pycocotools",
    class_map: Mapping[str, str] | None = None,
    part: str = "",
) -> Metrics:
    """Metrics of boxes of images against COCO annotations, over their classes, renamed by `class_map`.

    `part` is one of those into which `scenes` divides the images, "" for all of them.
    """
    known = coco.read_annotations(annotations)
    if class_map:
        targets = [*known.class_names, *class_map.values()]
        known = coco.renamed(known, targets, class_map)
    truth = scenes.chosen(known.frames, part, str(annotations))
    found = files.read(detections, known)
    report = ReadReport()
    report.merge(known.report)
    report.merge(found.report)
    return evaluate(found.frames, truth, "coco", known.class_names, backend, report)


def against_images(
    detections: str | Path,
    truth: Sequence[Boxes],
    class_names: Sequence[str],
    backend: str = "pycocotools",
    report: ReadReport | None = None,
) -> Metrics:
    """Metrics of boxes of images against labelled images."""
    known = coco.Annotations(list(truth), tuple(class_names), names_of.coco_ids(class_names), ReadReport())
    found = files.read(detections, known)
    total = ReadReport()
    for part in (report, found.report):
        if part is not None:
            total.merge(part)
    return evaluate(found.frames, truth, "coco", class_names, backend, total)


def against_recordings(
    detections: str | Path,
    truth: Sequence[Boxes],
    protocol: str | Protocol,
    class_names: Sequence[str],
    backend: str = "pycocotools",
    starts_us: Mapping[str, int] | None = None,
) -> Metrics:
    """Metrics of boxes of recordings: a folder of `.npy` files, one each, or a file of boxes with times.

    `starts_us` are the starts of recordings, in the clock of their camera, from which the times of `truth`
    count; those of the detections are of the clock. Raises InputError if one side lacks a recording, with its
    name, or if boxes have no time.
    """
    path = Path(detections)
    recordings = {boxes.source for boxes in truth}
    if path.is_dir():
        frames = _from_start(_of_folder(path, recordings), starts_us)
        return evaluate(frames, truth, protocol, class_names, backend)
    if path.suffix in (".h5", ".hdf5"):
        with store.read(path) as reader:
            frames = _from_start(_of_store(path, reader, recordings), starts_us)
            return evaluate(frames, truth, protocol, class_names, backend)
    found = files.read(path)
    frames = sorted(
        found.frames, key=lambda boxes: boxes.source
    )  # stable: keeps the order within a recording
    timed = [boxes for boxes in frames if boxes.time_us is not None]
    untimed = next((boxes for boxes in frames if boxes.time_us is None), None)
    if untimed is not None:
        raise InputError(
            f"{path}: {names.file_name(untimed)} has no time, which boxes of recordings need; "
            "expected .h5, .npy, .npz, .csv or .json with times"
        )
    # Some formats cannot show that a recording without boxes was processed.
    absent = sorted(recordings - {npy.recording_name(boxes.source) for boxes in timed})
    if timed and len(absent) == len(recordings):
        raise InputError(
            f"{path}: boxes of {timed[0].source}, which has no labels; expected those of {absent[0]}"
        )
    everything = [replace(boxes, source=npy.recording_name(boxes.source)) for boxes in timed]
    everything += [Boxes.none(source=name) for name in absent]
    frames = _from_start(everything, starts_us)
    return evaluate(frames, truth, protocol, class_names, backend, found.report)


def _from_start(frames: Iterable[Boxes], starts_us: Mapping[str, int] | None) -> Iterator[Boxes]:
    """Frames with times from the start of their recording."""
    for boxes in frames:
        start_us = (starts_us or {}).get(boxes.source, 0)
        if start_us and boxes.time_us is not None:
            boxes = replace(boxes, time_us=boxes.time_us - start_us)
        yield boxes


def _of_folder(path: Path, recordings: set[str]) -> Iterator[Boxes]:
    tables = finished(path.glob("*.npy"), path)
    by_name = {_name_of_table(table, recordings): table for table in tables}
    if len(by_name) < len(tables):
        raise InputError(f"{path}: two files belong to one recording; expected one file per recording")
    _check_names(path, by_name, recordings)
    for name in sorted(by_name):
        yield from label_sets.of_table(npy.read_table(by_name[name]), name, str(by_name[name]))


def _name_of_table(path: Path, recordings: set[str]) -> str:
    """Recording of a file of detections: `a` of `a_td.npy` and of `a_results_bbox.npy`, as the toolbox's."""
    name = npy.recording_name(path)
    plain = name.removesuffix("_results")
    return plain if name not in recordings and plain in recordings else name


def _of_store(path: Path, reader: store.DetectionsReader, recordings: set[str]) -> Iterator[Boxes]:
    if reader.key != "t_us":
        raise InputError(
            f"{path}: detections of images, expected those of recordings; "
            "give --annotations to compare images"
        )
    by_name = {npy.recording_name(f"{name}.npy"): name for name in reader.names}
    _check_names(path, by_name, recordings)
    for name, group in by_name.items():
        frames = reader.frames(group)
        yield from (replace(boxes, source=name) for boxes in frames)
        if not frames:
            yield Boxes.none(source=name)


def _check_names(path, found, recordings: set[str]):
    for name in sorted(recordings):
        if name not in found:
            raise InputError(
                f"{path}: no detections for {name}, expected {name}_td.npy; found {len(found)} recordings"
            )
    for name in sorted(found):
        if name not in recordings:
            raise InputError(f"{path}: detections for {name}, but no labels; expected {name}_bbox.npy")
