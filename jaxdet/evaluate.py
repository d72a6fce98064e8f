"""Measure a detector, or boxes that any tool has written, with COCO's average precision.

    python -m jaxdet.evaluate --config=configs/gen1_hmnet.py:b3 --weights=gen1_hmnet_B3_tbptt.pth
    python -m jaxdet.evaluate --detections=predictions --labels=data/gen1_source/test
    python -m jaxdet.evaluate --detections=results.json --annotations=instances_val2017.json

Protocols for recordings: `hmnet`, the released evaluator's (the nearest time stamp, closer than 25 ms); `rvt` and
`toolbox`, all boxes within 50 ms. `--detections` is a folder of one .npy per recording, a detections file of predict,
or COCO results. The 12 numbers and AP per class are printed, and written with a precision-recall picture to --out.
"""

import json
import logging
import sys
import time
from pathlib import Path

from jaxdet import cli
from jaxdet.data import recordings
from jaxdet.errors import InputError
from jaxdet.evaluation import coco, gen1, plots, stored
from jaxdet.evaluation import recordings as on_recordings
from jaxdet.evaluation.predictor import Predictor
from jaxdet.evaluation.recordings import Sensor
from jaxdet.files import atomic
from jaxdet.training import restore

logger = logging.getLogger(__name__)


def _flags(flags: cli.Flags) -> None:
    flags.config_file(
        help="config of model and data, FILE.py or FILE.py:argument; default: the one stored with --weights"
    )
    flags.string("weights", None, "a run, a converted folder, or a released .pth file")
    flags.string("split", None, "split of the data set; default: the config's test split")
    flags.string(
        "detections", None, "boxes to measure instead of a model's: folder of .npy, .h5, or COCO results"
    )
    flags.string("labels", None, "folder of _bbox.npy label files; default: the config's recordings")
    flags.string("annotations", None, "COCO annotations, for --detections of images")
    flags.choice("protocol", "hmnet", list(gen1.PROTOCOLS), "which boxes of a recording are compared")
    flags.choice("backend", "pycocotools", ["pycocotools", "faster"], "faster needs faster-coco-eval")
    flags.boolean("full", False, "run neck and head at every step: the same numbers, slower")
    flags.integer("lanes", 1, "recordings side by side")
    flags.string("out", "evaluation.json", "file for the numbers; the picture lies beside it as .png")


def _run(flags: cli.Flags) -> None:
    if bool(flags.weights) == bool(flags.detections):
        raise InputError("give --weights to measure a model, or --detections to measure boxes")
    began = time.perf_counter()
    metrics = _of_model(flags) if flags.weights else _of_boxes(flags)
    logger.info(
        "%d images, %d labels, %d detections, %.1f s",
        metrics.num_images,
        metrics.num_truth,
        metrics.num_detections,
        time.perf_counter() - began,
    )
    print(coco.text(metrics))
    out = Path(flags.out)
    settings = {k: getattr(flags, k) for k in ("weights", "detections", "protocol", "split")}
    with atomic(out) as temporary:
        temporary.write_text(json.dumps({**coco.as_json(metrics), "settings": settings}, indent=2) + "\n")
    plots.precision_recall(out.with_suffix(".png"), metrics)


def _of_model(flags) -> coco.Metrics:
    cfg, skeleton, variables = restore.load_model(flags.config, flags.weights, flags.lanes)
    if cfg.data.kind != "gen1":
        raise InputError(
            f"data.kind is {cfg.data.kind!r}; this command runs models on recordings of events ('gen1')"
        )
    return on_recordings.evaluate(
        Predictor(skeleton, variables, flags.lanes, flags.lanes),
        _recordings(cfg, flags.split),
        Sensor((cfg.data.height, cfg.data.width), tuple(cfg.data.event_buckets)),
        gen1.PROTOCOLS[flags.protocol],
        tuple(cfg.data.classes),
        flags.full,
        flags.backend,
    )


def _of_boxes(flags) -> coco.Metrics:
    if flags.annotations:
        return stored.images(flags.detections, flags.annotations, flags.backend)
    if flags.labels:
        labels = stored.label_files(flags.labels)
    elif flags.config is not None:
        labels = {r.name: gen1.rows(r.labels, r.name) for r in _recordings(flags.config, flags.split)}
    else:
        raise InputError("--detections needs --labels, --config or --annotations to compare with")
    names = gen1.CLASS_NAMES if flags.config is None else tuple(flags.config.data.classes)
    return stored.recordings(flags.detections, labels, gen1.PROTOCOLS[flags.protocol], names, flags.backend)


def _recordings(cfg, split):
    paths = recordings.find(cfg.data.root, split or cfg.data.test_split)
    return [recordings.open_recording(path) for path in paths]


main = cli.command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
