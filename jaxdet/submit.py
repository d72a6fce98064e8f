"""Join detections of months into predictions.pkl of the Seasons in Drift challenge.

    python -m jaxdet.submit --detections=Jan.pkl,Mar.h5 --data=data/ltd --out=predictions.pkl

The month is the file's name up to the first "." or "_". With `--data` every frame of the month is listed, and
frames without detections get the placeholder; without it, the files must have all frames of their month.
"""

import logging
import sys

from jaxdet import cli
from jaxdet.challenges import submission
from jaxdet.errors import InputError
from jaxdet.evaluation import months
from jaxdet.formats import names


def _flags(flags: cli.Flags) -> None:
    flags.strings("detections", [], "files of detections, one or more a month", required=True)
    flags.string("data", None, "root of LTD: lists the frames of each month")
    flags.string("out", "predictions.pkl", "file of the submission")
    flags.string("labels", None, "LTD annotations (folder) or COCO annotations (.json): report AP by month")


def _run(flags: cli.Flags) -> None:
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
    submission.write(flags.out, content)
    missing = [month for month in months.MONTHS if month not in content]
    if missing:
        logging.info("months without predictions: %s", ", ".join(missing))
    if flags.labels:
        labels = months.read_labels(flags.labels)
        values = {}
        for month, found in submission.read(flags.out).items():
            index = names.index_of([names.file_name(boxes) for boxes in found.frames])
            own = [boxes for boxes in labels.frames if index(names.file_name(boxes)) is not None]
            if own:
                values[month] = months.precision(labels._replace(frames=own), found.frames).ap
        if not values:
            raise InputError(f"{flags.labels}: none of its {len(labels.frames)} frames is in {flags.out}")
        logging.info("without scores, ranked by order of rows: %s", months.report(values))
    logging.info("%s: %d months, %d frames", flags.out, len(content), sum(len(e) for e in content.values()))


main = cli.command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
