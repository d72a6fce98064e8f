"""Metrics of boxes that lie on disk, written by `predict` or by any other tool."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxdet.detections import foreign, store
from jaxdet.errors import InputError
from jaxdet.evaluation import coco, protocols
from jaxdet.evaluation.protocols import Protocol, Rows


def label_files(folder: str | os.PathLike) -> dict[str, Rows]:
    """Boxes of every `.npy` label file in `folder`, by recording name."""
    paths = sorted(Path(folder).glob("*_bbox.npy")) or sorted(Path(folder).glob("*.npy"))
    if not paths:
        raise InputError(f"{folder}: no .npy label files; expected one per recording")
    return {
        foreign.recording_name(path): protocols.rows(foreign.read_table(path), str(path)) for path in paths
    }


def recordings(
    detections: str | os.PathLike,
    labels: Mapping[str, Rows],
    protocol: Protocol,
    class_names: Sequence[str],
    backend: str = "pycocotools",
) -> coco.Metrics:
    """Metrics of a folder of `.npy` files, one per recording, or of a detections file, against `labels` by name.

    A recording that one side lacks is an InputError naming it.
    """
    return protocols.evaluate(_pairs(Path(detections), labels), protocol, class_names, backend)


def images(
    detections: str | os.PathLike, annotations: str | os.PathLike, backend: str = "pycocotools"
) -> coco.Metrics:
    """Metrics of COCO results or of a detections file (frames by file name) against COCO annotations."""
    labels = foreign.read_coco_labels(annotations)
    path = Path(detections)
    if path.suffix == ".json":
        found = foreign.read_coco_results(path, labels)
    else:
        found = _named_frames(path, labels)
    return coco.evaluate(labels.boxes, found, len(labels.image_ids), labels.class_names, backend)


def _pairs(path: Path, labels: Mapping[str, Rows]) -> Iterator[tuple[Rows, Rows]]:
    if path.is_dir():
        files = sorted(p for p in path.glob("*.npy"))
        by_name = {foreign.recording_name(p): p for p in files}
        if len(by_name) < len(files):
            raise InputError(f"{path}: two files belong to one recording; expected one each")
        _check_names(path, by_name, labels)
        for name in sorted(labels):
            yield labels[name], protocols.rows(foreign.read_table(by_name[name]), str(by_name[name]))
        return
    with store.read(path) as reader:
        if reader.key != "t_us":
            raise InputError(f"{path}: detections of images, not of recordings; give --annotations")
        _check_names(path, {foreign.recording_name(f"{name}.npy"): name for name in reader.names}, labels)
        for name in reader.names:
            table = foreign.released(reader.clip(name))
            yield labels[foreign.recording_name(f"{name}.npy")], protocols.rows(table, name)


def _check_names(path, found, labels):
    for name in sorted(labels):
        if name not in found:
            raise InputError(
                f"{path}: no detections for {name}, expected {name}_td.npy; found {len(found)} recordings"
            )
    for name in sorted(found):
        if name not in labels:
            raise InputError(f"{path}: detections for {name}, but no labels; expected {name}_bbox.npy")


def _named_frames(path: Path, labels: foreign.CocoLabels) -> coco.Boxes:
    index = {name: i for i, name in enumerate(labels.file_names)}
    index |= {Path(name).stem: i for name, i in index.items()}
    tables = []
    with store.read(path) as reader:
        if reader.class_names != labels.class_names:
            raise InputError(
                f"{path}: {len(reader.class_names)} classes, the annotations have {len(labels.class_names)} or other "
                "names; expected the same"
            )
        for _, clip in reader:
            unknown = [key for key in clip.keys if key not in index]
            if unknown:
                raise InputError(f"{path}: image {unknown[0]} is not among the {len(index)} annotated ones")
            image = np.repeat([index[key] for key in clip.keys], np.diff(clip.starts))
            xywh = np.concatenate((clip.boxes[:, :2], clip.boxes[:, 2:] - clip.boxes[:, :2]), 1)
            tables.append(coco.boxes(image, xywh, clip.labels, clip.scores))
    return coco.concatenate(tables)
