"""Rescore the detections of videos with Seq-NMS, or drop those of low score.

    python -m jaxdet.seqnms --detections=Sep_1536_w_51_0.5_0.1.pkl --min_score=0.6 --out=Sep.pkl

Reads and writes detections of predict (.h5), released pickles (.pkl), .npz, MOT text (.txt) and COCO results (.json).
A pickle written here has no scores, as the challenge wants it; the other layouts keep them.
"""

import logging
import sys
import time
from pathlib import Path

from jaxdet import cli
from jaxdet.detections import predictions
from jaxdet.detections.predictions import Predictions
from jaxdet.errors import InputError
from jaxdet.evaluation import months
from jaxdet.postprocess import seqnms
from jaxdet.viewing import comparison


def _flags(flags: cli.Flags) -> None:
    defaults = seqnms.Options()
    flags.string("detections", None, "detections of one month or of any number of clips", required=True)
    flags.string("out", None, "where to write the result; the suffix chooses the layout", required=True)
    flags.choice(
        "rule", "seqnms", ("seqnms", "score"), "seqnms, or score: only drop what is not above min_score"
    )
    flags.number("min_score", defaults.min_score, "boxes below this score are dropped at the end")
    flags.number("link_iou", defaults.link_iou, "boxes of neighbouring frames are linked from this IoU on")
    flags.number(
        "suppress_iou", defaults.suppress_iou, "a path suppresses boxes of its frames from this IoU on"
    )
    flags.number("nms_iou", defaults.nms_iou, "the final NMS suppresses above this IoU")
    flags.choice(
        "rescore", "mean", ("mean", "max"), "what the boxes of a path get: its mean or greatest score"
    )
    flags.boolean("link_by_class", False, "link boxes of equal class only")
    flags.string(
        "labels", None, "LTD annotations (folder) or COCO annotations (.json): report AP before and after"
    )
    flags.string("render", None, "picture or video of the boxes before and after, side by side")


def _run(flags: cli.Flags) -> None:
    source, out = Path(flags.detections), Path(flags.out)
    if source.suffix != ".h5" and out.suffix == ".h5":
        raise InputError(
            f"{out}: a detections file needs image sizes, which {source} has not; choose .npz or .json"
        )
    options = seqnms.Options(
        flags.link_iou,
        flags.suppress_iou,
        flags.nms_iou,
        flags.min_score,
        flags.rescore == "max",
        flags.link_by_class,
    ).check()
    labels = months.read_labels(flags.labels) if flags.labels else None
    began = time.monotonic()

    def rule(found: Predictions) -> Predictions:
        if flags.rule == "score":
            return predictions.drop_scores_below(found, options.min_score)
        return predictions.rescore(found, options)

    if out.suffix == ".h5":
        predictions.map_stores([source], out, rule, flags.rule)
        before = predictions.read(source)
        after = predictions.read(out)
    else:
        before = predictions.read(source)
        if source.suffix == ".h5":
            before = predictions.without_empty(before)
        after = rule(before)
        predictions.write(out, after)
    counts = [sum(len(frame.scores) for frame in found.frames.values()) for found in (before, after)]
    logging.info(
        "%s: %d clips, %d frames, %d boxes -> %d in %.1f s",
        out, len(before.clips), len(before.frames), *counts, time.monotonic() - began,
    )  # fmt: skip
    if labels is not None:
        logging.info("%s: %s", flags.rule, months.change(labels, before, after))
    if flags.render:
        names = labels.class_names if labels is not None else ()
        comparison.draw(flags.render, before, after, names)


main = cli.command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
