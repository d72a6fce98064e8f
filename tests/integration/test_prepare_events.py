"""`prepare events`: own recordings and labels become a set that `configs/events.py` trains on."""

import json
from pathlib import Path

import numpy as np
import pytest
from recordings_data import chunk

from jaxdet import config_files, prepare
from jaxdet.data.events import dat, recordings
from jaxdet.data.events.streams import EventChunk
from jaxdet.data.events.windows import Windows
from jaxdet.errors import InputError
from jaxdet.training import setup

SIZE = (64, 48)  # width, height
CLOCK_US = 913_000_000


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def events_of(seed, num=2000):
    events = chunk(np.random.default_rng(seed), num, 1000, *SIZE)
    return events._replace(t_us=events.t_us + CLOCK_US)


def write_source(folder, count=6):
    """Recordings as DAT, NumPy and text, in turn."""
    folder.mkdir(parents=True)
    for number in range(count):
        events, name = events_of(number), f"rec{number}"
        if number % 3 == 0:
            dat.write_dat(folder / f"{name}_td.dat", events, *SIZE)
        elif number % 3 == 1:
            kinds = {"t": "i8", "x": "u2", "y": "u2", "p": "u1"}
            table = np.zeros(len(events.t_us), list(kinds.items()))
            for key, column in zip(("t", "x", "y", "p"), events, strict=True):
                table[key] = column
            np.save(folder / f"{name}.npy", table)
        else:
            rows = "\n".join(",".join(map(str, row)) for row in zip(*events, strict=True))
            (folder / f"{name}.csv").write_text(f"t,x,y,p\n{rows}\n")


def label_lines(count=6):
    lines = ["recording,time_us,x,y,w,h,class"]
    for number in range(count):
        for time in range(100_000, 1_000_000, 50_000):
            lines.append(
                f"rec{number},{CLOCK_US + time},{5 + number},6,30,32,{'car' if number % 2 else 'van'}"
            )
    return lines


@pytest.fixture
def source(tmp_path):
    write_source(tmp_path / "source")
    (tmp_path / "labels.csv").write_text("\n".join(label_lines()))
    return tmp_path


def run(folder, out="out", *flags, labels="labels.csv"):
    common = [f"--source={folder / 'source'}", f"--labels={folder / labels}", f"--out={folder / out}"]
    return prepare.main(
        [
            "events",
            *common,
            "--classes=car,van",
            "--sensor=64x48",
            "--workers=1",
            "--splits=0.5,0.2,0.3",
            *flags,
        ]
    )


def made(out):
    return {
        path.name: recordings.open_recording(path)
        for split in ("train", "val", "test")
        for path in recordings.find(out, split)
    }


def test_recordings_and_labels_are_those_of_the_source(source):
    assert run(source) == 0
    found = made(source / "out")
    assert sorted(found) == [f"rec{number}" for number in range(6)]
    for number, name in enumerate(sorted(found)):
        recording, raw = found[name], events_of(number)
        start_us = int(raw.t_us[0]) // 5000 * 5000
        assert recording.start_us == start_us >= CLOCK_US
        for a, e in zip(recording.events(0, 2000), raw._replace(t_us=raw.t_us - start_us), strict=True):
            np.testing.assert_array_equal(a, e)
        labels = recording.labels
        assert (labels["t"].astype(int) + start_us).tolist() == list(
            range(CLOCK_US + 100_000, CLOCK_US + 1_000_000, 50_000)
        )
        assert set(labels["class_id"].tolist()) == {1 - number % 2}
        assert labels[["x", "w", "h"]][0].tolist() == (5 + number, 30, 32)
        assert recording.label_interval_us == 50_000
    described = json.loads((source / "out" / "dataset.json").read_text())
    assert (described["classes"], described["width"], described["height"]) == (["car", "van"], 64, 48)
    sizes = {split: content["recordings"] for split, content in described["splits"].items()}
    assert sizes == {"train": 3, "val": 1, "test": 2}
    assert sum(n for s in described["splits"].values() for n in s["labels"].values()) == 6 * 18


def test_a_set_without_a_training_split_is_described_by_all_its_recordings(source):
    """A config made from the first alone would have no room for the events of the others."""
    events = events_of(5, 6000)
    rows = "\n".join(",".join(map(str, row)) for row in zip(*events, strict=True))
    (source / "source" / "rec5.csv").write_text(f"t,x,y,p\n{rows}\n")
    assert run(source, "out", "--splits=0,0,1") == 0
    described = json.loads((source / "out" / "dataset.json").read_text())
    assert described["splits"].keys() == {"test"}
    first_us = int(events.t_us[0]) // 5000 * 5000
    assert described["load"]["810"][2] >= int((events.t_us < first_us + 810_000).sum()) > 4000


def test_recordings_of_another_preparation_in_the_folder_are_named(source, capsys):
    assert run(source) == 0
    info = next((source / "out" / "test").glob("*/info.json"))
    content = json.loads(info.read_text())
    del content["load"], content["source"]  # as `prepare gen1` leaves it
    info.write_text(json.dumps(content))
    other = info.parent.rename(info.parent.with_name("other"))
    assert run(source) == 1
    assert f"{other}: of `prepare gen1`" in capsys.readouterr().err


def test_a_region_of_a_mirrored_camera_without_its_noise(source, caplog):
    x, y, width, height = 8, 4, 40, 36
    flags = [
        f"--region={x},{y},{width},{height}",
        "--flip=x",
        "--hot_pixels=10:10,20:20",
        "--activity_us=90000",
    ]
    (source / "labels.csv").write_text("\n".join([*label_lines(), f"rec0,{CLOCK_US + 120_000},50,6,9,9,car"]))
    assert run(source, "out", *flags) == 0
    for number, recording in enumerate(dict(sorted(made(source / "out").items())).values()):
        raw, kept, newest = events_of(number), [], {}
        for row in zip(*raw, strict=True):
            t, column, line, sign = map(int, row)
            if not (x <= column < x + width and y <= line < y + height):
                continue
            if (column, line) in ((10, 10), (20, 20)):
                continue
            around = [(column + i, line + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
            if any(t - newest.get(place, -(10**18)) <= 90_000 for place in around):
                kept.append((t - recording.start_us, x + width - 1 - column, line - y, sign))
            newest[column, line] = t
        assert list(zip(*recording.events(0, 2000), strict=True)) == kept
        assert 100 < len(kept) < 1500
        # A box from 5 + number to 35 + number, 6 to 38 of the camera.
        left = max(5 + number, x)
        expected = (x + width - (35 + number), 6 - y, 35 + number - left, 32)
        assert recording.labels[["x", "y", "w", "h"]][0].tolist() == expected
        left_out = recording.info["left_out"]
        assert left_out["events outside the region"] > 500
        assert left_out.get("labels outside the region", 0) == (number == 0)
        assert (recording.width, recording.height) == (width, height)
    with caplog.at_level("INFO"):
        assert run(source, "out", *flags) == 0
        assert "0 recordings made, 6 kept" in caplog.text
        assert run(source, "out", *flags[:2]) == 0
    assert "6 recordings made, 0 kept" in caplog.text
    assert run(source, "turned", "--rotate=90", "--hot_pixels=find") == 0
    assert json.loads((source / "turned" / "dataset.json").read_text())["width"] == 48


def test_a_region_that_is_not_on_the_camera_is_refused(source):
    for flag, reason in (
        ("--region=0,0,65,48", "expected x,y,width,height inside 64x48 pixels"),
        ("--hot_pixels=64:0", "hot pixel (64, 0); expected one inside 64x48 pixels"),
    ):
        assert run(source, "out", flag) == 1
        assert reason in (source / "out" / "report.txt").read_text()


def test_processes_shards_and_a_second_run_change_nothing(source, caplog):
    assert run(source) == 0
    expected = contents(source / "out")
    assert run(source, "two", "--shard=0/2", "--workers=2") == 0
    assert run(source, "two", "--shard=1/2") == 0
    assert contents(source / "two") == expected
    with caplog.at_level("INFO"):
        assert run(source, "two", "--verify") == 0
    assert "0 recordings made, 6 kept, 0 problems" in caplog.text


def test_changed_labels_make_their_recording_anew(source, caplog):
    assert run(source) == 0
    lines = label_lines()
    (source / "labels.csv").write_text("\n".join(lines[:-1]))
    with caplog.at_level("INFO"):
        assert run(source) == 0
    assert "1 recordings made, 5 kept" in caplog.text
    assert len(made(source / "out")["rec5"].labels) == 17


BAD_TIMES = (1_600_000_000_000_000, -33_333, 2**53, CLOCK_US - 1_000_000, CLOCK_US + 60_000_000)


def test_a_recording_never_lies_in_two_splits(source, capsys):
    assert run(source) == 0
    before = {name: recording.path for name, recording in made(source / "out").items()}
    lines = [f"{'test' if path.parent.name == 'train' else 'train'} {name}" for name, path in before.items()]
    (source / "splits.txt").write_text("\n".join(lines))
    assert run(source, "out", f"--splits={source / 'splits.txt'}") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is of an earlier run" in line
    assert "choose another --out" in line
    assert {name: recording.path for name, recording in made(source / "out").items()} == before


def test_labels_without_a_time_say_why_there_are_none(source, capsys):
    (source / "labels.csv").write_text("recording,t,x,y,w,h,class\nrec0,5,1,2,30,30,car\n")
    assert run(source) == 1
    assert "left out 1 label lines without a time" in capsys.readouterr().err
    assert not (source / "out").exists()


def test_a_side_that_is_no_number_is_no_fault_of_the_time(source):
    (source / "labels.csv").write_text("\n".join([*label_lines(), f"rec0,{CLOCK_US},1,2,abc,30,car"]))
    assert run(source) == 0
    assert "1 lines without four corners, a score or a class" in (source / "out" / "report.txt").read_text()


def test_a_lost_label_is_an_error_status_when_asked_for(source, capsys):
    (source / "labels.csv").write_text("\n".join([*label_lines(), "rec0,-33333,1,2,30,30,car"]))
    assert run(source, "out", "--strict") == 1
    assert "--strict: left out 1 labels outside the recording" in capsys.readouterr().err
    assert len(made(source / "out")) == 6


@pytest.mark.parametrize("time_us", BAD_TIMES)
def test_a_label_outside_the_recording_is_left_out_and_named(source, time_us):
    (source / "labels.csv").write_text("\n".join([*label_lines(), f"rec0,{time_us},1,2,30,30,car"]))
    assert run(source) == 0
    recording = made(source / "out")["rec0"]
    assert len(recording.labels) == 18
    assert recording.duration_ms == 1000
    report = (source / "out" / "report.txt").read_text()
    assert "rec0: left out 1 labels outside the recording" in report
    assert f"one at {time_us} us" in report


def test_what_is_ignored_is_counted(source):
    lines = [*label_lines(), f"rec0,{CLOCK_US + 500_000},1,2,30,30,dog", f"lost,{CLOCK_US},1,2,3,4,car"]
    (source / "labels.csv").write_text("\n".join(line for line in lines if not line.startswith("rec4")))
    assert run(source, "out", "--map=van=") == 1  # labels of a recording that is not there
    report = (source / "out" / "report.txt").read_text()
    assert "labels of 1 recordings that are not there: lost" in report
    assert "1 recordings without labels left out: rec4" in report
    assert "left out 1 labels of other classes (dog)" in report
    assert "left out 18 labels of other classes (van)" in report
    assert made(source / "out")["rec1"].labels["class_id"].tolist() == [0] * 18


def test_one_broken_recording_is_one_line_and_the_others_are_made(source, capsys):
    (source / "source" / "rec1.npy").write_bytes(b"\x93NUMPY broken")
    assert run(source) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "rec1.npy" in line
    assert len(made(source / "out")) == 5


def test_a_sensor_that_nobody_states_is_one_line(source, capsys):
    (source / "source" / "rec0_td.dat").write_bytes(b"")
    assert prepare.main(
        ["events", f"--source={source / 'source'}", f"--labels={source / 'labels.csv'}", "--classes=car,van",
         f"--out={source / 'out'}", "--workers=1"]
    ) == 1  # fmt: skip
    assert "the file does not state the size of its sensor; give --sensor=WxH" in capsys.readouterr().err


@pytest.mark.parametrize("half", ["events", "pixels"])
def test_half_of_the_size_keeps_every_event_or_one_pixel_in_four(source, half):
    assert run(source, "out", f"--half={half}") == 0
    recording, raw = made(source / "out")["rec0"], events_of(0)
    if half == "pixels":  # nearest-exact of a factor 1/2 takes index 2 i + 1
        raw = raw.take((raw.x % 2 == 1) & (raw.y % 2 == 1))
    raw = EventChunk(raw.t_us - recording.start_us, raw.x // 2, raw.y // 2, raw.p)
    for a, e in zip(recording.events(0, 2000), raw, strict=True):
        np.testing.assert_array_equal(a, e)
    assert (recording.width, recording.height) == (32, 24)
    assert recording.labels[["x", "y", "w", "h"]][0].tolist() == (2.5, 3, 15, 16)


def test_the_config_reads_everything_from_the_folder(source):
    assert run(source) == 0
    cfg = config_files.load(f"events:tiny,{source / 'out'}")
    assert (cfg.data.width, cfg.data.height, cfg.model.num_classes) == (64, 48, 2)
    assert tuple(cfg.data.classes) == ("car", "van")
    segment_ms = cfg.data.segment_ms
    loads = [r.ms_start[segment_ms:] - r.ms_start[:-segment_ms] for r in made(source / "out").values()]
    assert max(cfg.data.event_buckets) >= max(load.max() for load in loads)
    batches = Windows(cfg.data, "train", warmup_steps=cfg.model.warm_up_steps)
    labelled = []
    for step in range(batches.steps_per_epoch):
        batch, dropped = batches.batch(step)
        assert dropped.events == 0
        labelled.append(batch.targets.slot_mask.any())
    assert all(map(any, zip(*[iter(labelled)] * batches.num_segments, strict=True)))  # each window


@pytest.mark.parametrize(("interval_us", "segments"), [(100_000, 4), (100_001, 1)])
def test_small_detectors_train_through_segments_where_most_have_a_label(source, interval_us, segments):
    assert run(source) == 0
    file = source / "out" / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "label_interval_us": interval_us}))
    cfg = config_files.load(f"events:tiny,{source / 'out'}")
    assert setup.num_segments(cfg.data) == segments


@pytest.mark.parametrize("argument", ["huge", "tiny,{out},short,tbptt", "tiny,{out},other"])
def test_arguments_that_cannot_be_are_one_line(source, argument):
    assert run(source) == 0
    with pytest.raises(InputError, match="events"):
        config_files.load("events:" + argument.format(out=source / "out"))
