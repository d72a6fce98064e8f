"""Measure a detector, or boxes that any tool has written, by COCO's average precision.

    python -m jaxdet.evaluate --config=configs/gen1_hmnet.py:b3 --weights=gen1_hmnet_B3_tbptt.pth
    python -m jaxdet.evaluate --detections=predictions --labels=data/gen1_source/test
    python -m jaxdet.evaluate --detections=results.json --annotations=instances_val2017.json
    python -m jaxdet.evaluate --config=configs/coco_yolox.py:nano --weights=yolox_nano.pth \\
        --images=val2017 --annotations=instances_val2017.json
    python -m jaxdet.evaluate --config=configs/ltd_yolov4.py:p6 --weights=soup.pt --images=data/ltd/Sep/images
    python -m jaxdet.evaluate --weights=runs/day_p6 --split=Sep/images
    python -m jaxdet.evaluate --metric=ltdv2 --detections=submission.json --annotations=Valid.json

Protocols for recordings: `hmnet`, of the released evaluator (the nearest time stamp, closer than 25 ms);
`toolbox` and `window50`, all boxes within 50 ms; `rvt` and `etram`, one output per label time, at times on
RVT's grid; `dsec-det`, one output per label time, boxes of all sizes. Sizes that are too small depend on
--camera; the line with AP says what was scored. Images are compared one by one, as in COCO.

--detections is a file of boxes of any format that predict writes, COCO results of any tool, a folder with a
.npy per recording, or a folder of YOLO text. The same boxes give the same numbers as with --weights. Labels
are COCO --annotations, YOLO text in labels/ beside --images, a folder of .npy (--labels), or else the --split
of the config's data set. Images are matched by path, by the id of the COCO file, or by a name that only one
image has; classes by name. With --weights and YOLO text, precision, recall and AP are also given as Seq-YOLO
computes them.

Annotated images that are missing are left out and end in exit status 1 unless --allow_missing; unreadable
images count as images without boxes and end in exit status 1. One line reports what was left out. The 12
numbers and AP per class are printed, and written to --out with a picture of the precision-recall curves.
--report=DIR writes report.html: curves, best score of each class, confusion, AP by size, month, hour or
recording, errors by kind with the AP50 that they cost, and the worst pictures; the page needs no network.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from jaxdet import api, cli, distributed, reports
from jaxdet.data.images import samples
from jaxdet.errors import InputError
from jaxdet.evaluation import ltdv2_board, protocols
from jaxdet.evaluation.diagnosis import diagnose
from jaxdet.evaluation.of_files import of_files
from jaxdet.evaluation.of_weights import Evaluation, of_images, of_recordings
from jaxdet.files import atomic, stamped
from jaxdet.inference.images import VIEWS
from jaxdet.viewing import plots

logger = logging.getLogger(__name__)


def _flags(flags: cli.Flags) -> None:
    flags.config_file("config of model and data; default: the one stored with --weights", stored=True)
    flags.string("weights", None, "a run, a converted folder, or a released .pth file")
    cli.model_flags(flags)
    flags.string("split", None, "split of the data set; default: the config's test split")
    flags.string(
        "detections",
        None,
        "boxes to measure instead of a model: a file in a format of predict, a folder of .npy or YOLO text",
    )
    flags.string("labels", None, "folder of _bbox.npy label files; default: the config's recordings")
    flags.string("images", None, "images: folder of the annotated ones, or a folder or list with YOLO labels")
    flags.string("annotations", None, "COCO annotations, for --images or for --detections of images")
    flags.boolean(
        "allow_missing", False, "leave out annotated images that are missing without an error status"
    )
    cli.image_flags(flags)
    flags.choice("tta", "none", list(VIEWS), "test-time augmentation: mirrored views, or scaled as well")
    flags.choice(
        "protocol", "hmnet", list(protocols.NAMES), "protocol by which boxes of recordings are compared"
    )
    flags.choice(
        "camera",
        None,
        list(protocols.CAMERAS),
        "camera whose size filter, label times and classes apply; default: the one that the labels fit",
    )
    flags.choice(
        "metric", "coco", ["coco", "ltdv2"], "ltdv2: also AP50 by month, CoV and balance of LTDv2's board"
    )
    flags.choice("backend", "pycocotools", ["pycocotools", "faster"], "faster needs faster-coco-eval")
    flags.boolean("fast", False, "Winograd convolutions, for CPU: faster, boxes move slightly")
    flags.boolean("full", False, "run neck and head at every step: the same numbers, slower")
    flags.integer("lanes", 1, "recordings processed in parallel")
    flags.string("report", None, "folder for a page of curves, errors and the worst pictures")
    flags.string("out", "evaluation.json", "file for the numbers; the picture is written beside it as .png")


def _run(flags: cli.Flags) -> None:
    if bool(flags.weights) == bool(flags.detections):
        raise InputError("give --weights to measure a model, or --detections to measure boxes")
    began = time.perf_counter()
    if flags.weights:
        data, found = _of_weights(flags)
    else:
        data, found = flags.config and flags.config.data, Evaluation(_of_files(flags))
    if distributed.is_main():
        found.board = ltdv2_board.score(found.metrics, flags.backend) if flags.metric == "ltdv2" else None
        _report(flags, found, data, time.perf_counter() - began)
    distributed.barrier()
    if found.problems:
        raise InputError("; ".join(found.problems))
    cli.check_losses(found.metrics.report, flags.strict)


def _of_weights(flags) -> tuple[Any, Evaluation]:
    cfg, skeleton, variables = api.open_weights_of(flags)
    splits = cli.read_image_flags(flags, cfg.data, fixed_classes=True)
    shared = {"split": splits.get(flags.split, flags.split), "fast": flags.fast, "backend": flags.backend}
    if cfg.data.kind == "images":
        return cfg.data, of_images(
            cfg.data, skeleton, variables, images=flags.images, annotations=flags.annotations, tta=flags.tta,
            allow_missing=flags.allow_missing, **shared,
        )  # fmt: skip
    return cfg.data, of_recordings(
        cfg.data, skeleton, variables, protocol=flags.protocol, camera=flags.camera, lanes=flags.lanes,
        full=flags.full, **shared,
    )  # fmt: skip


def _of_files(flags):
    if flags.metric == "ltdv2":
        return ltdv2_board.of_files(flags.detections, _ltdv2_labels(flags), flags.backend)
    splits = {} if flags.config is None else cli.read_image_flags(flags, flags.config.data)
    return of_files(
        flags.detections,
        labels=flags.labels,
        annotations=flags.annotations,
        images=flags.images,
        data=None if flags.config is None else flags.config.data,
        split=splits.get(flags.split, flags.split),
        protocol=flags.protocol,
        camera=flags.camera,
        backend=flags.backend,
        class_map=cli.class_map(flags.class_map),
    )


def _ltdv2_labels(flags) -> str | Path:
    if flags.annotations:
        return flags.annotations
    if flags.config is None:
        raise InputError("--metric=ltdv2 needs --annotations, or --config with a split that has them")
    split = flags.split or flags.config.data.test_split
    annotated = samples.annotated_split(flags.config.data.root, split)
    if annotated is None:
        raise InputError(f"split {split}: --metric=ltdv2 needs COCO annotations whose image ids are uids")
    return annotated.file


def _report(flags, found: Evaluation, data: Any, took_s: float) -> None:
    metrics = found.metrics
    logger.info(
        "%d images, %d labels, %d detections, %.1f s",
        metrics.num_images, metrics.num_truth, metrics.num_detections, took_s,
    )  # fmt: skip
    if metrics.report:
        logger.warning("%s", metrics.report.line())
    if metrics.protocol_line:
        print(f"AP {metrics.ap:.4f} by {metrics.protocol_line}")
    print(metrics.table())
    if found.seqyolo:
        print(found.seqyolo)
    if found.board:
        print(found.board)
    out = Path(flags.out)
    settings = {k: getattr(flags, k) for k in ("weights", "detections", "protocol", "camera", "split")}
    extra: dict[str, Any] = {"ltdv2": found.board.as_json()} if found.board else {}
    diagnosis = diagnose(metrics, flags.backend) if flags.report else None
    if diagnosis is not None:
        extra["diagnosis"] = diagnosis.as_json()
    content = stamped({**metrics.as_json(), **extra, "settings": settings})
    with atomic(out) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    plots.precision_recall(out.with_suffix(".png"), **metrics.curves())
    if diagnosis is not None:
        roots = reports.picture_folders(flags.images, flags.annotations, data, flags.split)
        logger.info("%s", reports.write(flags.report, metrics, diagnosis, content, roots))


main = cli.Command(_flags, _run, __doc__, several_processes=True)

if __name__ == "__main__":
    sys.exit(main())
