"""The Python API: the examples of the README and of the API page run, and say what they promise."""

import re
from pathlib import Path

import cv2
import doc_pages
import numpy as np
import pytest
import recordings_data

import jaxdet
from jaxdet import config_files
from jaxdet.data.events import dat
from jaxdet.data.events.open import open_events
from jaxdet.data.events.streams import concatenate
from jaxdet.errors import InputError
from jaxdet.formats import HOLDS
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.training import setup
from jaxdet.weights import checkpoint, families, rules
from jaxdet.weights.torch import writer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with everything that the examples name; weights are random."""
    folder = tmp_path_factory.mktemp("api")
    nano = config_files.load("coco_yolox:nano")
    _, variables = functional.split(from_config.build(nano, 0))
    state = rules.to_torch(variables, families.of_config(nano.model))
    writer.save(folder / "yolox_nano.pth", {"model": state})
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (3, 48, 64, 3), np.uint8)
    cv2.imwrite(str(folder / "photo.jpg"), pictures[0])
    film = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, (64, 48))
    for picture in pictures:
        film.write(picture)
    film.release()
    events = config_files.load(str(ROOT / "tests" / "integration" / "tiny_hmnet.py")).unlock()
    events.data.root = "data/mine"
    _, variables = functional.split(from_config.build(events, 0))
    checkpoint.save_weights(folder / "runs" / "events", variables, setup.as_json(events))
    chunk = recordings_data.chunk(rng, 2000, 100, events.data.width, events.data.height)
    dat.write_dat(folder / "mine.dat", chunk, width=events.data.width, height=events.data.height)
    size = (events.data.width, events.data.height)
    times = np.arange(550_000, 700_000, 50_000)
    rows = recordings_data.labels(times)
    rows["w"] = rows["h"] = 40
    chunk = recordings_data.chunk(rng, 2000, 700, *size)
    recordings_data.write(folder / "data" / "mine", "test", "r0", chunk, rows, 700, size=size)
    return folder


@pytest.mark.parametrize("page", ["README.md", "docs/api.md", "docs/index.md", "docs/live.md"])
def test_the_examples_of_the_page_run(place, monkeypatch, page):
    monkeypatch.chdir(place)
    load = jaxdet.load
    # At the size of the released file images take most of the time.
    small = lambda path: load(path, **({"size": 64} if path.endswith(".pth") else {}))  # noqa: E731
    monkeypatch.setattr(jaxdet, "load", small, raising=False)
    exec("\n".join(doc_pages.executed_python(page)), {})


def test_the_page_of_formats_lists_what_each_holds():
    page = (
        (ROOT / "docs" / "formats.md").read_text().split("<!-- formats -->")[1].split("<!-- /formats -->")[0]
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.strip().splitlines()[2:]]
    word = {True: "yes", False: "no"}
    expected = [
        [word[h.scores], word[h.class_names], h.identity or "none", h.time or "none", h.precision]
        for h in HOLDS.values()
    ]
    assert [row[1:] for row in rows] == expected


def test_paths_arrays_lists_and_videos_give_the_same_boxes(place, monkeypatch):
    monkeypatch.chdir(place)
    model = jaxdet.load("yolox_nano.pth", min_score=0.0, size=64)
    by_path = model.predict("photo.jpg")
    image = cv2.imread("photo.jpg")
    assert len(by_path)
    for same in (
        model.predict(image, bgr=True),
        model.predict(np.ascontiguousarray(image[..., ::-1])),
        *model.predict(iter(["photo.jpg", image[..., ::-1]])),
    ):
        np.testing.assert_array_equal(same.xyxy, by_path.xyxy)
        np.testing.assert_array_equal(same.scores, by_path.scores)
    assert [b.frame for b in model.predict("clip.mp4")] == [0, 1, 2]
    assert [(b.source, len(b) > 0) for b in model.predict(["gone.jpg", "photo.jpg"])] == [
        ("gone.jpg", False),
        ("photo.jpg", True),
    ]


def test_a_stream_equals_the_prediction_of_the_recording(place, monkeypatch):
    monkeypatch.chdir(place)
    model = jaxdet.load("runs/events", min_score=0.0)
    recording = list(model.predict("mine.dat"))
    chunk = concatenate(list(open_events("mine.dat").ordered()))
    stream = model.stream()
    # The clock of a stream begins at its first event's step, here the first.
    first = [*stream.feed(*(c[:700] for c in chunk)), *stream.feed(*(c[700:] for c in chunk))]
    assert [b.time_us for b in first] == [b.time_us for b in recording[: len(first)]]
    assert len(recording) - len(first) <= 1
    for live, stored in zip(first, recording, strict=False):
        assert _share_found(live, stored) >= 0.99


def _share_found(boxes, among):
    """Share of `boxes` that have their like. Segments and single steps sum events in another order, so boxes
    of nearly equal scores may change places and one at a threshold may be missing."""
    near = np.abs(boxes.xyxy[:, None] - among.xyxy).max(-1) < 1e-2
    same = near & (np.abs(boxes.scores[:, None] - among.scores) < 1e-4)
    same &= boxes.labels[:, None] == among.labels
    return same.any(1).mean()


def test_another_camera_gives_boxes_in_its_own_pixels(place, monkeypatch):
    monkeypatch.chdir(place)
    model = jaxdet.load("runs/events", min_score=0.0)
    own = list(model.predict("mine.dat"))
    t_us, x, y, polarity = concatenate(list(open_events("mine.dat").ordered()))
    found = list(model.predict((t_us, 2 * x, 2 * y + 1, polarity), camera="608x480"))
    assert [b.time_us for b in found] == [b.time_us for b in own]
    assert {b.image_size for b in found} == {(480, 608)}
    for one, two in zip(found, own, strict=True):
        np.testing.assert_allclose(one.xyxy, 2 * two.xyxy, rtol=1e-6)
    middle_us = own[len(own) // 2].time_us
    part = list(model.predict("mine.dat", start_us=middle_us))
    assert [b.time_us for b in part] == [b.time_us for b in own if b.time_us > middle_us]


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: jaxdet.load("gone.pth"), "does not exist"),
        (lambda: jaxdet.load("photo.jpg"), "photo.jpg"),
        (lambda: jaxdet.load("yolox_nano.pth", sensor="304x240"), "--model_sensor is for event cameras"),
        (lambda: jaxdet.load("yolox_nano.pth", classes=["a"]), "expected 80 different names"),
        (lambda: jaxdet.load("runs/events", sensor="640x480"), "the model is of a sensor of 304x240"),
        (lambda: jaxdet.load("yolox_nano.pth").stream(), "stream is for models of events"),
        (lambda: jaxdet.load("yolox_nano.pth").predict("gone.jpg"), "gone.jpg"),
        (lambda: jaxdet.load("yolox_nano.pth").predict(np.zeros((4, 4))), "uint8"),
        (lambda: list(jaxdet.load("runs/events").predict("gone.dat")), "gone.dat"),
        (lambda: list(jaxdet.load("runs/events").predict("mine.dat", fit="squeeze")), "expected one of none"),
        (lambda: jaxdet.load("runs/events").predict("mine.dat", rotate=45), "degrees clockwise"),
        (lambda: jaxdet.load("runs/events").stream(hot_pixels="find"), "needs a recording"),
        (lambda: jaxdet.load("yolox_nano.pth").predict("photo.jpg", fit="pad"), "for models of events"),
    ],
)
def test_wrong_use_is_one_line(place, monkeypatch, use, said):
    monkeypatch.chdir(place)
    with pytest.raises(InputError, match=re.escape(said)) as error:
        use()
    assert "\n" not in str(error.value)


def test_a_saved_model_knows_its_config(place, monkeypatch, tmp_path):
    monkeypatch.chdir(place)
    model = jaxdet.load("runs/events")
    model.save(tmp_path / "again")
    again = jaxdet.load(tmp_path / "again")
    assert again.config.to_json_best_effort() == model.config.to_json_best_effort()


def test_public_names_are_listed_and_an_unknown_one_is_an_attribute_error():
    assert set(jaxdet.__all__) <= set(dir(jaxdet))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = jaxdet.nothing
