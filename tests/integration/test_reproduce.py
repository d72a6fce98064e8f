"""A miniature of the three challenge tracks: eight months, several clips, every kind of row."""

import shutil
import zlib
from dataclasses import replace

import numpy as np
import pytest

from jaxdet.challenges import recipes, reproduction
from jaxdet.challenges.recipes import Row
from jaxdet.data.datasets import ltd
from jaxdet.errors import InputError
from jaxdet.evaluation import months
from jaxdet.formats import plain_pickle
from jaxdet.postprocess import overlaps
from jaxdet.structs import Boxes

TRACKS = ("day", "week", "month")
NUM_FRAMES = {"Jan": 7, "Mar": 4, "Apr": 5, "May": 4, "Jun": 4, "Jul": 4, "Aug": 4, "Sep": 3}


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch):
    monkeypatch.setattr(overlaps, "_FRAME_SIZES", (16,))
    monkeypatch.setattr(overlaps, "_BOX_SIZES", (8,))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Frames, annotations of two months and two weights; the frames of January lie on two days."""
    root = tmp_path_factory.mktemp("ltd")
    for month, num_frames in NUM_FRAMES.items():
        for i in range(num_frames):
            number = ltd.MONTHS.index(month) + 1
            day, clip = (2, "clip_2_0100") if i >= 4 else (1, "clip_1_0001")
            day = f"2021{number:02d}{day:02d}"
            frame = root / "data" / "Test" / month / "frames" / day / clip / f"image_{i:04d}.jpg"
            frame.parent.mkdir(parents=True, exist_ok=True)
            frame.write_text(f"{month} {i}")
            if month in ("Jan", "Sep"):
                folder = root / "data" / "Test" / month / "annotations" / day / clip
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"annotations_{i:04d}.txt").write_text(f"1 human {10 + 2 * i} 20 {40 + 2 * i} 60\n")
    for name in ("a", "b"):
        (root / "weights" / name).mkdir(parents=True)
        (root / "weights" / name / "params").write_text(name)
    return root


def _recipe(track):
    rows = {
        "day": (
            Row("Sep", "a", "p6", 64, None, 0.1, "score", 0.1),
            Row("Jan Mar Apr May Jun Jul Aug", "b", "p7", 64, "flip", 0.1, "seqnms", 0.5),
        ),
        "week": (
            Row("Apr Aug Jan Jul Jun", "b", "p7", 64, "flip", 0.1, "seqnms", 0.4),
            Row("Sep", "a", "p7", 64, None, 0.1, "seqnms", 0.4),
            Row("Mar May", "a", "p7", 64, None, 0.6, "score", 0.6),
        ),
        "month": (
            Row("Jan", "a", "p6", 64, None, 0.1, "seqnms", 0.6),
            Row("Mar Apr Jun May Jul", "b", "p7", 64, "flip", 0.1, "seqnms", 0.5),
            Row("Aug", "b", "p7", 64, None, 0.1, "seqnms", 0.5),
            Row("Sep", "a", "p6", 64, None, 0.1, "seqnms", 0.6),
        ),
    }[track]
    return reproduction.TrackRecipe(rows, NUM_FRAMES, months.ESTIMATED_WEIGHTS)


class Killed(Exception):
    pass


class Fake:
    """Stands for a detector: boxes follow from row, weights and image alone. Dies at image `die_at`."""

    def __init__(self, die_at=None):
        self.num_images, self.loaded, self.die_at = 0, [], die_at

    def __call__(self, row, weights):
        self.loaded.append((row.size, row.tta, weights.name))

        def detect(paths):
            for path in paths:
                self.num_images += 1
                if self.num_images == self.die_at:
                    raise Killed
                yield self._frame(path, row, weights)

        return detect

    def _frame(self, path, row, weights):
        number = int(path.stem[-4:])
        rng = np.random.default_rng(zlib.crc32(f"{path.read_text()}{row.tta}{weights.name}".encode()))
        boxes = [[10 + 2 * number, 20, 40 + 2 * number, 60], [200, 100, 240, 150], [202, 101, 241, 151]]
        present = rng.random(3) < 0.8
        scores = np.sort(rng.uniform(row.conf, 1, 3))[::-1]
        return Boxes(
            np.array(boxes)[present],
            scores[present].round(5),
            np.array([0, 3, 3])[present],
            image_size=(288, 384),
        )


def _run(place, track, workdir, load, only=()):
    recipe = _recipe(track)
    todo, problems = reproduction.plan(recipe, place / "data", place / "weights", only)
    assert not problems
    return reproduction.run(todo, workdir, load, recipe.month_weights)


@pytest.mark.parametrize("track", TRACKS)
def test_every_track_has_all_frames_and_survives_being_killed(place, tmp_path, track):
    whole = _run(place, track, tmp_path / "whole", Fake())
    content = plain_pickle.load(whole)
    assert {month: len(entries) for month, entries in content.items()} == NUM_FRAMES
    assert any(entry["boxes"] != [[0, 0, 0, 0]] for e in content.values() for entry in e.values())
    total = sum(NUM_FRAMES.values())
    num_images = 0
    for die_at in (1, 3, 6, 9, 13, None):
        fake = Fake(die_at)
        try:
            _run(place, track, tmp_path / "killed", fake)
        except Killed:
            assert not (tmp_path / "killed" / "predictions.pkl").exists()
        num_images += fake.num_images
    assert (tmp_path / "killed" / "predictions.pkl").read_bytes() == whole.read_bytes()
    assert num_images < 2 * total  # what was finished is not done again


def test_a_finished_run_predicts_nothing_again_and_keeps_its_bytes(place, tmp_path):
    first = _run(place, "week", tmp_path, Fake()).read_bytes()
    fake = Fake()
    assert _run(place, "week", tmp_path, fake).read_bytes() == first
    assert fake.loaded == []


def test_a_detector_is_loaded_once_for_neighbouring_months(place, tmp_path):
    fake = Fake()
    _run(place, "month", tmp_path, fake)
    assert fake.loaded == [(64, None, "a"), (64, "flip", "b"), (64, None, "b"), (64, None, "a")]


def test_changed_weights_or_frames_are_predicted_again(place, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(place, root)
    _run(root, "day", tmp_path / "run", Fake(), ["Sep"])
    (root / "weights" / "a" / "params").write_text("other")
    fake = Fake()
    _run(root, "day", tmp_path / "run", fake, ["Sep"])
    assert fake.num_images == NUM_FRAMES["Sep"]
    image = next((root / "data" / "Test" / "Sep").rglob("image_0001.jpg"))
    image.write_text("longer than before")
    fake = Fake()
    _run(root, "day", tmp_path / "run", fake, ["Sep"])
    assert fake.num_images == NUM_FRAMES["Sep"]


def test_element_types_follow_the_rule(place, tmp_path):
    """numpy.float64 after Seq-NMS, float after removal of scores, int in placeholders."""
    content = plain_pickle.load(_run(place, "week", tmp_path, Fake()))

    def kinds(month):
        boxes = [e["boxes"] for e in content[month].values() if e["boxes"] != [[0, 0, 0, 0]]]
        return {type(v) for entry in boxes for box in entry for v in box}

    assert kinds("Jan") == {np.float64}
    assert kinds("Mar") == {float}


class Fine(Fake):
    """A detector whose boxes and scores have more decimals than a released pickle holds."""

    def _frame(self, path, row, weights):
        boxes = super()._frame(path, row, weights)
        scores = (boxes.scores - 4e-6).astype(np.float32)
        return replace(boxes, xyxy=(boxes.xyxy + 0.000_4).astype(np.float32), scores=scores)


def test_recipes_see_the_rounded_numbers_of_a_released_pickle(place, tmp_path):
    """Under the rounding the detector is the one without it: 0.4 thousandths and 4 millionths vanish."""
    plain, fine = (_run(place, "week", tmp_path / name, load()) for name, load in (("a", Fake), ("b", Fine)))
    assert plain.read_bytes() == fine.read_bytes()


def test_labelled_months_report_the_metric_before_and_after(place, tmp_path, caplog):
    caplog.set_level("INFO")
    _run(place, "week", tmp_path, Fake(), ["Jan", "Sep"])
    text = caplog.text
    assert "Jan 1/2: 7 frames, b, p7 at 64, flip, conf 0.1, seqnms 0.4, AP before " in text
    assert "after post-processing:  mAP" in text
    assert "estimated weights" in text
    assert (tmp_path / "drift.png").exists()


def test_the_plan_names_what_is_missing(place, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(place, root)
    next((root / "data" / "Test" / "Apr").rglob("image_0002.jpg")).unlink()
    next((root / "data" / "Test" / "May").rglob("image_0001.jpg")).write_bytes(b"")
    shutil.rmtree(root / "data" / "Test" / "Mar")
    shutil.rmtree(root / "weights" / "b")
    _, problems = reproduction.plan(_recipe("month"), root / "data", root / "weights")
    text = "\n".join(problems)
    assert "Apr: 4 frames, expected 5; absent within their clips: 20210401_clip_1_0001_0002" in text
    assert f"Mar: {root / 'data' / 'Test' / 'Mar'}: no frames of Mar" in text
    assert "image_0001.jpg is empty" in text
    for month in ("Mar", "Apr", "May", "Jun", "Jul", "Aug"):
        assert f"{month}: no weights {root / 'weights' / 'b'}" in text
    assert "Jan" not in text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([Row("Jan", "a", "p6", 64, None, 0.1, "score", 0.1)], "no row for Mar, Apr"),
        ([Row(" ".join((*months.MONTHS, "Jan")), "a", "p6", 64, None, 0.1, "score", 0.1)], "Jan is in two"),
        ([Row("Feb", "a", "p6", 64, None, 0.1, "score", 0.1)], "month 'Feb'"),
        ([Row(" ".join(months.MONTHS), "a", "p6", 64, None, 0.1, "median", 0.1)], "rule median"),
    ],
)  # fmt: skip
def test_a_recipe_treats_each_month_once(rows, message):
    with pytest.raises(InputError, match=message):
        recipes.by_month(rows)


def test_only_wanted_months_must_exist():
    with pytest.raises(InputError, match="month 'Feb'"):
        recipes.by_month(_recipe("day").rows, ["Feb"])
