"""From images and videos to boxes, pictures and numbers, with a small YOLOX of random weights."""

import json
import os
import shutil
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from flax import nnx

from jaxdet import config, evaluate, models, predict
from jaxdet.data.images import sets
from jaxdet.detections import files
from jaxdet.formats import names, pickle, plain_pickle, yolo
from jaxdet.inference.images import ImagePredictor, ItemPredictor
from jaxdet.nn import functional
from jaxdet.postprocess import seqnms
from jaxdet.weights import checkpoint

NAMES = ("cat", "dog")
MODEL = {"num_classes": 2, "width": 0.125, "depth": 0.33, "depthwise": True, "min_score": 0.2}
CONFIG = f"""
from jaxdet import config as c

def get_config():
    cfg = c.base()
    cfg.model = c.block(name="yolox", **{MODEL!r})
    cfg.data = c.yolox_images(64, {NAMES!r}, batch_size=2)
    return cfg
"""


def _weights():
    """Random weights whose scores spread between 0 and 1, drawn by NumPy: building the model takes far
    longer."""
    skeleton, shapes = functional.abstract(lambda: models.build("yolox", rngs=nnx.Rngs(0), **MODEL))
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if leaf.ndim != 4:
            return np.full(leaf.shape, path[-1].key in ("scale", "var"), leaf.dtype)
        return rng.normal(0, 1.5 / np.sqrt(np.prod(leaf.shape[:3])), leaf.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    variables.params["backbone"]["stem"]["conv"]["conv"]["kernel"] /= 64  # pixels are 0 to 255
    for level in variables.params["head"]["levels"].values():
        for name in ("obj_pred", "cls_pred"):
            level[name]["kernel"] *= 2
            level[name]["bias"][:] = 0
        level["reg_pred"]["kernel"] *= 0.2  # boxes of about a cell, most of them inside
    return skeleton, variables


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder with config and weights, and a predictor of them."""
    folder = tmp_path_factory.mktemp("model")
    skeleton, variables = _weights()
    checkpoint.save_weights(folder / "weights", variables, {})
    (folder / "config.py").write_text(CONFIG)
    return folder, ItemPredictor(
        config.yolox_images(64, NAMES, batch_size=2), ImagePredictor(skeleton, variables)
    )


@pytest.fixture
def flags(model):
    return [f"--config={model[0] / 'config.py'}", f"--weights={model[0] / 'weights'}"]


def _picture(seed, size=(48, 64)):
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images of different sizes."""
    root = tmp_path_factory.mktemp("set") / "images"
    root.mkdir()
    for i, size in enumerate([(48, 64), (64, 40), (90, 120)]):
        cv2.imwrite(str(root / f"clip_{i:04d}.png"), _picture(i, size))
    return root


@pytest.fixture(scope="module")
def found(model, folder):
    """What the model finds in these images, by name."""
    found = {f.item.name: f for f in model[1].items(sets.from_folder(folder), keep=True)}
    assert all(len(f.boxes) > 2 for f in found.values())
    return found


def _read(path):
    return {names.stem(boxes): boxes for boxes in files.read(path).frames}


def test_unreadable_images_are_named_and_the_rest_is_as_without_them(
    flags, folder, found, tmp_path, capsys, caplog
):
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    (mixed / "clip_0000b.jpg").write_bytes(b"\xff\xd8" + bytes(100))
    (mixed / "clip_0001b.png").write_bytes(b"")
    deep = cv2.imread(str(mixed / "clip_0002.png")).astype(np.uint16) * 257
    cv2.imwrite(str(mixed / "deep_0000.png"), deep)
    out, drawn = tmp_path / "boxes.h5", tmp_path / "drawn"
    assert predict.main([*flags, f"--images={mixed}", f"--out={out}", f"--render={drawn}"]) == 1
    assert "2 of 6 images could not be read" in capsys.readouterr().err
    skipped = [line for line in caplog.messages if line.startswith("skipped")]
    assert [Path(line.split(":")[1].strip()).name for line in skipped] == ["clip_0000b.jpg", "clip_0001b.png"]
    boxes = _read(out)
    assert set(boxes) == {*found, "deep_0000"} == {p.stem for p in drawn.iterdir()}
    # Other neighbours in the batch, the same boxes; 16 bits of the same picture, too.
    for key, twin in [*((k, k) for k in found), ("deep_0000", "clip_0002")]:
        expected = found[twin].boxes
        np.testing.assert_allclose(boxes[key].xyxy, expected.xyxy, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(boxes[key].scores, expected.scores, rtol=1e-5)
        np.testing.assert_array_equal(boxes[key].labels, expected.labels)


def test_every_format_tells_the_same_boxes(flags, folder, found, tmp_path):
    assert predict.main([*flags, f"--input={folder}", f"--out={tmp_path / 'a.h5'}"]) == 0
    stored = files.read(tmp_path / "a.h5")
    assert stored.class_names == NAMES
    assert [boxes.source for boxes in stored.frames] == [f"{key}.png" for key in found]
    for out in ("a.json", "a.pkl", "a.npz", "a.csv", "text"):
        files.write(tmp_path / out, stored.frames, NAMES)
    rows, pickled = json.loads((tmp_path / "a.json").read_text()), plain_pickle.load(tmp_path / "a.pkl")
    tables = [_read(tmp_path / "a.npz"), _read(tmp_path / "a.csv")]
    for boxes in stored.frames:
        key = names.stem(boxes)
        np.testing.assert_allclose(boxes.xyxy, found[key].boxes.xyxy, rtol=1e-5, atol=1e-3)
        mine = [row for row in rows if row["file_name"] == boxes.source]
        np.testing.assert_array_equal([row["bbox"] for row in mine], boxes.xywh)
        assert [row["category_name"] for row in mine] == [NAMES[label] for label in boxes.labels]
        assert {row["category_id"] for row in mine} <= {17, 18}  # of cat and dog in COCO
        text = yolo.read_text(tmp_path / "text" / f"{key}.txt", boxes.image_size)
        np.testing.assert_allclose(text.xyxy, boxes.xyxy, rtol=0, atol=1e-5)  # a last bit of float32
        np.testing.assert_array_equal(text.scores, boxes.scores)
        assert pickled[key] == pickle.scored_entry(boxes)
        for table in tables:
            np.testing.assert_array_equal(table[key].xyxy, boxes.xyxy)
            np.testing.assert_array_equal(table[key].scores, boxes.scores)


def test_images_of_one_name_in_two_folders_stay_two_or_are_refused_at_once(
    flags, folder, found, tmp_path, capsys
):
    for part, name in (("a", "clip_0000"), ("b", "clip_0002")):
        (tmp_path / "set" / part).mkdir(parents=True)
        shutil.copy(folder / f"{name}.png", tmp_path / "set" / part / "1.png")
    common = [*flags, f"--input={tmp_path / 'set'}"]
    for out in ("o.h5", "o.json", "o.csv"):
        assert predict.main([*common, f"--out={tmp_path / out}"]) == 0
        boxes = {boxes.source: boxes for boxes in files.read(tmp_path / out).frames}
        assert [len(boxes[f"{part}/1.png"]) for part in "ab"] == [
            len(found[name].boxes) for name in ("clip_0000", "clip_0002")
        ]
    assert predict.main([*common, f"--out={tmp_path / 'text'}", f"--render={tmp_path / 'drawn'}"]) == 0
    for place, suffix in (("text", "txt"), ("drawn", "jpg")):
        assert sorted((tmp_path / place).rglob("*.*")) == [tmp_path / place / p / f"1.{suffix}" for p in "ab"]
    assert predict.main([*common, f"--out={tmp_path / 'o.pkl'}"]) == 1
    assert "2 images are called 1" in capsys.readouterr().err


def test_a_film_gives_the_boxes_of_its_frames_and_a_cut_one_those_it_has(model, flags, tmp_path, capsys):
    film, cut, drawn = tmp_path / "film.avi", tmp_path / "cut.avi", tmp_path / "drawn.mp4"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(9):
        writer.write(_picture(i))
    writer.release()
    whole = list(model[1].video(sets.VideoFile(film)))
    assert [(f.boxes.source, f.boxes.frame) for f in whole] == [("film", i) for i in range(9)]
    # A frame is predicted as the picture it is.
    assert whole[4].image is not None
    cv2.imwrite(str(tmp_path / "one.png"), whole[4].image)
    (one,) = model[1].items(sets.open_input(tmp_path / "one.png"))
    np.testing.assert_allclose(one.boxes.xyxy, whole[4].boxes.xyxy, rtol=1e-5, atol=1e-3)
    data = film.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    assert predict.main([*flags, f"--input={cut}", f"--out={tmp_path / 'c.h5'}", f"--render={drawn}"]) == 1
    assert "cut short" in capsys.readouterr().err
    boxes = _read(tmp_path / "c.h5")
    assert 0 < len(boxes) < 9
    assert int(cv2.VideoCapture(str(drawn)).get(cv2.CAP_PROP_FRAME_COUNT)) == len(boxes)


def test_a_film_is_smoothed_tracked_and_drawn(model, flags, tmp_path, capsys, monkeypatch):
    film, drawn = tmp_path / "film.avi", tmp_path / "drawn.mp4"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(6):
        writer.write(_picture(i // 3))  # two still scenes
    writer.release()
    single = [result.boxes for result in model[1].video(sets.VideoFile(film))]
    expected = seqnms.rescore(single, seqnms.SeqNMSOptions(min_score=0.2))
    smooth = [*flags, f"--input={film}", "--seqnms", "--seqnms_score=0.2"]
    out = tmp_path / "film.csv"
    assert predict.main([*smooth, "--track", "--track_score=0.2", f"--out={out}", f"--render={drawn}"]) == 0
    found = files.read(out).frames
    assert [boxes.frame for boxes in found] == list(range(6))
    for boxes, same in zip(found, expected, strict=True):
        np.testing.assert_allclose(boxes.xyxy, same.xyxy, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(boxes.scores, same.scores, rtol=1e-5)
    ids = [set(boxes.track_ids.tolist()) - {-1} for boxes in found]
    assert ids[0]
    assert ids[0] <= ids[1] | ids[2]  # nothing moves
    video = sets.VideoFile(drawn)
    assert len(list(video)) == 6
    assert video.size == (48 * 14, 64 * 14)

    # A live source gives the boxes of its frames; Seq-NMS would need the last one.
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: capture(str(film)))
    live = [*flags, "--input=rtsp://camera/x", f"--out={tmp_path / 'live.txt'}"]
    assert predict.main([*live, "--max_frames=4"]) == 0
    frames = files.read(tmp_path / "live.txt").frames
    assert {boxes.frame for boxes in frames} == {i for i in range(4) if len(single[i])}
    for wrong, said in (
        ([*live, "--seqnms"], "--seqnms needs all frames"),
        ([*smooth, "--track", f"--out={tmp_path / 'x.h5'}"], "holds no tracks"),
    ):
        assert predict.main(wrong) == 1
        assert said in capsys.readouterr().err


def _annotations(path, found, extra=()):
    """COCO annotations that are what was found."""
    images, rows = [], []
    for i, (key, result) in enumerate(found.items()):
        height, width = result.placement.size
        images.append({"id": 10 * i + 3, "file_name": f"{key}.png", "height": height, "width": width})
        corners = result.boxes.xyxy.astype(float).tolist()
        for (x1, y1, x2, y2), label in zip(corners, result.boxes.labels.tolist(), strict=True):
            row = {"id": len(rows) + 1, "image_id": 10 * i + 3, "category_id": 7 - label, "iscrowd": 0}
            rows.append({**row, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})
    images += [{"id": 900 + i, "file_name": name, "height": 9, "width": 9} for i, name in enumerate(extra)]
    # Ids fall while indices rise.
    categories = [{"id": 7, "name": "cat"}, {"id": 6, "name": "dog"}]
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))


def _ap(path):
    return json.loads(path.read_text())["statistics"]["AP"]


def test_a_detector_is_perfect_on_its_own_boxes_and_missing_images_are_counted(
    flags, folder, found, tmp_path, capsys
):
    common = [*flags, f"--images={folder}", f"--out={tmp_path / 'e.json'}"]
    common.append(f"--annotations={tmp_path / 'a.json'}")
    _annotations(tmp_path / "a.json", found, ["gone.png", "lost.png"])
    assert evaluate.main(common) == 1
    assert "2 annotated images are not in" in capsys.readouterr().err
    assert evaluate.main([*common, "--allow_missing"]) == 0
    assert _ap(tmp_path / "e.json") == pytest.approx(1, abs=1e-3)


def test_yolo_folders_are_measured_and_wrong_labels_named(flags, folder, found, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "images")
    (tmp_path / "labels").mkdir()
    for key, result in found.items():
        scale = np.tile(result.placement.size[::-1], 2)
        boxes = result.boxes.xyxy / scale
        inside = ((boxes >= 0) & (boxes <= 1)).all(1)  # a label cannot leave the image
        assert inside.sum() > 2
        x1, y1, x2, y2 = boxes[inside].T
        columns = (result.boxes.labels[inside], (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        rows = zip(*columns, strict=True)
        text = "".join(f"{c} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in rows)
        (tmp_path / "labels" / f"{key}.txt").write_text(text)
    common = [*flags, f"--images={tmp_path / 'images'}", f"--out={tmp_path / 'e.json'}"]
    assert evaluate.main(common) == 0
    statistics = json.loads((tmp_path / "e.json").read_text())["statistics"]
    assert statistics["AR_100"] == pytest.approx(1, abs=1e-3)  # all that is labelled was found
    assert "mAP@.5" in capsys.readouterr().out
    (tmp_path / "labels" / "clip_0001.txt").write_text("0 .5 .5 .1 .1\n2 .5 .5 .1 .1\n")
    assert evaluate.main(common) == 1
    assert "clip_0001.txt:2: class 2, expected a whole number from 0 to 1" in capsys.readouterr().err


@pytest.mark.data
def test_released_nano_reaches_its_reference_ap_on_real_images(tmp_path):
    root = os.environ.get("JAXDET_REAL_DATA")
    if not root:
        pytest.skip("JAXDET_REAL_DATA names no folder of real data")
    data = Path(root)
    config = Path(__file__).parents[2] / "configs/coco_yolox.py"
    flags = [f"--config={config}:nano", f"--weights={data / 'weights/yolox_nano.pth'}"]
    flags += ["--config.data.batch_size=4", f"--images={data / 'coco/images'}"]
    annotations = data / "coco/instances_8.json"
    assert evaluate.main([*flags, f"--annotations={annotations}", f"--out={tmp_path / 'e.json'}"]) == 0
    reference = json.loads((data / "reference/yolox_nano_coco8_opencv.json").read_text())
    expected = reference["score_threshold_0.01_(official evaluation)"]["AP"]
    assert _ap(tmp_path / "e.json") == pytest.approx(expected, abs=1e-3)
