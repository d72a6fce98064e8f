"""Say what a recording of events holds: format, sensor, times, rates, gaps, hot pixels.

    python -m jaxdet.info mine.raw
    python -m jaxdet.info --input=mine.raw --json

The file may be in any format that `predict` takes, or a prepared folder; the format is found by content.
Nothing is written. --sensor=WIDTHxHEIGHT overrules the size that the file states; --hot_pixels and
--activity_us show what those filters of `predict` leave out.
"""

import json
import sys
from pathlib import Path
from typing import Any

from jaxdet import cli, event_flags
from jaxdet.data.events import recordings
from jaxdet.data.events.summary import BIN_US, GAP_US, summarise
from jaxdet.errors import InputError

# Suffixes of files that hold no events, and what reads them.
_OTHERS = {
    "an image": (".jpg .jpeg .png .bmp .tif .tiff .webp", "predict --input="),
    "a video": (".mp4 .avi .mkv .mov .webm", "predict --input="),
    "weights": (".pth .pt .ckpt .safetensors", "convert"),
    "boxes": (".json .pkl .xml", "evaluate --detections="),
}


def _flags(flags: cli.Flags) -> None:
    flags.string("input", None, "recording, or a prepared folder", required=True)
    flags.string("sensor", None, "WIDTHxHEIGHT of the camera, in place of what the file states")
    event_flags.filter_flags(flags)
    flags.boolean("json", False, "one JSON object")


def _run(flags: cli.Flags) -> None:
    path = Path(flags.input)
    try:
        sensor = event_flags.size_of(flags.sensor) if flags.sensor else None
        facts = summarise(recordings.open_events(path, sensor), event_flags.filters_of(flags))
    except InputError as error:
        raise InputError(f"{error}{_advice(path)}") from error
    print(json.dumps({"file": str(path), **facts}) if flags.json else "\n".join([str(path), *_lines(facts)]))


def _advice(path: Path) -> str:
    for kind, (suffixes, command) in _OTHERS.items():
        if path.suffix.lower() in suffixes.split():
            return f" (by its name {kind}, for `jaxdet {command}`)"
    return ""


def _lines(facts: dict[str, Any]) -> list[str]:
    reaches, events = "x".join(map(str, facts["reaches"])), facts["events"]
    sensor = facts["sensor"]
    rows = {
        "format": facts["format"],
        "sensor": f"{sensor[0]}x{sensor[1]}" if sensor else f"not stated, events reach {reaches}",
        "events": f"{events:,}",
    }
    if events:
        rows["time"] = f"{facts['first_us']} to {facts['last_us']} us, {facts['duration_s']:.6f} s"
        peak = facts["peak"]
        mean = "" if facts["rate"] is None else f"{facts['rate']:,.0f} events/s on average, "
        rows["rate"] = (
            f"{mean}{peak['rate']:,.0f} in the fullest {BIN_US // 1000} ms "
            f"({peak['events']:,} events from {peak['start_us']} us on)"
        )
        rows["gaps"] = _gaps(facts)
        rows["polarity"] = f"{100 * facts['on_share']:.1f} % ON"
        rows["hottest"] = ", ".join(f"({x}, {y}) {count:,}" for x, y, count in facts["hottest"])
        if facts["hot"]:
            rows["hot"] = f"--hot_pixels={','.join(f'{x}:{y}' for x, y in facts['hot'])}"
    for name, key in (("left out", "left_out"), ("changed", "changed")):
        listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(facts[key].items()))
        rows[name] = listed or "nothing"
    return [f"  {name:<9} {text}" for name, text in rows.items()]


def _gaps(facts: dict[str, Any]) -> str:
    limit = f"longer than {GAP_US // 1000} ms"
    if not facts["num_gaps"]:
        return f"none {limit}"
    listed = ", ".join(f"{(after - before) / 1e6:.3f} s from {before} us" for before, after in facts["gaps"])
    return f"{facts['num_gaps']} {limit}: {listed}"


main = cli.Command(_flags, _run, __doc__, first="input")

if __name__ == "__main__":
    sys.exit(main())
