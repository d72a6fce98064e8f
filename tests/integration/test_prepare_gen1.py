"""`prepare gen1` from source files to prepared recordings, with everything that can go wrong on the way."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import py7zr
import pytest

from jaxdet import folders, prepare
from jaxdet.data import archive
from jaxdet.data.datasets import preparation
from jaxdet.data.events import dat, recordings
from jaxdet.data.events.streams import EventChunk

ROOT = "detection_dataset_duration_60s_ratio_1.0"


def write_pair(folder, name, seed, num_events=3000, late=0, num_boxes=3):
    rng = np.random.default_rng(seed)
    t_us = np.sort(rng.integers(0, 60_000_000, num_events))
    if late:
        t_us[-late:] = 60_000_000 + np.arange(late)
    if seed % 2:
        t_us[[10, 20]] = t_us[[20, 10]]
    events = EventChunk(
        t_us,
        rng.integers(0, 304, num_events).astype(np.int16),
        rng.integers(0, 240, num_events).astype(np.int16),
        rng.integers(0, 2, num_events).astype(np.int8),
    )
    folder.mkdir(parents=True, exist_ok=True)
    dat.write_dat(folder / f"{name}_td.dat", events)
    boxes = np.zeros(num_boxes, dat.BOX_DTYPE)
    boxes["t"] = np.arange(num_boxes) * 250_000
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 20, 30, 40, 50
    dat.write_boxes(folder / f"{name}_bbox.npy", boxes)


@pytest.fixture
def source(tmp_path):
    for i, split in enumerate(["train", "train", "val", "test", "test"]):
        write_pair(tmp_path / "source" / ROOT / split, f"r{i}", i)
    return tmp_path / "source"


def run(source, out, *flags):
    return prepare.main(["gen1", f"--source={source}", f"--out={out}", "--workers=1", *flags])


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def expected(source, tmp_path):
    assert run(source, tmp_path / "expected") == 0
    return contents(tmp_path / "expected")


def test_recordings_hold_the_source(source, tmp_path, expected):
    paths = recordings.find(tmp_path / "expected", "train")
    assert [p.name for p in paths] == ["r0", "r1"]
    for path in paths:
        recording = recordings.open_recording(path)
        raw = dat.decode(dat.open_dat(source / ROOT / "train" / f"{path.name}_td.dat")[0])
        assert recording.info["was_sorted"] == (path.name == "r0")
        raw = raw.take(np.argsort(raw.t_us, kind="stable"))
        for a, e in zip(recording.events(0, 60_000), raw, strict=True):
            np.testing.assert_array_equal(a, e)
        assert recording.labels["t"].tolist() == [0, 250_000, 500_000]
    manifest = json.loads(expected["manifest.json"])["recordings"]
    assert sorted(manifest) == ["test/r3", "test/r4", "train/r0", "train/r1", "val/r2"]
    for name, entry in manifest.items():
        for file, known in entry["files"].items():
            assert known["size"] == len(expected[f"{name}/{file}"])


def test_processes_shards_and_a_second_run_change_nothing(source, tmp_path, expected, caplog):
    out = tmp_path / "out"
    assert run(source, out, "--workers=2", "--shard=0/2") == 0
    assert run(source / ROOT, out, "--shard=1/2") == 0
    assert contents(out) == expected
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.npy")}
    with caplog.at_level("INFO"):
        assert run(source, out) == 0
    assert "0 recordings made, 5 kept, 0 problems" in caplog.text
    assert times == {p: p.stat().st_mtime_ns for p in out.rglob("*.npy")}


def test_verify_makes_damaged_recordings_anew(source, tmp_path, expected):
    out = tmp_path / "expected"
    victim = out / "val" / "r2" / "events.npy"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    assert run(source, out) == 0
    assert contents(out) != expected
    assert run(source, out, "--verify") == 0
    assert contents(out) == expected


def test_a_changed_source_is_made_again(source, tmp_path, expected):
    write_pair(source / ROOT / "val", "r2", 2, num_events=2000)
    assert run(source, tmp_path / "expected") == 0
    assert recordings.open_recording(tmp_path / "expected" / "val" / "r2").num_events == 2000


STORED = [{"id": py7zr.FILTER_COPY}]  # as it is: compression takes most of the time of a small archive


def pack(source, folder, filters=None):
    """The same files as archives: folders inside, none inside, and two files of one recording in an order of
    its own."""
    folder.mkdir()
    for split in ("train", "val", "test"):
        with py7zr.SevenZipFile(folder / f"{split}_a.7z", "w", filters=filters) as handle:
            for file in sorted((source / ROOT / split).iterdir(), reverse=True):
                handle.write(file, file.name if split == "val" else f"{ROOT}/{split}/{file.name}")
    return folder


@pytest.mark.parametrize("tool", ["7z", "py7zr"])
def test_archives_give_the_same_bytes(source, tmp_path, expected, tool, monkeypatch):
    if tool == "py7zr":
        monkeypatch.setattr(archive, "program", lambda: None)
    elif archive.program() is None:
        pytest.skip("no 7z program on the PATH")
    packed = pack(source, tmp_path / "packed")
    assert run(packed, tmp_path / "out") == 0
    assert contents(tmp_path / "out") == expected
    monkeypatch.setattr(archive, "extract", None)  # nothing is left to extract
    assert run(packed, tmp_path / "out") == 0


def test_a_truncated_archive(source, tmp_path, expected, capsys):
    packed = pack(source, tmp_path / "packed")
    data = (packed / "val_a.7z").read_bytes()
    (packed / "val_a.7z").write_bytes(data[: len(data) // 2])
    assert run(packed, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "val_a.7z: its directory is unreadable" in line
    assert not (tmp_path / "out" / "val").exists()
    (packed / "val_a.7z").write_bytes(data)
    assert run(packed, tmp_path / "out") == 0
    assert contents(tmp_path / "out") == expected


def cut_dat(folder):
    path = folder / "r0_td.dat"
    path.write_bytes(path.read_bytes()[:-3])


def cut_boxes(folder):
    path = folder / "r0_bbox.npy"
    path.write_bytes(path.read_bytes()[:-3])


def late_events(folder):
    write_pair(folder, "r0", 0, late=7)


def no_partner(folder):
    (folder / "r0_bbox.npy").unlink()


def outside_the_sensor(folder):
    records = np.array([[5, 304 | 20 << 14]], "<u4")
    (folder / "r0_td.dat").write_bytes(b"% Width 304\n% Height 240\n\x0c\x08" + records.tobytes())


def too_many_rows(folder):
    (folder / "r0_td.dat").write_bytes(b"% Width 304\n% Height 1025\n\x0c\x08" + bytes(8))


def test_events_outside_the_sensor_are_left_out_and_counted(source, tmp_path):
    outside_the_sensor(source / ROOT / "train")
    assert run(source, tmp_path / "out") == 0
    made = recordings.open_recording(tmp_path / "out" / "train" / "r0")
    assert (made.num_events, made.info["left_out"]) == (0, {"events outside the sensor": 1})
    assert "r0: left out 1 events outside the sensor" in (tmp_path / "out" / "report.txt").read_text()


def test_a_loss_is_an_error_status_when_asked_for(source, tmp_path, capsys):
    outside_the_sensor(source / ROOT / "train")
    assert run(source, tmp_path / "out", "--strict") == 1
    assert "--strict: left out 1 events outside the sensor" in capsys.readouterr().err
    assert recordings.open_recording(tmp_path / "out" / "train" / "r0").num_events == 0
    assert run(source, tmp_path / "out") == 0


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut_dat, "ends 5 bytes into event 2999"),
        (cut_boxes, "expected boxes; download or extract it again"),
        (late_events, "7 of 3000 events at or after 60 s"),
        (no_partner, "no r0_bbox.npy beside it"),
        (too_many_rows, "a sensor of 304 x 1025 pixels, a prepared recording holds at most 2048 x 1024"),
    ],
)
def test_a_bad_recording_is_one_clear_line_and_the_others_are_made(source, tmp_path, capsys, damage, told):
    damage(source / ROOT / "train")
    assert run(source, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert "train/r0" in line
    assert [p.name for p in (tmp_path / "out" / "train").iterdir()] == ["r1"]
    assert told in (tmp_path / "out" / "report.txt").read_text()


# The first six can be names in an archive too: its format has no backslash, and text in UTF-16.
BAD_NAMES = ["", ".", "..", ".hidden", "a\nb", "\x1b[2J", "a\\b", "\udc80", "x" * 230]


@pytest.fixture
def own_files(tmp_path):
    """Files of the user below --out, one of them in the folder of a split."""
    paths = [
        tmp_path / "out" / "thesis.tex",
        tmp_path / "out" / "train" / "notes.txt",
        tmp_path / "beside.txt",
    ]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    return paths


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_recording_of_a_bad_name_is_one_line_and_nothing_is_removed(
    source, tmp_path, expected, own_files, capsys, name
):
    for suffix in ("_td.dat", "_bbox.npy"):
        good = source / ROOT / "train" / f"r0{suffix}"
        (good.parent / f"{name}{suffix}").write_bytes(good.read_bytes())
    assert run(source, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "name of a recording" in line
    assert line.isprintable()
    assert all(path.read_text() == "mine" for path in own_files)
    for path in own_files[:2]:
        path.unlink()
    found = contents(tmp_path / "out")
    assert found.pop("report.txt") == f"{line.removeprefix('error: ')}\n".encode()
    assert found == {key: value for key, value in expected.items() if key != "report.txt"}


@pytest.mark.parametrize("name", [*BAD_NAMES[:6], "../x", "../../out/x", "a/../../../../x"])
def test_a_member_of_a_bad_name_is_one_line_and_nothing_is_removed(
    source, tmp_path, expected, own_files, capsys, monkeypatch, name
):
    packed = pack(source, tmp_path / "packed", STORED)
    monkeypatch.setattr(py7zr.py7zr, "check_archive_path", lambda _: True)
    with py7zr.SevenZipFile(packed / "train_b.7z", "w", filters=STORED) as handle:
        for suffix in ("_td.dat", "_bbox.npy"):
            handle.writestr((source / ROOT / "train" / f"r0{suffix}").read_bytes(), f"train/{name}{suffix}")
    monkeypatch.undo()
    assert run(packed, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "train" in line
    assert line.isprintable()
    assert all(path.read_text() == "mine" for path in own_files)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["beside.txt", "expected", "out", "packed", "source"]
    for path in own_files[:2]:
        path.unlink()
    found = contents(tmp_path / "out")
    assert {key: value for key, value in expected.items() if key != "report.txt"} == {
        key: value for key, value in found.items() if key != "report.txt"
    }


def test_files_of_the_user_where_a_recording_goes_are_one_line_and_stay(source, tmp_path, expected, capsys):
    out = tmp_path / "out"
    (out / "train" / "r0").mkdir(parents=True)
    (out / "train" / "r0" / "thesis.tex").write_text("mine")
    assert run(source, out) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "train/r0 was not made here as recording" in line
    assert (out / "train" / "r0" / "thesis.tex").read_text() == "mine"
    assert {key for key in expected if not key.startswith("train/r0/")} == contents(out).keys() - {
        "train/r0/thesis.tex"
    }


def test_recordings_of_version_0_1_0_are_kept_and_made_anew(source, tmp_path, expected):
    """They have no marker, nor has what a killed run left."""
    out = tmp_path / "out"
    assert run(source, out) == 0
    for marker in list(out.rglob(folders.MARKER)):
        marker.unlink()
    shutil.copytree(out / "train" / "r0", out / "train" / ".r0.partial")
    (out / "train" / ".r0.partial" / ".events.host.7.partial.npy").touch()
    (out / ".extract-0-1" / "train_a" / "train").mkdir(parents=True)
    (out / ".extract-0-1" / "train_a" / "train" / "r0_td.dat").touch()
    assert run(source, out) == 0
    assert not (out / ".extract-0-1").exists()
    assert not list(out.rglob(folders.MARKER)), "a recording was made again that is whole"
    (out / "train" / "r0" / "events.npy").write_bytes(b"damaged")
    assert run(source, out) == 0
    found = contents(out)
    assert {k: v for k, v in expected.items() if not k.endswith(folders.MARKER)} == {
        k: v for k, v in found.items() if not k.endswith(folders.MARKER)
    }
    assert [k for k in found if k.endswith(folders.MARKER)] == [f"train/r0/{folders.MARKER}"]


def test_late_events_are_kept_with_a_longer_duration(source, tmp_path):
    late_events(source / ROOT / "train")
    assert run(source, tmp_path / "out", "--duration_s=61") == 0
    recording = recordings.open_recording(tmp_path / "out" / "train" / "r0")
    assert recording.duration_ms == 61_000
    assert len(recording.events(60_000, 61_000).t_us) == 7
    assert run(source, tmp_path / "out", "--duration_s=0") == 0
    recording = recordings.open_recording(tmp_path / "out" / "train" / "r0")
    assert recording.start_us // 1000 + recording.duration_ms == 60_001


def test_a_recording_of_any_clock_begins_at_its_first_event(source, tmp_path):
    """At 913 s it has the events and labels that it has at 0, and costs no empty milliseconds."""
    hour_us = 913_000_000
    folder = source / ROOT / "train"
    events = EventChunk(np.array([7_000, 12_345, 60_000]), *(np.arange(3, dtype=np.int16) % 2 for _ in "xyp"))
    boxes = np.zeros(3, dat.BOX_DTYPE)
    boxes["t"], boxes["w"], boxes["h"] = (1_000, 20_000, 70_000), 40, 50
    for name, clock_us in (("r0", 0), ("r1", hour_us)):
        dat.write_dat(folder / f"{name}_td.dat", events._replace(t_us=events.t_us + clock_us))
        shifted = boxes.copy()
        shifted["t"] += np.uint64(clock_us)
        dat.write_boxes(folder / f"{name}_bbox.npy", shifted)
    assert run(source, tmp_path / "out", "--duration_s=0") == 0
    near, late = (recordings.open_recording(tmp_path / "out" / "train" / name) for name in ("r0", "r1"))
    assert (near.start_us, late.start_us) == (5_000, 5_000 + hour_us)
    assert near.duration_ms == late.duration_ms == 66  # up to the box at 70 ms
    for recording in (near, late):
        assert recording.labels["t"].tolist() == [15_000, 65_000]
        assert recording.info["suspicious"]["before the first event, left out"] == 1
        assert recording.events(0, 66).t_us.tolist() == [2_000, 7_345, 55_000]
        clock = np.concatenate([chunk.t_us for chunk in recording.stream()])
        assert (clock - recording.start_us).tolist() == [2_000, 7_345, 55_000]
    # In a fixed duration, as GEN1 has, time 0 is the start.
    assert run(source, tmp_path / "fixed", "--duration_s=1000") == 0
    fixed = recordings.open_recording(tmp_path / "fixed" / "train" / "r1")
    assert (fixed.start_us, fixed.duration_ms) == (0, 1_000_000)


def test_a_label_file_without_boxes_is_told_and_prepared(source, tmp_path, capsys):
    write_pair(source / ROOT / "train", "r0", 0, num_boxes=0)
    for _ in range(2):
        assert run(source, tmp_path / "out") == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "train/r0: a label file without boxes" in line
    assert recordings.open_recording(tmp_path / "out" / "train" / "r0").label_interval_us == 1_000_000
    assert run(source, tmp_path / "out", "--allow_empty") == 0


def test_several_problems_are_one_line_each(source, tmp_path, capsys):
    cut_dat(source / ROOT / "train")
    no_partner_path = source / ROOT / "val" / "r2_td.dat"
    no_partner_path.unlink()
    assert run(source, tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "2 problems" in lines[-1]


def test_suspicious_labels_are_reported(source, tmp_path):
    folder = source / ROOT / "val"
    boxes = dat.read_boxes(folder / "r2_bbox.npy")
    boxes["x"][1], boxes["class_id"][2] = 310, 9
    dat.write_boxes(folder / "r2_bbox.npy", boxes)
    assert run(source, tmp_path / "out") == 0
    assert (
        tmp_path / "out" / "report.txt"
    ).read_text() == "val/r2: of 3 boxes 1 invalid, 1 of an unknown class\n"


def test_a_full_disk(source, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    writes = []

    def save(path, array, save=recordings.save_array):
        writes.append(path)
        if len(writes) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(path, array)

    with monkeypatch.context() as patch:
        patch.setattr(recordings, "save_array", save)
        assert run(source, out) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device; finished recordings are kept" in line
    assert [str(p.relative_to(out)) for p in sorted(out.rglob("*")) if p.is_dir()] == ["test", "test/r3"]
    assert recordings.check(out / "test" / "r3", full=True) is None
    assert run(source, out) == 0


def test_a_file_that_may_not_grow(source, tmp_path):
    # The kernel itself refuses the write, in a worker process.
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2); "
    command = limited + "from jaxdet.prepare import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            command,
            "gen1",
            f"--source={source}",
            f"--out={tmp_path / 'out'}",
            "--workers=2",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert "Traceback" not in done.stderr
    assert "File too large; finished recordings are kept" in line
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_nothing_to_prepare(tmp_path, capsys):
    assert run(tmp_path / "missing", tmp_path / "out") == 1
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", tmp_path / "out") == 1
    missing, empty = capsys.readouterr().err.splitlines()
    assert "no such file or folder" in missing
    assert "neither .7z archives nor" in empty
    assert prepare.main(["gen2"]) == 1
    assert "expected one of gen1" in capsys.readouterr().err


@pytest.mark.parametrize("from_archives", [False, True])
def test_killed_at_random_and_run_again_gives_the_same_bytes(source, tmp_path, expected, from_archives):
    for i in range(5, 25):
        write_pair(source / ROOT / "train", f"r{i}", i, num_events=20_000)
    reference = tmp_path / "reference"
    assert run(source, reference) == 0
    given = pack(source, tmp_path / "packed", STORED) if from_archives else source
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "jaxdet.prepare",
        "gen1",
        f"--source={given}",
        f"--out={out}",
        "--workers=2",
    ]
    rng = random.Random(0)
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Wait for the work to begin, then for some of it.
        deadline = time.monotonic() + 20
        while process.poll() is None and not out.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path, _ in ((p, s) for s in preparation.SPLITS for p in (out / s).glob("[!.]*")):
            assert recordings.check(path, full=True) is None, "what has its final name is whole"
    assert prepare.main(command[3:]) == 0
    assert contents(out) == contents(reference)
    shutil.rmtree(out)
