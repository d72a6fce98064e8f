"""Round trips through every format: what `formats.HOLDS` says is kept, is kept."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.detections import files
from jaxdet.formats import HOLDS, coco, names
from jaxdet.structs import Boxes, ReadReport

NAMES = {
    "h5": "x.h5",
    "npy": "x.npy",
    "json": "x.json",
    "pkl": "x.pkl",
    "npz": "x.npz",
    "txt": "x.txt",
    "csv": "x.csv",
}
CLASSES = ("car", "pedestrian", "a, b", "ü")
SIZE = (480, 640)


@st.composite
def boxes_of(draw, dtype, **where):
    """Boxes whose sides are exact in `dtype`, so that corners and sides say the same."""
    count = draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, sides = rng.uniform(0, 300, (2, count, 2)).astype(dtype)
    scores = rng.random(count).astype(dtype)
    labels = rng.integers(0, len(CLASSES), count).astype(np.int32)
    return Boxes(np.concatenate([low, low + sides], 1), scores, labels, CLASSES, image_size=SIZE, **where)


@st.composite
def frames_of(draw, kind, dtype):
    """Frames as the format holds them: images in folders, frames of videos, or steps of recordings."""
    keys = {"npy": ["t_us"], "txt": ["frame"], "pkl": ["name"], "yolo": ["name", "frame"]}
    key = draw(st.sampled_from(keys.get(kind, ["name", "frame", "t_us"])))
    number = st.integers(1, 10**6)
    if key == "name":
        folders = [""] if kind == "pkl" else ["", "a/", "b/c d/"]
        pairs = st.tuples(st.sampled_from(folders), st.integers(0, 9))
        found = draw(st.lists(pairs, min_size=1, max_size=5, unique=True))
        places = [{"source": f"{folder}clip_{i:04d}.jpg"} for folder, i in found]
    elif key == "frame":
        sources = ["x"] if kind == "txt" else ["x", "film 2"]
        pairs = st.tuples(st.sampled_from(sources), number)
        found = draw(st.lists(pairs, min_size=1, max_size=5, unique=True))
        places = [{"source": source, "frame": n} for source, n in found]
    else:
        times = draw(st.lists(number, min_size=1, max_size=5, unique=True))
        places = [{"source": "x", "time_us": time} for time in sorted(times)]
    return [draw(boxes_of(dtype, **place)) for place in places]


def _identity(boxes, holds):
    if holds.identity == "path":
        apart = (boxes.frame, boxes.time_us) if holds.time == "both" else ()
        return names.file_name(boxes), *apart
    if holds.identity == "name":
        return names.stem(boxes)
    return names.clip_and_number(boxes)[1]  # the name of the file says the rest


def _classes(boxes, class_names):
    return [class_names[label] for label in boxes.labels]


@pytest.mark.parametrize("kind", list(HOLDS))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_a_format_holds_comes_back(kind, data):
    holds = HOLDS[kind]
    dtype = np.float64 if holds.precision.startswith("float64") else np.float32
    frames = data.draw(frames_of(kind, dtype))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAMES.get(kind, "labels")
        files.write(path, frames, CLASSES)
        annotations = coco.Annotations(
            [Boxes.none(source=names.file_name(b), image_size=SIZE) for b in frames],
            CLASSES,
            (1, 2, 3, 4),
            ReadReport(),
        )
        found = files.read(path, annotations if kind == "yolo" else None)
    assert found.has_scores == holds.scores
    assert bool(found.class_names) <= holds.class_names
    results = {_identity(boxes, holds): boxes for boxes in found.frames}
    assert len(results) == len(found.frames)
    for boxes in frames:
        result = results.pop(_identity(boxes, holds), boxes.take(slice(0)))
        assert len(result) == len(boxes)
        if not len(boxes):
            continue
        np.testing.assert_array_equal(result.labels, boxes.labels)
        if holds.class_names:
            assert _classes(result, found.class_names) == _classes(boxes, CLASSES)
        _check_precision(holds.precision, boxes, result)
    assert not results  # no frame was made up


def _check_precision(precision, boxes, result):
    if precision.endswith("3 decimals"):
        np.testing.assert_allclose(result.xyxy, boxes.xyxy, rtol=0, atol=0.5001e-3)
        np.testing.assert_allclose(result.scores, boxes.scores, rtol=0, atol=0.5001e-5)
        return
    np.testing.assert_array_equal(result.scores, boxes.scores)
    if precision.endswith("corners"):
        np.testing.assert_array_equal(result.xyxy, boxes.xyxy)
    elif precision.endswith("sides"):
        np.testing.assert_array_equal(result.xywh, boxes.xywh)
    else:  # parts of the image, brought back to pixels in float32
        np.testing.assert_allclose(result.xyxy, boxes.xyxy, rtol=0, atol=float(np.spacing(np.float32(640))))
