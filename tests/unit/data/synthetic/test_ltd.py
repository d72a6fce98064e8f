import shutil

import cv2
import numpy as np
import pytest

from jaxdet import prepare
from jaxdet.data.datasets import ltd
from jaxdet.data.images import sets
from jaxdet.data.synthetic import ltd as synthetic_ltd
from jaxdet.data.synthetic import thermal
from jaxdet.errors import InputError
from jaxdet.evaluation import coco

DATES = ("20210104", "20210213", "20210503", "20210705")


@pytest.fixture(scope="module")
def clips():
    """A few frames of four months."""
    return [list(synthetic_ltd.simulate(date, 0, 0, 8)) for date in DATES]


def test_objects_are_small_and_of_four_classes(clips):
    labels = np.concatenate([rows for clip in clips for _, rows in clip])
    assert set(labels[:, 0]) == {0, 1, 2, 3}
    width, height = labels[:, 3] - labels[:, 1], labels[:, 4] - labels[:, 2]
    inside = (labels[:, 1] > 0) & (labels[:, 2] > 0) & (labels[:, 3] < 384) & (labels[:, 4] < 288)
    longer = np.maximum(width, height)
    assert longer.max() <= 60
    assert longer[inside].min() >= 8
    assert np.percentile(longer, 10) < 20 < np.percentile(longer, 90)


def test_contrast_is_of_either_sign_down_to_eight_levels_over_noise_of_three():
    scene = thermal.camera(0)
    contrasts = []
    for month in range(12):
        conditions = thermal.weather(month, 0)
        movers = thermal.traffic(120, scene, conditions, np.random.default_rng(month))
        contrasts.append([mover.contrast for mover in movers])
    flat = np.concatenate(contrasts)
    assert np.abs(flat).min() == 8
    assert (flat > 0).any()
    assert (flat < 0).any()
    winter, summer = np.abs(contrasts[0]).mean(), np.abs(contrasts[6]).mean()
    assert summer < 0.7 * winter  # the drift over months
    # Two frames of a still scene differ by the noise alone, drawn twice; blurring is before it.
    conditions = thermal.weather(0, 0)
    a, b = (
        thermal.frame(0, scene, conditions, [], np.random.default_rng(seed))[0].astype(float)
        for seed in (1, 2)
    )
    assert (a - b).std() == pytest.approx(3 * np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("label", range(4))
def test_an_object_differs_from_what_is_behind_it_by_its_contrast(label):
    """In the picture: the same frame with and without it, the noise alike."""
    scene, conditions = thermal.camera(0), thermal.weather(0, 0)
    scene = scene._replace(occluder=np.zeros_like(scene.occluder))
    mover = thermal.Mover(label, (190.0, 200.0), (1.0, 0.0), 28.0, -8.0, 0)
    without, with_it = (
        thermal.frame(0, scene, conditions, movers, np.random.default_rng(0))[0].astype(float)
        for movers in ([], [mover])
    )
    # Blurring moves brightness and keeps its sum.
    area = (thermal.sprite(mover, 0) > thermal.OUTLINE).sum()
    assert (with_it - without).sum() / area == pytest.approx(-8, rel=0.05)


def test_what_an_occluder_hides_has_no_label():
    scene = thermal.camera(0)
    mover = thermal.Mover(0, (190.0, 200.0), (0.0, 0.0), 30.0, 50.0, 0)
    conditions = thermal.weather(0, 0)
    free = scene._replace(occluder=np.zeros_like(scene.occluder))
    hidden = scene._replace(occluder=np.ones_like(scene.occluder))
    assert len(thermal.frame(0, free, conditions, [mover], np.random.default_rng(0))[1]) == 1
    assert len(thermal.frame(0, hidden, conditions, [mover], np.random.default_rng(0))[1]) == 0


def _components(picture, threshold):
    """Spots that differ from their surroundings by more than a threshold, with their strength."""
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1)
    difference = smooth - cv2.medianBlur(picture, 31)
    for signed in (difference, -difference):
        _, _, boxes, _ = cv2.connectedComponentsWithStats((signed > threshold).astype(np.uint8))
        for x, y, w, h, _ in boxes[1:]:
            if 6 <= max(w, h) <= 70:
                yield (x, y, w, h), float(signed[y : y + h, x : x + w].max())


@pytest.mark.parametrize("threshold", [8, 15, 25])
def test_thresholds_and_components_do_not_solve_it(clips, threshold):
    truth, found = [], []
    pictures = [frame for clip in clips for frame in clip]
    for i, (picture, labels) in enumerate(pictures):
        truth += [(i, (x1, y1, x2 - x1, y2 - y1), c, 1.0) for c, x1, y1, x2, y2 in labels]
        for (x, y, w, h), score in _components(picture, threshold):
            # The class whose aspect is the nearest.
            found.append((i, (x, y, w, h), int(np.searchsorted([0.63, 1.03, 1.6], w / h)), score))
    tables = [coco.table(*(np.array(c) for c in zip(*rows, strict=True))) for rows in (truth, found)]
    metrics = coco.average_precision(*tables, len(pictures), ltd.CLASSES)
    assert metrics.statistics[1] < 0.4


def test_clips_are_the_same_whatever_was_made_before_and_whoever_makes_them(tmp_path):
    synthetic_ltd.write(tmp_path / "a", {"Day": 1}, 0, num_frames=2, workers=1)
    before = {
        p.relative_to(tmp_path / "a"): p.stat().st_mtime_ns for p in (tmp_path / "a/Train").rglob("*.*")
    }
    synthetic_ltd.write(tmp_path / "a", {"Day": 2, "Week": 1}, 0, num_frames=2, workers=2)
    assert all(
        (tmp_path / "a" / p).stat().st_mtime_ns == t for p, t in before.items()
    )  # kept, not made again
    synthetic_ltd.write(tmp_path / "b", {"Week": 1}, 0, num_frames=2, workers=1)
    for name in (
        "frames/20210213/clip_0_0000/image_0001.jpg",
        "annotations/20210213/clip_0_0000/annotations_0001.txt",
    ):
        expected = (tmp_path / "b/Train/Week" / name).read_bytes()
        assert (tmp_path / "a/Train/Week" / name).read_bytes() == expected
        assert (tmp_path / "a/Train/Day" / name).read_bytes() == expected
    with pytest.raises(InputError, match="choose another --out"):
        synthetic_ltd.write(tmp_path / "a", {}, 0, seed=1, num_frames=2)


def test_frames_of_the_data_set_itself_are_not_removed(tmp_path):
    """Frames and annotations of LTD come in archives of their own; those of the frames may be there alone."""
    frames = tmp_path / "Train/Day/frames/20210213/clip_0_0000"
    frames.mkdir(parents=True)
    (frames / "image_0000.jpg").write_bytes(b"a real one")
    with pytest.raises(InputError, match="clip_0_0000 was not made here as simulated clip"):
        synthetic_ltd.write(tmp_path, {"Day": 1}, 0, num_frames=2, workers=1)
    assert [p.read_bytes() for p in frames.iterdir()] == [b"a real one"]


def test_a_clip_that_was_cut_short_is_made_anew(tmp_path):
    for name in ("a", "b"):
        synthetic_ltd.write(tmp_path / name, {"Day": 1}, 0, num_frames=2, workers=1)
    annotations = tmp_path / "b/Train/Day/annotations/20210213/clip_0_0000"
    shutil.rmtree(annotations)
    partial = annotations.with_name(".clip_0_0000.partial")  # as version 0.1.0 left it, without a marker
    partial.mkdir()
    (partial / "annotations_0000.txt").touch()
    synthetic_ltd.write(tmp_path / "b", {"Day": 1}, 0, num_frames=2, workers=1)
    a, b = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("a", "b")
    )
    assert a == b


def test_lists_by_day_name_the_frames_of_their_days_in_all_months(tmp_path, capsys):
    source, out = tmp_path / "source", tmp_path / "out"
    flags = ["--day=0", "--month=0", "--test=3", "--frames=1", "--workers=1"]
    assert prepare.main(["synthetic-ltd", f"--out={source}", *flags]) == 0
    command = ["ltd", f"--source={source}", f"--out={out}"]
    assert prepare.main([*command, "--by_day=train=1-2,test=3-3"]) == 0
    found = {name: [item.path for item in sets.from_list(out / f"{name}.txt")] for name in ("train", "test")}
    assert all(path.is_file() for paths in found.values() for path in paths)
    for name, days in (("train", {1, 2}), ("test", {3})):
        assert len(found[name]) == len(days) * len(ltd.TEST_MONTHS)
        assert {ltd.day_of(path.stem) for path in found[name]} == days
    for flag, message in (("a=4", "expected NAME=FIRST-LAST"), ("late=8-9", "no annotated frame")):
        assert prepare.main([*command, f"--by_day={flag}"]) == 1
        assert message in capsys.readouterr().err
    assert not (out / "late.txt").exists()


def test_simulated_source_goes_through_prepare_ltd(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    flags = ["--day=1", "--month=0", "--test=1", "--frames=2", "--workers=1"]
    assert prepare.main(["synthetic-ltd", f"--out={source}", *flags]) == 0
    assert prepare.main(["ltd", f"--source={source}", f"--out={out}"]) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(["Day", *ltd.TEST_MONTHS])
    for month in ltd.TEST_MONTHS:
        items = sets.from_folder(out / month / "images")
        assert len(items) == 2
        assert {ltd.MONTHS[int(item.name[4:6]) - 1] for item in items} == {month}
    listed = sets.from_list(out / "Day" / "e5.txt")
    assert all(item.path.is_file() for item in listed)
