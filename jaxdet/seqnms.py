"""Rescore the detections of videos with Seq-NMS, or drop those of low score.

    python -m jaxdet.seqnms --detections=Sep_1536_w_51_0.5_0.1.pkl --min_score=0.6 --out=Sep.pkl

Reads and writes detections of predict (.h5), released pickles (.pkl), .npz, MOT text (.txt), COCO results
(.json) and tables (.csv). The name of a frame up to the last underscore is its clip. A pickle written here
has no scores, as the challenge requires; the other formats keep them. With --video the new boxes are drawn on
the video itself: `--render=smoothed.webm --video=clip.mp4`.
"""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jaxdet import cli
from jaxdet.data.images import sets
from jaxdet.detections import files
from jaxdet.errors import InputError
from jaxdet.evaluation import months
from jaxdet.formats import BoxFile, coco, names, pickle
from jaxdet.postprocess import seqnms
from jaxdet.structs import Boxes
from jaxdet.viewing import comparison, films


def _flags(flags: cli.Flags) -> None:
    defaults = seqnms.SeqNMSOptions()
    flags.string("detections", None, "detections of one month or of any number of clips", required=True)
    flags.string("out", None, "file to write; the suffix chooses the format", required=True)
    flags.choice(
        "rule", "seqnms", ("seqnms", "score"), "post-processing; score only drops boxes not above min_score"
    )
    flags.number("min_score", defaults.min_score, "boxes below this score are dropped at the end")
    flags.number("link_iou", defaults.link_iou, "boxes of neighbouring frames are linked from this IoU on")
    flags.number(
        "suppress_iou", defaults.suppress_iou, "a path suppresses boxes of its frames from this IoU on"
    )
    flags.number("nms_iou", defaults.nms_iou, "the final NMS suppresses above this IoU")
    flags.choice(
        "rescore", "mean", ("mean", "max"), "new score of the boxes of a path: its mean or its maximum"
    )
    flags.number("score_scale", 1.0, "the scores of --detections are divided by this number")
    flags.boolean("link_by_class", False, "link boxes of equal class only")
    flags.string(
        "labels", None, "LTD annotations (folder) or COCO annotations (.json): report AP before and after"
    )
    flags.boolean("strict", False, cli.STRICT)
    flags.string(
        "render", None, "picture or video: boxes before and after, side by side, or on --video the new ones"
    )
    flags.string("video", None, "the video of the detections, on which --render draws the new boxes")
    flags.integer(
        "first_frame", None, "number of the video's first frame; default: 1 for .txt without a 0, else 0"
    )


def _run(flags: cli.Flags) -> None:
    source, out = Path(flags.detections), Path(flags.out)
    kind = files.format_of(out)
    options = seqnms.SeqNMSOptions(
        flags.link_iou,
        flags.suppress_iou,
        flags.nms_iou,
        flags.min_score,
        flags.rescore == "max",
        flags.link_by_class,
    ).check()
    labels = months.read_labels(flags.labels) if flags.labels else None
    if flags.video and not flags.render:
        raise InputError("--video without --render; give --render, the video to write")
    began = time.monotonic()

    def post_process(frames: Sequence[Boxes]) -> list[Boxes]:
        if flags.rule == "score":
            return seqnms.drop_scores_below(frames, options.min_score)
        return seqnms.rescore(frames, options)

    if flags.score_scale != 1 and kind == "h5":
        raise InputError(f"{out}: a detections file keeps the scores it was made with; write .npz or .csv")
    before = _read(source, flags.labels, flags.score_scale)
    if kind == files.format_of(source) == "h5":
        files.map_clips([source], out, post_process, flags.rule)
        after = files.read(out).frames
    else:
        after = post_process(before.frames)
        _write(out, before, after, flags.rule, of_pickle=files.format_of(source) == "pkl")
    logging.info(
        "%s: %d clips, %d frames, %d boxes -> %d in %.1f s",
        out, len(names.by_clip(before.frames)), len(before.frames), sum(map(len, before.frames)),
        sum(map(len, after)), time.monotonic() - began,
    )  # fmt: skip
    if labels is not None:
        parts = (before.frames, after)
        if files.format_of(source) == "json" and not before.class_names:
            parts = map(_counted_from_one, parts)
        logging.info("%s: %s", flags.rule, months.change(labels, *parts))
    if flags.video:
        _draw(flags, after, before.class_names, files.format_of(source) == "txt")
    elif flags.render:
        comparison.draw(flags.render, before.frames, after)
    cli.check_losses(before.report, flags.strict)


def _draw(flags: cli.Flags, frames: Sequence[Boxes], class_names: Sequence[str], mot: bool) -> None:
    """Draw the boxes on the video, all frames of which are shown."""
    clips = names.by_clip(frames)
    if len(clips) != 1:
        raise InputError(f"{flags.detections}: {len(clips)} clips; --video needs the detections of one video")
    numbers = [names.clip_and_number(boxes)[1] for boxes in frames]
    first = flags.first_frame if flags.first_frame is not None else int(mot and min(numbers) > 0)
    by_frame = {number - first: boxes for number, boxes in zip(numbers, frames, strict=True)}
    video = sets.VideoFile(flags.video)
    if min(by_frame) < 0:
        raise InputError(
            f"{flags.detections}: frame {min(numbers)} before the first, {first}; see --first_frame"
        )
    shown = films.over_video(flags.render, video, by_frame, class_names, video.frame_rate, 0.0)
    logging.info("%s: %d frames, the first is number %d", flags.render, shown, first)
    late = [number for number in by_frame if number >= shown and len(by_frame[number])]
    if late:
        raise InputError(
            f"{flags.video}: {shown} frames, but {len(late)} later ones have boxes; is it this video?"
        )


def _read(source: Path, labels: str | None, score_scale: float) -> BoxFile:
    annotations = coco.read_annotations(labels) if labels and labels.endswith(".json") else None
    if not 0 < score_scale < float("inf"):
        raise InputError(f"--score_scale={score_scale:g}, expected a positive number, such as 100")
    found = files.read(source, annotations, score_scale)
    if found.report:
        logging.warning("%s", found.report.line(str(source)))
    if not found.has_scores:
        raise InputError(
            f"{source}: boxes without scores; give detections that have scores, as predict writes them"
        )
    return found


def _counted_from_one(frames: Sequence[Boxes]) -> list[Boxes]:
    """Boxes with category ids without names as labels, numbered as classes from 0 on."""
    first = min((int(boxes.labels.min()) for boxes in frames if len(boxes)), default=0)
    logging.info(
        "the categories have no names; ids from %d are taken for the labelled classes", min(first, 1)
    )
    return [replace(boxes, labels=boxes.labels - min(first, 1)) for boxes in frames]


def _write(out: Path, before: BoxFile, after: Sequence[Boxes], method: str, of_pickle: bool) -> None:
    if files.format_of(out) != "pkl":
        files.write(out, after, before.class_names, {**before.metadata, "rule": method})
        return
    # A released pickle has only the frames that had boxes before post-processing.
    present = {names.file_name(boxes) for boxes in before.frames if len(boxes)}
    kept = [boxes for boxes in after if names.file_name(boxes) in present]
    if not of_pickle:  # Parity: the released script writes what it read.
        kept = [pickle.rounded(boxes) for boxes in kept]
    pickle.write_without_scores(out, kept, numpy_numbers=method == "seqnms")


main = cli.Command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
