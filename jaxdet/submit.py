"""Join detections into the submission of a challenge: Seasons in Drift (LTD), or the board of LTDv2.

    python -m jaxdet.submit --detections=Jan.pkl,Mar.h5 --data=data/ltd --out=predictions.pkl
    python -m jaxdet.submit --format=ltdv2 --detections=test.h5 \\
        --annotations=data/ltdv2/test/annotations.json --template=template.json --out=submission.json

Seasons in Drift: the month is the file's name up to the first "." or "_". With `--data` every frame of the
month is listed, and frames without detections get the placeholder; without it, the files must have all frames
of their month.

LTDv2: the submission has exactly the frames of --template; those without boxes have empty lists. Frames are
called by their uid (as image id or name), or found by path among --annotations.
"""

import logging
import sys

from jaxdet import cli
from jaxdet.challenges import ltdv2, submission
from jaxdet.errors import InputError
from jaxdet.evaluation import months
from jaxdet.formats import names
from jaxdet.structs import ReadReport


def _flags(flags: cli.Flags) -> None:
    flags.strings("detections", [], "files of detections, one or more a month", required=True)
    flags.string("data", None, "root of LTD: lists the frames of each month")
    flags.choice("format", "seasons", ("seasons", "ltdv2"), "challenge")
    flags.string("template", None, "ltdv2: the board's template, whose frames the submission gets")
    flags.string("annotations", None, "ltdv2: COCO annotations that say the uid of an image")
    flags.integer("max_boxes", ltdv2.MAX_BOXES, "ltdv2: best boxes of a frame that are kept")
    flags.string("out", None, "file of the submission; default: predictions.pkl, ltdv2: submission.json")
    flags.boolean("strict", False, cli.STRICT)
    flags.string("labels", None, "LTD annotations (folder) or COCO annotations (.json): report AP by month")


def _run(flags: cli.Flags) -> None:
    if flags.format == "ltdv2":
        _ltdv2(flags)
    else:
        _seasons(flags)


def _ltdv2(flags: cli.Flags) -> None:
    if not flags.template or flags.data or flags.labels:
        raise InputError(
            "ltdv2 needs --template, the board's file of frames, and takes no --data or --labels"
        )
    out = flags.out or "submission.json"
    report = ltdv2.write(out, flags.detections, flags.template, flags.annotations, flags.max_boxes)
    logging.info(
        "%s: %d frames, %d of them without boxes, %d boxes",
        out, report.num_frames, report.num_empty, report.num_boxes,
    )  # fmt: skip
    if report.num_cut:
        left_out = ReadReport({f"boxes beyond the {flags.max_boxes} best of a frame": report.num_cut})
        logging.warning("%s", left_out.line())
        cli.check_losses(left_out, flags.strict, f"{out} is written")


def _seasons(flags: cli.Flags) -> None:
    if flags.template or flags.annotations:
        raise InputError("--template and --annotations belong to --format=ltdv2")
    out = flags.out or "predictions.pkl"
    parts = [(submission.month_of(path), submission.read_detections(path)) for path in flags.detections]
    content = submission.merge(parts)
    expected = None
    if flags.data:
        listings = {month: submission.list_frames(flags.data, month) for month in content}
        expected = {month: len(listing) for month, listing in listings.items()}
        for month, entries in content.items():
            added = submission.fill(month, entries, listings[month])
            ok = len(listings[month]) == submission.NUM_FRAMES[month]
            logging.info(
                "%s is %s: %d frames, %d of them without predictions; the challenge counts %d",
                month, "ok" if ok else "bad", len(entries), added, submission.NUM_FRAMES[month],
            )  # fmt: skip
    submission.check_counts(content, expected)
    submission.write(out, content)
    missing = [month for month in months.MONTHS if month not in content]
    if missing:
        logging.info("months without predictions: %s", ", ".join(missing))
    if flags.labels:
        labels = months.read_labels(flags.labels)
        values = {}
        for month, found in submission.read(out).items():
            index = names.index_of([names.file_name(boxes) for boxes in found.frames])
            own = [boxes for boxes in labels.frames if index(names.file_name(boxes)) is not None]
            if own:
                values[month] = months.precision(labels._replace(frames=own), found.frames).ap
        if not values:
            raise InputError(f"{flags.labels}: none of its {len(labels.frames)} frames is in {out}")
        logging.info("without scores, ranked by order of rows: %s", months.report(values))
    logging.info("%s: %d months, %d frames", out, len(content), sum(len(e) for e in content.values()))


main = cli.Command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
