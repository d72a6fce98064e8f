"""A prepared recording from event files of any format and labels in their clock, in bounded memory."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdet.data.events import labels, recordings
from jaxdet.data.events.filters import EventFilter, Filters, find_hot
from jaxdet.data.events.fit import OUTSIDE_SENSOR, Fit, choose
from jaxdet.data.events.label_files import ROWS, RecordingLabels
from jaxdet.data.events.mounting import Mounting
from jaxdet.data.events.open import open_events
from jaxdet.data.events.recording_writer import open_writer
from jaxdet.data.events.streams import RAISED, SLACK_US, EventChunk, EventStream, ordered
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

HALVES = {
    "no": "as it is",
    "events": "half the size, every event kept",
    "pixels": "half the size, of four pixels the one with odd column and row (RVT's nearest-exact)",
}
START_US = 5_000  # a recording begins at a multiple, the step of HMNet
MIN_INTERVAL_US = 1_000
LOADS_MS = (5, 200, 400, 810)  # lengths whose numbers of events are stored


@dataclass(frozen=True)
class ConversionOptions:
    """Settings that, with the sources, determine the bytes of a prepared recording."""

    sensor: tuple[int, int] | None = None  # height, width, pixels; None: as the files say
    half: str = "no"  # of HALVES
    fallback: tuple[int, int] | None = None  # height, width where neither says it
    region: Sequence[int] | None = None  # x, y, width, height, camera's pixels; None: the whole sensor
    mounting: Mounting = Mounting()  # noqa: RUF009   (immutable)
    filters: Filters = Filters()  # noqa: RUF009   (immutable)


class ConversionJob(NamedTuple):
    """One recording to make."""

    events: tuple[Path, ...]  # files that follow each other
    labels: RecordingLabels
    path: Path  # folder of the recording; its parent is the split
    options: ConversionOptions
    num_classes: int
    left_out: dict[str, int]  # labels left out already, by reason
    source: dict[str, Any]  # entry of info.json, see `preparation.is_made`


def origin(events: Iterable[Path], digest: str, options: ConversionOptions) -> dict[str, Any]:
    """Entry "source" of info.json: the recording is made again when any of it changes.

    `digest` stands for the labels and their classes.
    """
    settings = {name: getattr(options, name) for name in ("sensor", "half", "fallback")}
    # Named only where they are used, so that recordings made without them are kept.
    chosen = {"region": options.region, **options.mounting._asdict(), **options.filters._asdict()}
    settings |= {name: value for name, value in chosen.items() if value}
    files = [{"file": path.name, "size": path.stat().st_size} for path in events]
    return {"events": files, "labels": digest, **json.loads(json.dumps(settings))}


def convert(job: ConversionJob) -> dict[str, Any] | str:
    """Make one recording and return its info, or one line that says why it could not be made.

    Raises OSError only when writing fails.
    """
    try:
        return _convert(job)
    except InputError as error:
        return f"{job.path.parent.name}/{job.path.name}: {error}"


def sensor_of(events: Iterable[Path], options: ConversionOptions) -> tuple[int, int]:
    """Height and width of the sensor before it is halved; InputError if nothing says it."""
    first = next(iter(events))
    stream = open_events(first, sensor=options.sensor)
    stated = None if stream.height is None or stream.width is None else (stream.height, stream.width)
    size = options.sensor or stated or options.fallback
    if size is None:
        raise InputError(f"{first}: the file does not state the size of its sensor; give --sensor=WxH")
    return size


def _convert(job: ConversionJob) -> dict[str, Any]:
    report = ReadReport(job.left_out)
    fit = _fit(job)
    height, width = fit.size
    size = (height, width) if job.options.half == "no" else (height // 2, width // 2)
    recordings.check_size(job.events[0], size[1], size[0])
    start_us = last_us = None
    with open_writer(job.path) as writer:
        for chunk in _placed(job, fit, report):
            chunk = _halved(chunk, size, job.options.half, report)
            if not len(chunk.t_us):
                continue
            if start_us is None:
                start_us = int(chunk.t_us[0]) // START_US * START_US
            last_us = int(chunk.t_us[-1])
            writer.append(chunk._replace(t_us=chunk.t_us - start_us))
        if start_us is None or last_us is None:
            raise InputError(f"{job.events[0]}: no events on a sensor of {width}x{height} pixels")
        rows, times = _inside(job.labels, start_us, last_us, report)
        rows = _labels_on(fit, rows, report)
        if job.options.half != "no":
            for side in "xywh":
                rows[side] *= np.float32(0.5)
        found = labels.from_boxes(rows, size[1], size[0], whole_side=True)
        end_us = max([last_us - start_us, *times[-1:].tolist()])
        duration_ms = end_us // 1000 + 1
        return writer.finish(
            found,
            duration_ms,
            {
                "width": size[1],
                "height": size[0],
                "duration_ms": duration_ms,
                "start_us": start_us,
                "label_interval_us": _interval_us(times, duration_ms),
                "label_times": len(times),
                "most_boxes": int(np.unique(rows["t"], return_counts=True)[1].max(initial=0)),
                "suspicious": labels.suspicious(rows, found, duration_ms, job.num_classes),
                "left_out": dict(sorted(report.counts.items())),
                "changed": dict(sorted(report.notes.items())),
                "load": loads(writer.ms_start(duration_ms)),
                "source": job.source,
            },
        )


def _fit(job: ConversionJob) -> Fit:
    """The camera's pixels, or those of its region, upright and not scaled."""
    camera, options = sensor_of(job.events, job.options), job.options
    columns, rows = (camera[1], camera[0]) if options.region is None else tuple(options.region)[2:]
    return choose(None, camera, options.mounting.size((rows, columns)), options.region, options.mounting)


def _placed(job: ConversionJob, fit: Fit, report: ReadReport) -> Iterator[EventChunk]:
    """Events of the region that pass the filters, in upright pixels of the region."""
    options = job.options
    filters = options.filters
    if filters.must_look:
        unread = ReadReport()
        looked_at = (fit.kept(chunk, unread) for chunk in _chunks(job.events, options.sensor, unread))
        filters = filters._replace(hot_pixels=find_hot(looked_at, fit.camera))
    passing, pixels = EventFilter(filters, fit.camera), fit.pixels()
    for chunk in _chunks(job.events, options.sensor, report):
        chunk = passing(fit.kept(chunk, report), report)
        if not fit.is_identity:
            chunk = fit.upright(chunk)
            x, y = pixels.x[chunk.x].astype(np.int16), pixels.y[chunk.y].astype(np.int16)
            chunk = chunk._replace(x=x, y=y)
        yield chunk


def _labels_on(fit: Fit, rows: np.ndarray, report: ReadReport) -> np.ndarray:
    """Boxes in the pixels of the prepared recording, clipped to it; those of which nothing is left go."""
    if fit.is_identity:
        return rows
    xyxy = np.stack([rows["x"], rows["y"], rows["x"] + rows["w"], rows["y"] + rows["h"]], -1)
    xyxy = np.clip(fit.to_model(xyxy), 0, np.array(fit.size[::-1] * 2))
    rows = rows.copy()
    rows["x"], rows["y"] = xyxy[:, 0], xyxy[:, 1]
    rows["w"], rows["h"] = xyxy[:, 2] - xyxy[:, 0], xyxy[:, 3] - xyxy[:, 1]
    kept = (rows["w"] > 0) & (rows["h"] > 0)
    report.add("labels outside the region", int((~kept).sum()))
    return rows[kept]


def _chunks(
    events: Iterable[Path], sensor: tuple[int, int] | None, report: ReadReport
) -> Iterator[EventChunk]:
    """Events of all files in order of time; what their readers count goes to `report`."""

    def raw() -> Iterator[EventChunk]:
        for path in events:
            stream: EventStream = open_events(path, sensor=sensor)
            yield from stream
            report.merge(stream.report)

    yield from ordered(raw(), SLACK_US, lambda count: report.note(RAISED, count))


def _on_sensor(chunk: EventChunk, height: int, width: int, report: ReadReport) -> EventChunk:
    inside = (chunk.x >= 0) & (chunk.x < width) & (chunk.y >= 0) & (chunk.y < height)
    if inside.all():
        return chunk
    report.add(OUTSIDE_SENSOR, int((~inside).sum()))
    return chunk.take(inside)


def _halved(chunk: EventChunk, size: tuple[int, int], half: str, report: ReadReport) -> EventChunk:
    if half == "no":
        return chunk
    if half == "pixels":
        kept = (chunk.x % 2 == 1) & (chunk.y % 2 == 1)
        report.note("three of four pixels, left out by half=pixels, with events", int((~kept).sum()))
        chunk = chunk.take(kept)
    chunk = chunk._replace(x=chunk.x // 2, y=chunk.y // 2)
    return _on_sensor(chunk, *size, report)  # an odd side leaves half a pixel


def _inside(
    known: RecordingLabels, start_us: int, last_us: int, report: ReadReport
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labelled times of the recording, counted from its start; others are counted and named.

    A label may follow the last event by up to a second, as that of a standing object does.
    """
    low, high = start_us, last_us + labels.MAX_INTERVAL_US
    rows, times = known
    outside = (rows["t"] < low) | (rows["t"] > high)
    if outside.any():
        worst = int(rows["t"][outside][np.argmax(np.abs(rows["t"][outside] - low))])
        report.add(
            f"labels outside the recording, which lasts from {start_us} to {last_us} us (one at {worst} us)",
            int(outside.sum()),
        )
    rows = rows[~outside].astype(ROWS)
    rows["t"] -= start_us
    return rows, times[(times >= low) & (times <= high)] - start_us


def _interval_us(times: np.ndarray, duration_ms: int) -> int:
    """Median distance of the labelled times; the whole recording where there are not two of them.

    Times without a box between labelled ones count as frames without an object, on this grid.
    """
    if len(times) < 2:
        return max(duration_ms * 1000, labels.MAX_INTERVAL_US)
    return max(int(np.median(np.diff(times))), MIN_INTERVAL_US)


def loads(ms_start: np.ndarray) -> dict[str, list[int]]:
    """Median, 99th percentile and maximum of the events in windows of each of `LOADS_MS`, by length."""
    found = {}
    for length in LOADS_MS:
        starts = np.arange(0, max(len(ms_start) - length, 1), min(length, 10))
        counts = ms_start[np.minimum(starts + length, len(ms_start) - 1)] - ms_start[starts]
        values = np.percentile(counts, (50, 99, 100), method="higher")
        found[str(length)] = [int(value) for value in values]
    return found
