"""Make recordings and frames ready for training, evaluation and prediction.

    python -m jaxdet.prepare gen1 --source=downloads --out=data/gen1
    python -m jaxdet.prepare events --source=mine --labels=labels.csv --classes=car,person --out=data/mine
    python -m jaxdet.prepare 1mpx --source=downloads/1mpx --half=events --out=data/1mpx
    python -m jaxdet.prepare etram --source=downloads/eTraM --classes=8 --out=data/etram
    python -m jaxdet.prepare dsec-det --source=downloads/DSEC --classes=2 --out=data/dsec_det
    python -m jaxdet.prepare ltd --source=downloads/LTD --out=data/ltd
    python -m jaxdet.prepare flir --source=downloads/FLIR_ADAS_v2 --out=data/flir
    python -m jaxdet.prepare ltdv2 --source=downloads/LTDv2 --out=data/ltdv2
    python -m jaxdet.prepare synthetic-ltd --out=data/synthetic_ltd_source
    python -m jaxdet.prepare synthetic --out=data/synthetic_source
    python -m jaxdet.prepare synthetic --layout=hit_uav --out=data/hit_uav_source

`--source` of `gen1` holds the .7z archives of the data set, or the train, val and test folders extracted from
them. `events` takes own recordings in any format, with labels as _bbox.npy, COCO json, CSV, YOLO text or VOC
xml (docs/events.md).
`synthetic` simulates recordings in that layout, to be prepared like them (`prepare gen1 --duration_s=0`), or
with --layout in that of another set of recordings, of own data (`events`) or of a thermal data set. Thermal
sets become a folder of images and COCO annotations per split. A run that was stopped resumes when it is
started again.
Several processes of a job (launch/) divide the recordings among them.
"""

import logging
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

from jaxdet import cli, distributed, event_flags
from jaxdet.data.datasets import (
    coco_layout,
    event_sets,
    gen1,
    gen1_metadata,
    ltd,
    ltd_preparation,
    own_events,
    preparation,
    public_events,
    thermal_sets,
)
from jaxdet.data.events import conversion, recordings
from jaxdet.data.events.conversion import ConversionOptions
from jaxdet.data.events.label_files import Classes
from jaxdet.data.synthetic import event_layouts, layouts
from jaxdet.data.synthetic import gen1 as synthetic
from jaxdet.data.synthetic import ltd as synthetic_ltd
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport


def _gen1_flags(flags: cli.Flags) -> None:
    flags.string("source", None, "folder of .7z archives or of extracted files", required=True)
    flags.string("out", None, "folder of the prepared recordings", required=True)
    flags.integer("workers", os.cpu_count() or 1, "processes")
    flags.number("duration_s", 60.0, "length of every recording; 0: as long as its events and boxes")
    flags.string(
        "shard",
        None,
        "i/n: only every n-th recording or archive, from number i on; default: the process's part of its job",
    )
    flags.boolean("verify", False, "compare the checksums of what is there; make anew what differs")
    flags.boolean("strict", False, cli.STRICT)
    flags.boolean("allow_empty", False, "a label file without boxes is no reason for an error status")
    flags.string(
        "check_meta", None, "folder of the released metadata: <split>/meta.pkl and <split>/gt_interval.csv"
    )


def _gen1(flags: cli.Flags) -> None:
    source, out = Path(flags.source), Path(flags.out)
    options = gen1.Gen1Options(duration_ms=round(flags.duration_s * 1000) or None)
    own = gen1.make(source, out, options, max(flags.workers, 1), _own_shard(flags), flags.verify)
    report = preparation.merge_reports(distributed.gather(own, preparation.PreparationReport))
    if not distributed.is_main():
        return
    preparation.finish(out, report)
    problems = report.problems
    for split, recording in preparation.made(out):
        if not len(recording.labels) and not flags.allow_empty:
            problems.append(
                f"{split}/{recording.name}: a label file without boxes, expected some; "
                "the recording is prepared, --allow_empty accepts it"
            )
    problems += _check_meta(out, flags.check_meta or source / "list", required=flags.check_meta is not None)
    for line in report.suspicious:
        logging.info("look at %s", line)
    logging.info("%d recordings made, %d kept, %d problems", report.num_made, report.num_kept, len(problems))
    _fail_on(problems)
    cli.check_losses(ReadReport(report.left_out), flags.strict)


def _fail_on(problems: Sequence[str]) -> None:
    if len(problems) > 1:
        for line in problems:
            print(line, file=sys.stderr)
        raise InputError(f"{len(problems)} problems, named above")
    if problems:
        raise InputError(problems[0])


def _event_flags(flags: cli.Flags) -> None:
    flags.string("source", None, "folder of recordings in any format", required=True)
    flags.string("labels", None, "file or folder of their labels", required=True)
    flags.strings("classes", [], "names of the classes, in the order of their labels", required=True)
    flags.strings("map", [], "other names or numbers of classes, old=new; old= ignores a class")
    flags.string("splits", None, "fractions of train, val and test, or a list of lines `<split> <name>`")
    flags.string("session", None, "regular expression: recordings in which it finds the same share a split")
    flags.string("sensor", None, "WIDTHxHEIGHT of the camera, which overrules the files")
    event_flags.place_flags(flags)
    _prepared_flags(flags)


def _prepared_flags(flags: cli.Flags) -> None:
    flags.string("out", None, "folder of the prepared recordings", required=True)
    flags.choice("half", "no", list(conversion.HALVES), "prepare at half the size: by events or by pixels")
    flags.integer("workers", os.cpu_count() or 1, "processes")
    flags.string("shard", None, "i/n: every n-th recording from number i on; default: the process's part")
    flags.boolean("verify", False, "compare the checksums of what is there; make anew what differs")
    flags.boolean("strict", False, cli.STRICT)


def _events(flags: cli.Flags) -> None:
    classes = Classes(tuple(flags.classes), _renamed(flags.map))
    options = event_flags.conversion_of(flags)
    found = own_events.find(
        Path(flags.source), Path(flags.labels), classes, options, flags.splits, flags.session
    )
    _make_set(flags, "events", found, classes.names, options)


def _public_flags(module: ModuleType, flags: cli.Flags) -> None:
    flags.string("source", None, "folder of the data set as distributed", required=True)
    flags.choice("classes", next(iter(module.CLASSES)), list(module.CLASSES), "number of classes")
    flags.strings("map", [], "classes of the files by another name, old=new; old= ignores a class")
    _prepared_flags(flags)


def _public(name: str, module: ModuleType, flags: cli.Flags) -> None:
    options = ConversionOptions(None, flags.half, module.SIZE)
    classes = Classes(module.CLASSES[flags.classes], _renamed(flags.map))
    _make_set(flags, name, module.find(Path(flags.source), classes), classes.names, options)


def _make_set(
    flags: cli.Flags,
    name: str,
    found: event_sets.FoundSources,
    classes: Sequence[str],
    options: ConversionOptions,
) -> None:
    """Make the recordings of a set, in all processes of the job, and describe it."""
    out = Path(flags.out)
    own = event_sets.make(
        found, out, len(classes), options, max(flags.workers, 1), _own_shard(flags), flags.verify
    )
    report = preparation.merge_reports(distributed.gather(own, preparation.PreparationReport))
    if not distributed.is_main():
        return
    event_sets.finish(out, report, name, classes, found.notes)
    for line in report.suspicious:
        logging.info("look at %s", line)
    logging.info(
        "%d recordings made, %d kept, %d problems", report.num_made, report.num_kept, len(report.problems)
    )
    _fail_on(report.problems)
    missing = {"recordings or labels without a partner, named above": len(found.notes)}
    cli.check_losses(ReadReport({**report.left_out, **missing}), flags.strict)


def _renamed(pairs: Sequence[str]) -> tuple[tuple[str, str], ...]:
    wrong = [pair for pair in pairs if pair.find("=") < 1]
    if wrong:
        raise InputError(f"--map={wrong[0]}: expected old=new, such as van=car, or old= to ignore a class")
    return tuple((pair.partition("=")[0], pair.partition("=")[2]) for pair in pairs)


def _own_shard(flags: cli.Flags) -> tuple[int, int]:
    return _shard(flags.shard) if flags.shard else (distributed.index(), distributed.count())


def _shard(text):
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise InputError(f"--shard={text}, expected i/n with 0 <= i < n, for example 0/4")
    return int(index), int(count)


def _check_meta(out, folder, required):
    lines = []
    for split in preparation.SPLITS:
        if any((Path(folder) / split / name).exists() for name in ("meta.pkl", "gt_interval.csv")):
            of_split = [recordings.open_recording(path) for path in recordings.find(out, split)]
            found = gen1_metadata.compare(of_split, Path(folder) / split)
            lines += [f"{split}/{line}" for line in found]
            logging.info("%s: released metadata compared, %d differences", split, len(found))
        elif required:
            lines.append(f"{folder}/{split}: neither meta.pkl nor gt_interval.csv; check --check_meta")
    return lines


def _ltd_flags(flags: cli.Flags) -> None:
    flags.string("source", None, "folder with Train and Test as distributed", required=True)
    flags.string("out", None, "folder of the prepared splits and months", required=True)
    flags.strings("lists", list(ltd.LISTS), "frame lists to write for the training splits")
    flags.strings(
        "by_day", [], "further lists of all annotated frames by day of the month: train=1-19,val=20-21"
    )
    flags.choice("link", "hard", coco_layout.LINKS, "how images get to --out")
    flags.boolean("verify", False, "compare what is there with the source; make anew what differs")
    flags.integer("workers", 8, "threads")


def _ltd(flags: cli.Flags) -> None:
    if not distributed.is_main():  # links and short text files: the disk is the limit
        return
    by_day = dict(map(_days, flags.by_day))
    report = ltd_preparation.prepare(
        flags.source,
        flags.out,
        flags.lists,
        flags.link,
        flags.verify,
        by_day,
        max(flags.workers, 1),
    )
    logging.info(
        "%d frames made, %d kept, %d training frames without objects left out, %d problems",
        report.num_made,
        report.num_kept,
        report.num_unlabelled,
        len(report.problems),
    )
    _fail_on(report.problems)


def _days(text: str) -> tuple[str, range]:
    match = re.fullmatch(r"(\w+)=(\d+)-(\d+)", text)
    if match is None:
        raise InputError(f"--by_day={text}: expected NAME=FIRST-LAST day of the month, such as train=1-19")
    return match[1], range(int(match[2]), int(match[3]) + 1)


def _thermal_flags(flags: cli.Flags) -> None:
    flags.string("source", None, "folder of the data set as distributed", required=True)
    flags.string("out", None, "folder of the prepared splits", required=True)
    flags.choice("link", "hard", coco_layout.LINKS, "how images get to --out")
    flags.boolean("allow_missing", False, "leave out images that are missing without an error status")
    flags.boolean("strict", False, cli.STRICT)


def _thermal(name: str, flags: cli.Flags) -> None:
    if not distributed.is_main():
        return
    left_out = thermal_sets.prepare(name, flags.source, flags.out, flags.link)
    if left_out:
        logging.warning("%s", left_out.line(flags.source))
    cli.check_losses(left_out, flags.strict)
    num_missing = sum(count for reason, count in left_out.counts.items() if reason in _MISSING)
    if num_missing and not flags.allow_missing:
        raise InputError(
            f"{num_missing} images are missing or not annotated; add them or give --allow_missing"
        )


_MISSING = ("frames that are not in frames/", "images that are missing", "images without annotations")


def _synthetic_ltd_flags(flags: cli.Flags) -> None:
    flags.string(
        "out", None, "folder of the simulated clips, in the layout LTD is distributed in", required=True
    )
    flags.integer("day", 8, "clips of Train/Day")
    flags.integer("week", 0, "clips of Train/Week")
    flags.integer("month", 28, "clips of Train/Month")
    flags.integer("test", 1, "clips of each of the eight test months")
    flags.integer("frames", 120, "frames a clip, one a second")
    flags.integer("seed", 0, "another seed, another camera, weather and traffic")
    flags.integer("workers", os.cpu_count() or 1, "processes")


def _synthetic_ltd(flags: cli.Flags) -> None:
    counts = {"Day": flags.day, "Week": flags.week, "Month": flags.month}
    synthetic_ltd.write(flags.out, counts, flags.test, flags.seed, flags.frames, max(flags.workers, 1))


def _synthetic_flags(flags: cli.Flags) -> None:
    default = synthetic.Simulation()
    flags.string(
        "out", None, "folder of the simulated recordings, in the layout of a data set", required=True
    )
    flags.choice("layout", "gen1", list(LAYOUTS), "data set whose layout is written; of images: pictures")
    flags.integer("train", 40, "recordings of the train split")
    flags.integer("val", 4, "recordings of the val split")
    flags.integer("test", 8, "recordings of the test split")
    flags.integer("seed", default.seed, "another seed, other scenes")
    flags.number("duration_s", default.duration_s, "length of every recording")
    flags.number("threshold", default.threshold, "log intensity a pixel must see change; lower: more events")
    flags.number("label_hz", default.label_hz, "labelled moments a second, val and test")
    flags.number("train_label_hz", default.train_label_hz, "labelled moments a second, train")
    flags.integer("workers", len(os.sched_getaffinity(0)), "processes")


def _synthetic(flags: cli.Flags) -> None:
    names = ("seed", "duration_s", "threshold", "label_hz", "train_label_hz")
    simulation = synthetic.Simulation(**{name: getattr(flags, name) for name in names})
    counts = {split: getattr(flags, split) for split in synthetic.SPLITS}
    LAYOUTS[flags.layout](Path(flags.out), counts, simulation, max(flags.workers, 1))


LAYOUTS = {"gen1": synthetic.write, **event_layouts.WRITERS, **layouts.WRITERS}

COMMANDS = {
    "gen1": cli.Command(_gen1_flags, _gen1, __doc__, several_processes=True),
    "events": cli.Command(_event_flags, _events, __doc__, several_processes=True),
    **{
        name: cli.Command(
            partial(_public_flags, module), partial(_public, name, module), __doc__, several_processes=True
        )
        for name, module in public_events.SETS.items()
    },
    "ltd": cli.Command(_ltd_flags, _ltd, __doc__, several_processes=True),
    **{
        name: cli.Command(_thermal_flags, partial(_thermal, name), __doc__, several_processes=True)
        for name in thermal_sets.SETS
    },
    "synthetic-ltd": cli.Command(_synthetic_ltd_flags, _synthetic_ltd, __doc__),
    "synthetic": cli.Command(_synthetic_flags, _synthetic, __doc__),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `prepare <data set> --flags`; exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] in (["--help"], ["-h"]):
        cli.say(f"{__doc__}\nData sets: {', '.join(COMMANDS)}. `prepare <data set> --help` lists its flags.")
        return 0
    if not argv or argv[0] not in COMMANDS:
        print(f"error: prepare {' '.join(argv[:1])}: expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 1
    return COMMANDS[argv[0]](argv[1:])


if __name__ == "__main__":
    sys.exit(main())
