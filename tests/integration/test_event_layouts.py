"""Public sets of recordings, simulated in their layouts: prepared, trained on and evaluated."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest

from jaxdet import class_names, evaluate, predict, prepare, train
from jaxdet.data.datasets import event_sets
from jaxdet.data.events import recordings
from jaxdet.evaluation import labels as label_sets
from jaxdet.evaluation import protocols, used_labels

CASES = [
    *(("1mpx", "7"), ("1mpx", "3"), ("etram", "3"), ("etram", "8"), ("dsec-det", "8"), ("dsec-det", "2")),
    *(("pedro", "1"), ("pku-davis-sod", "3")),
]
# Layouts that are trained on, with classes, protocol and camera of the evaluation.
TRAINED = [
    ("1mpx", "7", "rvt", "1mpx_half"),
    ("etram", "3", "etram", "1mpx_half"),
    ("dsec-det", "2", "dsec-det", "gen1"),
    ("pedro", "1", "dsec-det", "gen1"),
    ("pku-davis-sod", "3", "dsec-det", "gen1"),
]
NAMES = {
    ("1mpx", "7"): class_names.ONEMPX,
    ("1mpx", "3"): class_names.ONEMPX[:3],
    ("etram", "3"): class_names.ONEMPX[:3],
    ("etram", "8"): class_names.ETRAM,
    ("dsec-det", "8"): class_names.DSEC_DET,
    ("dsec-det", "2"): ("car", "pedestrian"),
    ("pedro", "1"): ("person",),
    ("pku-davis-sod", "3"): ("car", "person", "two-wheeler"),
}


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def simulate(folder, layout, counts=(1, 1, 3), *flags):
    numbers = [f"--{split}={count}" for split, count in zip(("train", "val", "test"), counts, strict=True)]
    assert prepare.main(["synthetic", f"--layout={layout}", f"--out={folder}", *numbers, *flags]) == 0
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    layouts = dict.fromkeys(layout for layout, _ in CASES)
    return {name: simulate(folder / name, name, (1, 1, 3), "--duration_s=1.2") for name in layouts}


def command(layout, classes, source, out):
    half = "events" if layout in ("1mpx", "etram") else "no"
    return [layout, f"--source={source}", f"--out={out}", f"--classes={classes}", f"--half={half}"]


def label_files(source, layout, classes):
    """Label files of the test split, as the layout names them."""
    if layout == "1mpx":
        return sorted((source / "test").glob("*_bbox.npy"))
    folder = "class annotations/eight_class_annotations_test" if classes == "8" else "HDF5/test_h5_1"
    return sorted((source / folder).glob("*_bbox.npy"))


def counted(paths, num_classes):
    """Labels that are kept and scored by `rvt` at half of the size, and those left out, by reason.

    Written from the description of the protocol and of the layouts, without the code under test.
    """
    counts = Counter()
    for path in paths:
        rows = np.load(path)
        counts["all"] += len(rows)
        rows = rows[rows["class_id"] < num_classes]
        counts["prepared"] += len(rows)
        scored = rows["class_id"] <= 2
        counts["of other classes"] += int((~scored).sum())
        rows = rows[scored]
        w, h, times = rows["w"] / 2, rows["h"] / 2, rows["t"]
        candidates = np.unique(times[(w >= 2.5) & (h >= 2.5)])
        candidates = candidates[candidates >= 100_000]
        grid = list(candidates[:1])
        base = np.median(np.diff(candidates))
        step = max(1, round(100_000 / base)) * base
        for t in candidates[1:]:
            multiple = round((int(t) - int(grid[-1])) / step)
            if multiple > 0 and abs(int(t) - int(grid[-1]) - multiple * step) <= 2_000:
                grid.append(t)
        on = np.isin(times, grid)
        counts["off the grid of label times"] += int((~on).sum())
        early = on & (times <= 500_000)
        counts["too early"] += int(early.sum())
        small = (w**2 + h**2 < 900) | (np.minimum(w, h) < 10)
        counts["too small"] += int((on & ~early & small).sum())
        counts["used"] += int((on & ~early & ~small).sum())
    return counts


@pytest.mark.parametrize(("layout", "classes"), CASES[:3])
def test_labels_after_each_filter_are_those_of_an_independent_count(sources, tmp_path, layout, classes):
    assert prepare.main(command(layout, classes, sources[layout], tmp_path / "out")) == 0
    names = NAMES[layout, classes]
    assert event_sets.read_description(tmp_path / "out")["classes"] == list(names)
    found = [recordings.open_recording(path) for path in recordings.find(tmp_path / "out", "test")]
    assert {(r.width, r.height) for r in found} == {(640, 360)}
    # Times in a prepared recording count from its start, those of the files from 0.
    assert {r.start_us for r in found} == {0}
    expected = counted(label_files(sources[layout], layout, classes), len(names))
    labels = label_sets.of_recordings(found)
    protocol = protocols.of("rvt", "1mpx_half")
    used = used_labels.select(labels, protocol, names)
    assert sum(len(r.labels) for r in found) == expected["prepared"] == used.num_labels
    assert used.num_used == expected["used"] > 0
    for reason, count in used.left_out.items():
        assert count == expected[reason], reason
    left_out = sum(count for r in found for count in r.info["left_out"].values())
    assert left_out == expected["all"] - expected["prepared"]
    assert bool(left_out) == (classes == "3" and layout == "1mpx")


def test_boxes_of_dsec_det_are_those_of_its_tables_whatever_the_order_of_their_columns(sources, tmp_path):
    assert prepare.main(command("dsec-det", "8", sources["dsec-det"], tmp_path / "out")) == 0
    merged = [*command("dsec-det", "2", sources["dsec-det"], tmp_path / "two"), "--map=rider=pedestrian"]
    assert prepare.main(merged) == 0
    names = [path.name for path in recordings.find(tmp_path / "out", "test")]
    assert names == ["thun_01_a", "thun_01_b", "thun_02_a"]
    assert [path.name for path in recordings.find(tmp_path / "out", "val")] == ["zurich_city_16_a"]
    orders, total = set(), Counter()
    for name in names:
        folder = sources["dsec-det"] / "test" / name
        rows = np.load(folder / "object_detections" / "left" / "tracks.npy")
        orders.add(rows.dtype.names.index("h") - rows.dtype.names.index("w"))
        recording = recordings.open_recording(tmp_path / "out" / "test" / name)
        assert (recording.width, recording.height) == (640, 480)
        labels = recording.labels
        np.testing.assert_array_equal(labels["t"] + np.uint64(recording.start_us), rows["t"])
        for field in ("x", "y", "w", "h", "class_id", "track_id"):
            np.testing.assert_array_equal(labels[field], rows[field])
        images = np.loadtxt(folder / "images" / "timestamps.txt", np.int64)
        assert recording.info["label_times"] == len(images) == len(np.unique(rows["t"])) + 1
        with h5py.File(folder / "events" / "left" / "events.h5") as file:
            first = int(file["t_offset"][()]) + int(file["events/t"][0])
            index = file["ms_to_idx"][()]
            assert (file["events/t"][()][index] >= 1000 * np.arange(len(index))).all()
        assert recording.start_us == first // 5000 * 5000 != 0
        two = recordings.open_recording(tmp_path / "two" / "test" / name).labels
        # Car is class 0 of two, and pedestrian, with riders, class 1.
        assert (two["class_id"] == (rows["class_id"] != 2)).all()
        total["labels"] += len(rows)
    assert orders == {1, -1}
    found = [recordings.open_recording(path) for path in recordings.find(tmp_path / "out", "test")]
    used = used_labels.select(label_sets.of_recordings(found), protocols.of("dsec-det"), class_names.DSEC_DET)
    assert used.num_used == total["labels"] > 0
    assert "8 Hz" not in used.line()


def test_samples_of_pedro_that_follow_each_other_are_one_recording(sources, tmp_path):
    source = sources["pedro"]
    assert prepare.main(command("pedro", "1", source, tmp_path / "out")) == 0
    found = {path.name: recordings.open_recording(path) for path in recordings.find(tmp_path / "out", "test")}
    # Numbers of the samples of a recording begin with that of the recording.
    assert list(found) == [f"test_frame000{number}000" for number in range(3)]
    for number, recording in enumerate(found.values()):
        samples = [np.load(p) for p in sorted((source / "numpy" / "test").glob(f"frame000{number}*.npy"))]
        together = np.concatenate(samples)
        start_us = int(together[0, 0]) // 5000 * 5000
        assert recording.start_us == start_us > 1.6e15
        events = recording.events(0, recording.info["num_events"])
        np.testing.assert_array_equal(np.stack(events, 1), together - [start_us, 0, 0, 0])
        boxes = []
        for sample, path in zip(
            samples, sorted((source / "xml" / "test").glob(f"frame000{number}*.xml")), strict=True
        ):
            root = ElementTree.parse(path).getroot()
            for item in root.iter("bndbox"):
                x1, y1, x2, y2 = (float(item.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax"))
                boxes.append((int(sample[-1, 0]) - start_us, x1, y1, x2 - x1, y2 - y1))
        labels = recording.labels
        assert [tuple(row) for row in labels[["t", "x", "y", "w", "h"]].tolist()] == boxes != []
        assert set(labels["class_id"].tolist()) == {0}
        assert recording.label_interval_us == pytest.approx(40_000, abs=4_000)
    # A pause of more than a second within the samples divides a recording.
    path = sorted((source / "numpy" / "val").iterdir())[10:]
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    for sample in path:
        np.save(copy / "numpy" / "val" / sample.name, np.add(np.load(sample), [1_100_000, 0, 0, 0]))
    assert prepare.main(command("pedro", "1", copy, tmp_path / "two")) == 0
    names = [path.name for path in recordings.find(tmp_path / "two", "val")]
    assert names == ["val_frame0000000", "val_frame0000010"]


def test_frames_of_pku_davis_sod_are_numbered_from_one(sources, tmp_path):
    source = sources["pku-davis-sod"]
    assert prepare.main(command("pku-davis-sod", "3", source, tmp_path / "out")) == 0
    found = {path.name: recordings.open_recording(path) for path in recordings.find(tmp_path / "out", "test")}
    assert list(found) == ["001_test_normal", "002_test_low_light", "003_test_motion_blur"]
    spellings = set()
    for number, (name, recording) in enumerate(found.items()):
        clock_us = 1_600_000_000_000_007 + number * 60_000_000  # of the simulation
        expected = []
        (folder,) = (source / "annotations" / "test").glob(f"*/{name}")
        first_us = int(recording.labels["t"][0]) + recording.start_us
        numbers = sorted(int(path.stem) for path in folder.iterdir())
        for index in numbers:
            shapes = json.loads((folder / f"{index}.json").read_text())["shapes"]
            time = first_us + (index - numbers[0]) * 40_000
            for shape in shapes:
                spellings |= {*shape} & {"label", "lable"}
                (x1, y1), (x2, y2) = shape["points"]
                label = int(shape.get("label") or shape["lable"]) - 1
                expected.append((time, label, min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)))
        rows = recording.labels[["t", "class_id", "x", "y", "w", "h"]].tolist()
        assert [(t + recording.start_us, *rest) for t, *rest in rows] == expected
        assert (first_us - clock_us) % 10_000 == 0  # a picture of the simulation
        assert recording.info["label_times"] >= len(numbers)
    assert spellings == {"label", "lable"}


def test_every_format_of_the_layout_gives_the_same_events(sources, tmp_path):
    """The third recording of 1Mpx is DAT, the others HDF5, one without a size; eTraM's are all HDF5."""
    assert prepare.main(command("1mpx", "7", sources["1mpx"], tmp_path / "a")) == 0
    assert prepare.main(command("etram", "8", sources["etram"], tmp_path / "b")) == 0
    pairs = [[recordings.find(tmp_path / out, "test")[n] for out in "ab"] for n in range(3)]
    suffixes = []
    for number, (one, other) in enumerate([(a, b) for a, b in pairs]):
        first, second = recordings.open_recording(one), recordings.open_recording(other)
        suffixes.append(first.info["source"]["events"][0]["file"].rpartition(".")[2])
        if number == 0:  # eTraM names days before nights, which keeps only the first in its place
            for a, b in zip(first.events(0, 1200), second.events(0, 1200), strict=True):
                np.testing.assert_array_equal(a, b)
    assert sorted(suffixes) == ["dat", "h5", "h5"]
    assert len({r.info["source"]["events"][0]["file"] for r in map(recordings.open_recording, pairs[1])}) == 2


def test_a_missing_partner_is_named(sources, tmp_path, capsys):
    copy = tmp_path / "copy" / "test"
    copy.mkdir(parents=True)
    for path in sorted((sources["1mpx"] / "test").iterdir())[:-1]:
        (copy / path.name).write_bytes(path.read_bytes())
    (tmp_path / "copy" / "old" / "x_bbox.npy").parent.mkdir()
    (tmp_path / "copy" / "old" / "x_bbox.npy").write_bytes(b"")
    assert prepare.main(command("1mpx", "7", tmp_path / "copy", tmp_path / "out")) == 1
    told = capsys.readouterr().err
    assert "synthetic_test_0002_bbox.npy: no synthetic_test_0002_td" in told
    assert "x_bbox.npy: left out, in no folder called train, val or test" in told
    assert len(recordings.find(tmp_path / "out", "test")) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "classes"), CASES)
def test_killed_and_run_again_gives_the_same_bytes(sources, tmp_path, layout, classes):
    assert prepare.main(command(layout, classes, sources[layout], tmp_path / "expected")) == 0
    out, landed = tmp_path / "out", 0
    line = [sys.executable, "-m", "jaxdet.prepare", *command(layout, classes, sources[layout], out)]
    for delay in (0.02, 0.15, 0.4):
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and not out.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        landed += process.wait() == -signal.SIGKILL
    assert landed
    assert subprocess.run(line, stderr=subprocess.DEVNULL).returncode == 0
    assert contents(out) == contents(tmp_path / "expected")


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "classes", "protocol", "camera"), TRAINED)
def test_a_set_is_trained_on_and_evaluated_by_weights_and_by_file(
    tmp_path, layout, classes, protocol, camera
):
    source = simulate(tmp_path / "source", layout, (4, 1, 2), "--duration_s=2")
    data = tmp_path / "data"
    assert prepare.main(command(layout, classes, source, data)) == 0
    config = f"--config={Path(__file__).parent / 'small_events.py'}:{data}"
    assert train.main([config, f"--workdir={tmp_path / 'run'}"]) == 0
    run, out = f"--weights={tmp_path / 'run'}", f"--out={tmp_path / 'boxes'}"
    assert predict.main([run, config, "--split=test", out]) == 0
    measured = {"weights": run, "file": f"--detections={tmp_path / 'boxes'}"}
    common = [f"--protocol={protocol}", f"--camera={camera}", config]
    for name, given in measured.items():
        assert evaluate.main([*common, given, f"--out={tmp_path / name}.json"]) == 0
    numbers = [json.loads((tmp_path / f"{name}.json").read_text()) for name in measured]
    for values in numbers:
        assert values["protocol"].startswith(protocol)
    assert numbers[0]["num_detections"] > 0
    for key in ("statistics", "classes"):
        assert numbers[0][key] == numbers[1][key] != {}
