"""From images and videos to boxes, pictures and numbers, with a small YOLOX of random weights."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from flax import nnx

from jaxdet import evaluate, models, predict
from jaxdet.evaluation import formats, store
from jaxdet.nn import functional
from jaxdet.weights import checkpoint

MODEL = {"num_classes": 2, "width": 0.125, "depth": 0.33, "depthwise": True, "min_score": 0.2}
CONFIG = f"""
from jaxdet import config as c

def get_config():
    cfg = c.base()
    cfg.model = c.block(name="yolox", **{MODEL!r})
    cfg.data = c.yolox_images(64, ("cat", "dog"), batch_size=2)
    return cfg
"""


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """Config and random weights whose scores spread between 0 and 1."""
    folder = tmp_path_factory.mktemp("model")
    _, variables = functional.split(models.build("yolox", rngs=nnx.Rngs(0), **MODEL))
    rng = np.random.default_rng(1)
    for level in variables.params["head"]["levels"].values():
        for name in ("obj_pred", "cls_pred"):
            kernel = level[name]["kernel"]
            level[name]["kernel"] = rng.normal(0, 3, kernel.shape).astype(np.float32)
            level[name]["bias"] = np.full_like(level[name]["bias"], 0.5)
    checkpoint.save_weights(folder / "weights", variables, {})
    (folder / "config.py").write_text(CONFIG)
    return [f"--config={folder / 'config.py'}", f"--weights={folder / 'weights'}"]


def _picture(seed, size=(48, 64)):
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def folder(tmp_path):
    """Three images of different sizes."""
    root = tmp_path / "set" / "images"
    root.mkdir(parents=True)
    for i, size in enumerate([(48, 64), (64, 40), (90, 120)]):
        cv2.imwrite(str(root / f"clip_{i:04d}.png"), _picture(i, size))
    return root


def _boxes(path):
    with store.read(path) as reader:
        return {key: clip.frame(i) for _, clip in reader for i, key in enumerate(clip.keys)}


def test_unreadable_images_are_named_and_the_rest_is_as_without_them(flags, folder, tmp_path, capsys, caplog):
    out = tmp_path / "alone.h5"
    assert predict.main([*flags, f"--images={folder}", f"--out={out}", f"--render={tmp_path / 'drawn'}"]) == 0
    alone = _boxes(out)
    assert sum(len(scores) for _, scores, _ in alone.values()) > 3
    assert sorted(p.stem for p in (tmp_path / "drawn").iterdir()) == sorted(alone)
    (folder / "clip_0000b.jpg").write_bytes(b"\xff\xd8" + bytes(100))
    (folder / "clip_0001b.png").write_bytes(b"")
    deep = cv2.imread(str(folder / "clip_0002.png")).astype(np.uint16) * 257
    cv2.imwrite(str(folder / "deep_0000.png"), deep)
    assert predict.main([*flags, f"--input={folder}", f"--out={tmp_path / 'mixed.h5'}"]) == 1
    assert "2 of 6 images could not be read" in capsys.readouterr().err
    skipped = [line for line in caplog.messages if line.startswith("skipped")]
    assert [Path(line.split(":")[1].strip()).name for line in skipped] == ["clip_0000b.jpg", "clip_0001b.png"]
    mixed = _boxes(tmp_path / "mixed.h5")
    assert set(mixed) == {*alone, "deep_0000"}
    # Other neighbours in the batch, the same boxes; 16 bits of the same picture, too.
    for key, twin in [*((k, k) for k in alone), ("deep_0000", "clip_0002")]:
        for a, b in zip(mixed[key], alone[twin], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-3)


def test_every_format_tells_the_same_boxes(flags, folder, tmp_path):
    for out in ("a.h5", "a.json", "a.pkl", "text"):
        assert predict.main([*flags, f"--images={folder}", f"--out={tmp_path / out}"]) == 0
    rows = json.loads((tmp_path / "a.json").read_text())
    for key, (boxes, scores, labels) in _boxes(tmp_path / "a.h5").items():
        mine = [row for row in rows if row["image_id"] == key]
        xywh = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1)
        np.testing.assert_allclose([row["bbox"] for row in mine], xywh, rtol=1e-6, atol=1e-5)
        np.testing.assert_array_equal([row["category_id"] for row in mine], labels)
        height, width = cv2.imread(str(folder / f"{key}.png")).shape[:2]
        text = formats.read_yolo_text(tmp_path / "text" / f"{key}.txt", (width, height))
        np.testing.assert_allclose(text[0], boxes, atol=2e-6 * max(height, width))
        np.testing.assert_allclose(text[1], scores, atol=1e-5)


def test_a_film_gives_the_boxes_of_its_frames_and_a_cut_one_those_it_has(flags, tmp_path, capsys):
    film, cut = tmp_path / "film.avi", tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(9):
        writer.write(_picture(i))
    writer.release()
    render = tmp_path / "drawn.mp4"
    assert predict.main([*flags, f"--input={film}", f"--out={tmp_path / 'f.h5'}", f"--render={render}"]) == 0
    whole = _boxes(tmp_path / "f.h5")
    assert sorted(whole) == [f"film_{i:06d}" for i in range(9)]
    assert int(cv2.VideoCapture(str(render)).get(cv2.CAP_PROP_FRAME_COUNT)) == 9
    # A frame is predicted as the picture it is.
    frames = []
    capture = cv2.VideoCapture(str(film))
    while (frame := capture.read())[0]:
        frames.append(frame[1])
    cv2.imwrite(str(tmp_path / "one.png"), frames[4])
    assert predict.main([*flags, f"--input={tmp_path / 'one.png'}", f"--out={tmp_path / 'one.h5'}"]) == 0
    np.testing.assert_allclose(_boxes(tmp_path / "one.h5")["one"][0], whole["film_000004"][0], atol=1e-3)
    data = film.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    assert predict.main([*flags, f"--input={cut}", f"--out={tmp_path / 'c.h5'}"]) == 1
    assert "cut short" in capsys.readouterr().err
    assert 0 < len(_boxes(tmp_path / "c.h5")) < 9


def _annotations(path, folder, boxes, extra=()):
    images, rows = [], []
    for i, (key, (corners, _, labels)) in enumerate(boxes.items()):
        height, width = cv2.imread(str(folder / f"{key}.png")).shape[:2]
        images.append({"id": 10 * i + 3, "file_name": f"{key}.png", "height": height, "width": width})
        for (x1, y1, x2, y2), label in zip(corners.astype(float).tolist(), labels.tolist(), strict=True):
            row = {"id": len(rows) + 1, "image_id": 10 * i + 3, "category_id": 7 - label, "iscrowd": 0}
            rows.append({**row, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})
    images += [{"id": 900 + i, "file_name": name, "height": 9, "width": 9} for i, name in enumerate(extra)]
    # Ids fall while indices rise.
    categories = [{"id": 7, "name": "cat"}, {"id": 6, "name": "dog"}]
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))


def _ap(path):
    return json.loads(path.read_text())["statistics"]["AP"]


def test_a_detector_is_perfect_on_its_own_boxes_and_missing_images_are_counted(
    flags, folder, tmp_path, capsys
):
    predict.main([*flags, f"--images={folder}", f"--out={tmp_path / 'own.h5'}"])
    own = _boxes(tmp_path / "own.h5")
    _annotations(tmp_path / "a.json", folder, own)
    common = [*flags, f"--images={folder}", f"--out={tmp_path / 'e.json'}"]
    assert evaluate.main([*common, f"--annotations={tmp_path / 'a.json'}"]) == 0
    assert _ap(tmp_path / "e.json") == pytest.approx(1, abs=1e-3)
    _annotations(tmp_path / "b.json", folder, own, ["gone.png", "lost.png"])
    assert evaluate.main([*common, f"--annotations={tmp_path / 'b.json'}"]) == 1
    assert "2 annotated images are not in" in capsys.readouterr().err
    assert evaluate.main([*common, f"--annotations={tmp_path / 'b.json'}", "--allow_missing"]) == 0
    assert _ap(tmp_path / "e.json") == pytest.approx(1, abs=1e-3)


def test_yolo_folders_are_measured_and_wrong_labels_named(flags, folder, tmp_path, capsys):
    predict.main([*flags, f"--images={folder}", f"--out={tmp_path / 'own'}"])
    labels = folder.parent / "labels"
    labels.mkdir()
    for path in (tmp_path / "own").iterdir():
        rows = [line.split() for line in path.read_text().splitlines()]
        # Without scores; boxes across the border have their centre and size inside 0..1 here or are cut.
        lines = [" ".join([r[0], *(str(min(max(float(v), 0), 1)) for v in r[1:5])]) for r in rows]
        (labels / path.name).write_text("\n".join(lines))
    common = [*flags, f"--images={folder}", f"--out={tmp_path / 'e.json'}"]
    assert evaluate.main(common) == 0
    assert _ap(tmp_path / "e.json") > 0.5
    assert "mAP@.5" in capsys.readouterr().out
    (labels / "clip_0001.txt").write_text("0 .5 .5 .1 .1\n2 .5 .5 .1 .1\n")
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
