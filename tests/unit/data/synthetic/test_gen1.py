"""Facts about simulated recordings, measured from the files that were written."""

import numpy as np
import pytest

from jaxdet.data.events import dat, streams
from jaxdet.data.events.open import open_events
from jaxdet.data.synthetic import gen1
from jaxdet.errors import InputError

COUNTS = {"train": 3, "val": 1, "test": 3}
SIMULATION = gen1.Simulation(seed=3, duration_s=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic")
    gen1.write(out, COUNTS, SIMULATION, workers=2)
    return out


def recordings(folder, split="*"):
    """(events, boxes) of each recording."""
    for path in sorted(folder.glob(f"{split}/*_td.dat")):
        events = streams.concatenate(open_events(path))
        yield events, dat.read_boxes(path.with_name(path.name.replace("_td.dat", "_bbox.npy")))


def scored(boxes):
    """Boxes that the GEN1 protocol looks at."""
    large = (boxes["w"] >= 10) & (boxes["h"] >= 10) & (boxes["w"] ** 2 + boxes["h"] ** 2 >= 900)
    return boxes[(boxes["t"] > 500_000) & large]


def events_inside(events, box, before_us):
    """Events inside the box in the `before_us` before its label."""
    rows = slice(*np.searchsorted(events.t_us, [int(box["t"]) - before_us, int(box["t"])]))
    x, y = events.x[rows], events.y[rows]
    inside = (x >= box["x"]) & (x < box["x"] + box["w"]) & (y >= box["y"]) & (y < box["y"] + box["h"])
    return np.count_nonzero(inside)


def test_all_recordings_of_all_splits_are_written(folder):
    for split, count in COUNTS.items():
        assert len(list((folder / split).glob("*_td.dat"))) == count
        assert len(list((folder / split).glob("*_bbox.npy"))) == count


def test_events_are_in_order_and_on_the_sensor(folder):
    for events, _ in recordings(folder):
        assert np.all(np.diff(events.t_us) >= 0)
        assert events.t_us[0] >= 0
        assert events.t_us[-1] < SIMULATION.duration_s * 1e6
        assert events.x.min() >= 0
        assert events.x.max() < 304
        assert events.y.min() >= 0
        assert events.y.max() < 240
        assert set(np.unique(events.p)) == {0, 1}


def test_event_rate_is_moderate(folder):
    for events, _ in recordings(folder):
        assert 20_000 < len(events.t_us) / SIMULATION.duration_s < 300_000


def test_pixels_rest_between_events(folder):
    events, _ = next(recordings(folder, "train"))
    pixel = events.y.astype(np.int64) * 304 + events.x
    order = np.argsort(pixel, kind="stable")
    gaps = np.diff(events.t_us[order])[np.diff(pixel[order]) == 0]
    assert gaps.min() >= 500


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_class_has_a_quarter_of_the_boxes(folder, split):
    classes = np.concatenate([scored(boxes)["class_id"] for _, boxes in recordings(folder, split)])
    assert np.bincount(classes, minlength=2).min() >= 0.25 * len(classes)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_fifth_of_the_boxes_needs_memory(folder, split):
    counts = [
        events_inside(events, box, 50_000)
        for events, boxes in recordings(folder, split)
        for box in scored(boxes)
    ]
    assert np.mean(np.array(counts) < 20) >= 0.2


def test_silent_boxes_had_made_events_before(folder):
    """A box without any evidence in the recording's past could not be found by any detector."""
    for events, boxes in recordings(folder):
        for box in scored(boxes):
            assert events_inside(events, box, int(box["t"])) >= 20


@pytest.mark.parametrize(("split", "label_hz"), [("train", 20), ("val", 4), ("test", 4)])
def test_two_or_more_objects_at_each_labelled_time(folder, split, label_hz):
    for _, boxes in recordings(folder, split):
        times, counts = np.unique(boxes["t"], return_counts=True)
        assert counts.min() >= 2
        assert np.diff(times).min() >= 1e6 / label_hz
        assert len(times) >= SIMULATION.duration_s * label_hz - 1


def test_boxes_lie_in_the_view_and_pass_the_size_filter(folder):
    for _, boxes in recordings(folder):
        assert np.all((boxes["x"] >= 0) & (boxes["y"] >= 0))
        assert np.all((boxes["x"] + boxes["w"] <= 304) & (boxes["y"] + boxes["h"] <= 240))
        late = boxes[boxes["t"] > 500_000]
        assert len(scored(boxes)) == len(late) > 0


def test_cars_are_wide_and_pedestrians_tall(folder):
    boxes = np.concatenate([boxes for _, boxes in recordings(folder)])
    whole = boxes[(boxes["x"] > 0) & (boxes["x"] + boxes["w"] < 304)]
    ratio = whole["w"] / whole["h"]
    assert np.all(ratio[whole["class_id"] == 0] > 1.5)
    assert np.all(ratio[whole["class_id"] == 1] < 0.75)


def test_trajectories_differ_between_all_recordings(folder):
    tracks = [
        tuple(map(tuple, boxes[boxes["track_id"] == track][["x", "y", "w", "h"]].tolist()))
        for _, boxes in recordings(folder)
        for track in np.unique(boxes["track_id"])
    ]
    long = [track for track in tracks if len(track) >= 3]
    assert len(set(long)) == len(long) > len(COUNTS)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_gives_same_bytes_for_any_number_of_workers(folder, tmp_path):
    gen1.write(tmp_path, {"test": 1, "train": 1}, SIMULATION, workers=1)
    expected = contents(folder)
    for name, data in contents(tmp_path).items():
        assert data == expected[name], name


def test_other_seed_gives_other_recordings(folder, tmp_path):
    other = gen1.Simulation(seed=4, duration_s=1)
    gen1.write_recording(tmp_path, "train", 0, other)
    events = next(recordings(tmp_path))[0]
    assert not np.array_equal(events.t_us[:1000], next(recordings(folder, "train"))[0].t_us[:1000])


def test_finished_recordings_are_kept_and_missing_ones_made_again(folder):
    before = contents(folder)
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*_td.dat")}
    lost = folder / "val" / "synthetic_val_0000_bbox.npy"
    lost.unlink()
    gen1.write(folder, COUNTS, SIMULATION, workers=1)
    assert contents(folder) == before
    again = {path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert again == {"synthetic_val_0000_td.dat"}


def test_recordings_of_an_earlier_call_are_said_to_be_used(folder, caplog):
    gen1.write(folder, {**COUNTS, "train": COUNTS["train"] - 1}, SIMULATION, workers=1)
    (said,) = (record.message for record in caplog.records if record.levelname == "WARNING")
    assert "1 more recordings of train are there and are used as well" in said


def test_lower_threshold_makes_more_events(tmp_path, folder):
    sensitive = gen1.Simulation(seed=3, duration_s=1, threshold=0.22)
    gen1.write_recording(tmp_path, "train", 0, sensitive)
    plain = next(recordings(folder, "train"))[0].t_us
    assert len(next(recordings(tmp_path))[0].t_us) > 1.5 * np.count_nonzero(plain < 1e6)


def test_folder_of_another_simulation_is_refused(folder):
    with pytest.raises(InputError, match="another --out"):
        gen1.write(folder, COUNTS, gen1.Simulation(seed=4, duration_s=3))
    with pytest.raises(InputError, match="duration_s"):
        gen1.write(folder, COUNTS, gen1.Simulation(duration_s=0.1))
