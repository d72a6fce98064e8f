"""Measure a detector, or boxes that any tool has written, with COCO's average precision.

    python -m jaxdet.evaluate --config=configs/gen1_hmnet.py:b3 --weights=gen1_hmnet_B3_tbptt.pth
    python -m jaxdet.evaluate --detections=predictions --labels=data/gen1_source/test
    python -m jaxdet.evaluate --detections=results.json --annotations=instances_val2017.json
    python -m jaxdet.evaluate --config=configs/coco_yolox.py:nano --weights=yolox_nano.pth \\
        --images=val2017 --annotations=instances_val2017.json
    python -m jaxdet.evaluate --config=configs/ltd_yolov4.py:p6 --weights=soup.pt --images=data/ltd/Sep/images
    python -m jaxdet.evaluate --weights=runs/day_p6 --split=Sep/images

Protocols for recordings: `hmnet`, the released evaluator's (the nearest time stamp, closer than 25 ms); `rvt` and
`toolbox`, all boxes within 50 ms. `--detections` is a folder of one .npy per recording, a detections file of predict,
or COCO results. Without --images the --split of the config's data set is measured. Images without --annotations have YOLO text in labels/ beside images/; precision, recall and AP are
then also given as Seq-YOLO counts them. Annotated images that are missing take no part and end in exit status 1 unless
--allow_missing, unreadable ones count as images without boxes and end in 1. The 12 numbers and AP per class are printed, and written with a precision-recall picture to --out.
"""

import json
import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from jaxdet import cli, distributed
from jaxdet.data.events import recordings
from jaxdet.data.images import samples, sets
from jaxdet.errors import InputError
from jaxdet.evaluation import coco, protocols, stored
from jaxdet.evaluation import images as image_evaluation
from jaxdet.evaluation import recordings as on_recordings
from jaxdet.files import atomic
from jaxdet.inference import folded, restore
from jaxdet.inference.events import Predictor
from jaxdet.inference.images import VIEWS, ImagePredictor, ItemPredictor
from jaxdet.viewing import plots

logger = logging.getLogger(__name__)


def _flags(flags: cli.Flags) -> None:
    flags.config_file("config of model and data; default: the one stored with --weights", stored=True)
    flags.string("weights", None, "a run, a converted folder, or a released .pth file")
    flags.string("split", None, "split of the data set; default: the config's test split")
    flags.string(
        "detections", None, "boxes to measure instead of a model's: folder of .npy, .h5, or COCO results"
    )
    flags.string("labels", None, "folder of _bbox.npy label files; default: the config's recordings")
    flags.string("images", None, "images: folder of the annotated ones, or a folder or list with YOLO labels")
    flags.string("annotations", None, "COCO annotations, for --images or for --detections of images")
    flags.boolean(
        "allow_missing", False, "annotated images that are not there are no reason for an error status"
    )
    flags.choice("tta", "none", list(VIEWS), "views of an image that are joined: mirrored, or scaled as well")
    flags.choice("protocol", "hmnet", list(protocols.PROTOCOLS), "which boxes of a recording are compared")
    flags.choice("backend", "pycocotools", ["pycocotools", "faster"], "faster needs faster-coco-eval")
    flags.boolean("fast", False, "Winograd convolutions, for CPU: faster, boxes move slightly")
    flags.boolean("full", False, "run neck and head at every step: the same numbers, slower")
    flags.integer("lanes", 1, "recordings side by side")
    flags.string("out", "evaluation.json", "file for the numbers; the picture lies beside it as .png")


def _run(flags: cli.Flags) -> None:
    if bool(flags.weights) == bool(flags.detections):
        raise InputError("give --weights to measure a model, or --detections to measure boxes")
    began = time.perf_counter()
    report = _Report()
    metrics = _of_model(flags, report) if flags.weights else _of_boxes(flags)
    if distributed.is_main():
        _tell(flags, metrics, report, time.perf_counter() - began)
    distributed.barrier()
    if report.problems:
        raise InputError("; ".join(report.problems))


def _tell(flags, metrics: coco.Metrics, report: "_Report", took_s: float) -> None:
    logger.info(
        "%d images, %d labels, %d detections, %.1f s",
        metrics.num_images,
        metrics.num_truth,
        metrics.num_detections,
        took_s,
    )
    print(coco.text(metrics))
    if report.text:
        print(report.text)
    out = Path(flags.out)
    settings = {k: getattr(flags, k) for k in ("weights", "detections", "protocol", "split")}
    with atomic(out) as temporary:
        temporary.write_text(json.dumps({**coco.as_json(metrics), "settings": settings}, indent=2) + "\n")
    plots.precision_recall(out.with_suffix(".png"), metrics)


@dataclass
class _Report:
    """What is said after the numbers."""

    text: str = ""
    problems: list[str] = field(default_factory=list)


def _of_model(flags, report: _Report) -> coco.Metrics:
    cfg, skeleton, variables = restore.load_model(flags.config, flags.weights, flags.override)
    if cfg.data.kind == "images":
        predictor = ItemPredictor(cfg.data, ImagePredictor(skeleton, variables, VIEWS[flags.tta], flags.fast))
        return _of_images(flags, predictor, cfg.data, report)
    skeleton, variables = folded.prepare(skeleton, variables, flags.fast)
    return on_recordings.evaluate(
        Predictor(skeleton, variables, flags.lanes, flags.lanes),
        _recordings(cfg, flags.split),
        tuple(cfg.data.event_buckets),
        protocols.PROTOCOLS[flags.protocol],
        tuple(cfg.data.classes),
        flags.full,
        flags.backend,
    )


def _of_images(flags, predictor: ItemPredictor, data, report: _Report) -> coco.Metrics:
    names = tuple(data.classes)
    if flags.annotations and not flags.images:
        raise InputError("--annotations without --images; which folder are the annotated images in?")
    if not flags.images:
        if "root" not in data:
            raise InputError("missing --images; the config names no data set")
        split = flags.split or data.test_split
        labelled = samples.open_set(data.root, split, names)
        result = image_evaluation.with_labels(predictor, *labelled, names, flags.backend)
    elif flags.annotations:
        result = image_evaluation.annotated(predictor, flags.images, flags.annotations, names, flags.backend)
    else:
        items = sets.open_input(flags.images)
        result = image_evaluation.labelled(predictor, items, names, flags.backend)
    if result.released is not None:
        report.text = image_evaluation.released_text(result.released, names)
    if result.num_missing:
        line = f"{result.num_missing} annotated images are not in {flags.images}"
        logger.warning("%s", line)
        if not flags.allow_missing:
            report.problems.append(f"{line} and took no part; add them or give --allow_missing")
    if result.num_skipped:
        report.problems.append(f"{result.num_skipped} images could not be read, named above")
    return result.metrics


def _of_boxes(flags) -> coco.Metrics:
    if flags.annotations:
        return stored.images(flags.detections, flags.annotations, flags.backend)
    if flags.labels:
        labels = stored.label_files(flags.labels)
    elif flags.config is not None:
        labels = {r.name: protocols.rows(r.labels, r.name) for r in _recordings(flags.config, flags.split)}
    else:
        raise InputError("--detections needs --labels, --config or --annotations to compare with")
    names = protocols.CLASS_NAMES if flags.config is None else tuple(flags.config.data.classes)
    return stored.recordings(
        flags.detections, labels, protocols.PROTOCOLS[flags.protocol], names, flags.backend
    )


def _recordings(cfg, split):
    paths = recordings.find(cfg.data.root, split or cfg.data.test_split)
    return [recordings.open_recording(path) for path in paths]


main = cli.command(_flags, _run, __doc__, several_processes=True)

if __name__ == "__main__":
    sys.exit(main())
