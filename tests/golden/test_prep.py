"""The prepared recordings hold what the released preparation scripts make of the same source files."""

import pickle

import golden_data
import numpy as np
import pytest

from jaxdet import prepare
from jaxdet.data.datasets import gen1_metadata
from jaxdet.data.events import dat, recordings
from jaxdet.data.events import labels as label_rules
from jaxdet.data.events.open import open_events
from jaxdet.data.events.streams import EventChunk, concatenate

ARRAYS = golden_data.load("hmnet/prep")
NAMES = sorted(
    k[len("source/") : -len("_td.dat")] for k in ARRAYS if k.startswith("source/") and k.endswith(".dat")
)
SPLIT = {
    line.rsplit("/", 1)[1].removesuffix("_td.npy"): split
    for split in ("train", "val", "test")
    for line in ARRAYS[f"list/{split}/events.txt"].tolist()
}


def write_source(folder, name):
    """The source files of one recording, as the data set has them."""
    (folder / f"{name}_td.dat").write_bytes(ARRAYS[f"source/{name}_td.dat"].tobytes())
    prefix = f"source/{name}_bbox.npy/"
    dtype = np.dtype([tuple(field.split(":")) for field in ARRAYS[prefix + "__dtype__"].tolist()])
    boxes = np.zeros(len(ARRAYS[prefix + "ts"]), dtype)
    for field in dtype.names:
        boxes[field] = ARRAYS[prefix + field]
    np.save(folder / f"{name}_bbox.npy", boxes)


@pytest.mark.parametrize("name", NAMES)
def test_events_and_labels_of_the_source_files(tmp_path, name):
    write_source(tmp_path, name)
    stream = open_events(tmp_path / f"{name}_td.dat")
    events = concatenate(stream)
    events = events.take(np.argsort(events.t_us, kind="stable"))
    expected = f"{SPLIT[name]}_evt/{name}_td.npy/"
    for field, column in zip(("t", "x", "y", "p"), events):
        np.testing.assert_array_equal(column, ARRAYS[expected + field])
    assert isinstance(events, EventChunk)

    boxes = dat.read_boxes(tmp_path / f"{name}_bbox.npy")
    labels = label_rules.from_boxes(boxes, stream.width, stream.height)
    expected = f"{SPLIT[name]}_lbl/{name}_bbox.npy/"
    assert [f"{k}:{labels.dtype[k].str}" for k in labels.dtype.names] == ARRAYS[
        expected + "__dtype__"
    ].tolist()
    for field in labels.dtype.names:
        np.testing.assert_array_equal(labels[field], ARRAYS[expected + field])
    intervals = dict(
        line.split(",") for line in str(ARRAYS[f"list/{SPLIT[name]}/gt_interval.csv"]).splitlines()[1:]
    )
    assert label_rules.interval_us(labels) == int(intervals[f"{name}_bbox.npy"])


def test_prepared_recordings(tmp_path, caplog):
    for name in NAMES:
        folder = tmp_path / "source" / "detection_dataset_duration_60s_ratio_1.0" / SPLIT[name]
        folder.mkdir(parents=True, exist_ok=True)
        write_source(folder, name)
    for split in set(SPLIT.values()):
        folder = tmp_path / "source" / "list" / split
        folder.mkdir(parents=True)
        prefix = f"list/{split}/meta.pkl/"
        names = {key[len(prefix) :].rsplit("/", 1)[0] for key in ARRAYS if key.startswith(prefix)}
        meta = {name: (ARRAYS[f"{prefix}{name}/pos"], ARRAYS[f"{prefix}{name}/count"]) for name in names}
        (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
        (folder / "gt_interval.csv").write_text(str(ARRAYS[f"list/{split}/gt_interval.csv"]))
    command = [
        "gen1",
        f"--source={tmp_path / 'source'}",
        f"--out={tmp_path / 'out'}",
        "--workers=1",
        "--allow_empty",
    ]
    # Compares with the released metadata that lies in the source.
    with caplog.at_level("INFO"):
        assert prepare.main(command) == 0
    for split in ("train", "val", "test"):
        assert f"{split}: released metadata compared, 0 differences" in caplog.text
        expected = [line.rsplit("/", 1)[1] for line in ARRAYS[f"list/{split}/events.txt"].tolist()]
        paths = recordings.find(tmp_path / "out", split)
        assert [f"{path.name}_td.npy" for path in paths] == expected
        for recording in map(recordings.open_recording, paths):
            events = recording.events(0, recording.duration_ms)
            for field, column in zip(("t", "x", "y", "p"), events):
                np.testing.assert_array_equal(column, ARRAYS[f"{split}_evt/{recording.name}_td.npy/{field}"])
            for field in recording.labels.dtype.names:
                np.testing.assert_array_equal(
                    recording.labels[field], ARRAYS[f"{split}_lbl/{recording.name}_bbox.npy/{field}"]
                )
            for ours, theirs in zip(gen1_metadata.meta(recording), ("pos", "count"), strict=True):
                np.testing.assert_array_equal(
                    ours, ARRAYS[f"list/{split}/meta.pkl/{recording.name}_td.npy/{theirs}"]
                )
