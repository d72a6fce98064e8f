import json
import types

import cv2
import numpy as np
import pytest

from jaxdet import data
from jaxdet.data.images import samples
from jaxdet.errors import InputError

CLASSES = ("dark", "bright")
FIELDS = {
    "kind": "images",
    "classes": CLASSES,
    "size": 64,
    "placement": "yolov4",
    "batch_size": 2,
    "max_boxes": 8,
    "recipe": "finetune",
    "plain_from": 0,
    "aspect": 1,
    "stride": 16,
    "sizes": (),
    "seed": 3,
    "cache": 0,
    "overfit": 0,
    "workers": 0,
}


@pytest.fixture
def config(tmp_path):
    """Five images of another red each; a square on each, dark ones of class 0, bright ones of class 1."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i in range(5):
        picture = np.full((48, 64, 3), (90, 100, 110 + 5 * i), np.uint8)
        picture[16:32, 24:44] = 255 * (i % 2)
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), picture)
        text = f"{i % 2} {34 / 64:.6f} {24 / 48:.6f} {20 / 64:.6f} {16 / 48:.6f}\n"
        (tmp_path / "labels" / f"{i}.txt").write_text(text)
    return types.SimpleNamespace(root=tmp_path, **FIELDS)


def _equal(a, b):
    np.testing.assert_array_equal(a.inputs.pixels, b.inputs.pixels)
    for x, y in zip(a.targets, b.targets, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("aspect", "sizes", "shapes"), [(1, (), {(64, 64)}), (0.5, (64, 128), {(32, 64), (64, 128)})]
)
def test_boxes_lie_on_their_objects(config, aspect, sizes, shapes):
    config.recipe = "scratch"  # mix-up would show two images at once
    config.aspect, config.sizes = aspect, sizes
    source, seen, taken = samples.LabelledImages(config, "images"), set(), set()
    for step in range(20):
        batch, _ = source.batch(step)
        taken.add(batch.inputs.pixels.shape[1:3])
        boxes = batch.targets.boxes[batch.targets.box_mask]
        # Labels travel as centre and size in float32: a border may be off by its rounding.
        assert (boxes > -1e-3).all()
        assert (boxes < np.array([*batch.inputs.pixels.shape[2:0:-1]] * 2) + 1e-3).all()
        grey = batch.inputs.pixels.mean(-1)
        for lane, slot, row in np.argwhere(batch.targets.box_mask):
            x1, y1, x2, y2 = batch.targets.boxes[lane, slot, row].round().astype(int)
            middle = grey[lane, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
            if middle.size > 20:
                label = int(batch.targets.labels[lane, slot, row])
                # The value gain is at least 0.6: a bright square stays above 150, the ground below 160 * 1.4.
                assert np.median(middle) > 130 if label else np.median(middle) < 30
                seen.add(label)
    assert seen == {0, 1}
    assert taken == shapes


def test_an_epoch_has_every_image_once_and_any_process_makes_its_lanes(config):
    whole = samples.LabelledImages(config, "images")
    halves = [samples.LabelledImages(config, "images", (i, 2)) for i in range(2)]
    first = []
    for step in range(whole.steps_per_epoch):
        batch, _ = whole.batch(step)
        first += batch.source[:, 0, 0].tolist()
        for lane, half in enumerate(halves):
            part, _ = half.batch(step)
            np.testing.assert_array_equal(part.inputs.pixels[0], batch.inputs.pixels[lane])
    assert len(set(first)) == len(first) == 4
    again = [tuple(whole.batch(2 * e + s)[0].source[:, 0, 0]) for e in range(4) for s in range(2)]
    assert len(set(again)) > 2  # other orders in other epochs


def test_batches_do_not_depend_on_cache_or_start(config):
    batches = data.open(config, "images")
    expected = [next(batches) for _ in range(3)]
    config.cache = 10
    resumed = data.open(config, "images", start=2)
    _equal(next(resumed), expected[2])
    for iterator in (batches, resumed):
        iterator.close()


def test_coco_annotations_give_the_same_batches(config, tmp_path):
    images, rows = [], []
    for i in range(5):
        images.append({"id": 50 + i, "file_name": f"{i}.png", "height": 48, "width": 64})
        row = {"image_id": 50 + i, "category_id": 9 - i % 2, "bbox": [24, 16, 20, 16], "iscrowd": 0}
        rows += [row, {**row, "iscrowd": 1}, {**row, "bbox": [70, 3, 5, 5]}]
    categories = [{"id": 9, "name": "dark"}, {"id": 8, "name": "bright"}]
    content = {"images": images, "annotations": rows, "categories": categories}
    (tmp_path / "train.json").write_text(json.dumps(content))
    coco = samples.open_set(tmp_path, "train.json", CLASSES)
    yolo = samples.open_set(tmp_path, "images", CLASSES)
    for a, b in zip(coco.labels, yolo.labels, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_boxes_without_room_are_counted(config):
    config.max_boxes = 1
    source = samples.LabelledImages(config, "images")
    assert sum(source.batch(step)[1].boxes for step in range(4)) > 0


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("labels/2.txt", "2 .5 .5 .1 .1\n", r"2\.txt:1: class 2, expected a whole number from 0 to 1"),
        (
            "list.txt",
            "./images/0.png\n./images/gone.png\n",
            r"list\.txt:2: .*gone\.png is missing \(1 of 2 images",
        ),
        ("list.txt", "", "names no image"),
    ],
)
def test_wrong_labels_and_lists_are_named_before_the_first_step(config, tmp_path, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=message):
        data.open(config, "list.txt" if file == "list.txt" else "images")


def test_a_set_without_boxes_is_refused(config, tmp_path):
    for path in (tmp_path / "labels").iterdir():
        path.write_text("")
    with pytest.raises(InputError, match="5 images without a box"):
        data.open(config, "images")


def test_labels_that_cannot_be_read_are_left_out_and_said(config, tmp_path, caplog):
    (tmp_path / "labels" / "2.txt").write_text("0 .5 .5 .1 .1\n0 .5 1.5 .1 .1\n0 .5 .5\n")
    found = samples.open_set(tmp_path, "images", CLASSES)
    assert [len(rows) for rows in found.labels] == [1, 1, 1, 1, 1]
    assert sum(found.report.counts.values()) == 2
    samples.LabelledImages(config, "images")
    assert "2.txt:2" in caplog.text
    assert "2.txt:3" in caplog.text


def test_an_annotation_of_another_class_is_named(config, tmp_path):
    categories = [{"id": 1, "name": "dark"}, {"id": 2, "name": "other"}]
    image = {"id": 0, "file_name": "0.png"}
    rows = [{"id": 7, "image_id": 0, "category_id": c, "bbox": [1, 2, 3, 4]} for c in (1, 2)]
    for number in (1, 2):
        content = {"images": [image], "annotations": rows[:number], "categories": categories}
        (tmp_path / "some.json").write_text(json.dumps(content))
        if number == 1:  # a category that no box has is no harm
            assert len(samples.open_set(tmp_path, "some.json", CLASSES).labels[0]) == 1
        else:
            with pytest.raises(InputError, match=r"0\.png has a box of category 'other'"):
                samples.open_set(tmp_path, "some.json", CLASSES)
    strange = {"images": [image], "annotations": [{**rows[0], "category_id": 5}], "categories": categories}
    (tmp_path / "some.json").write_text(json.dumps(strange))
    with pytest.raises(InputError, match=r"categories that are not listed \(first: annotation 7"):
        samples.open_set(tmp_path, "some.json", CLASSES)
    strange["annotations"].append(rows[0])
    (tmp_path / "some.json").write_text(json.dumps(strange))
    found = samples.open_set(tmp_path, "some.json", CLASSES)
    assert len(found.labels[0]) == 1
    assert sum(found.report.counts.values()) == 1


def test_steps_take_one_of_a_set_of_sizes_and_boxes_follow(config):
    config.sizes, config.batch_size = (32, 64, 96), 1
    fixed_config = types.SimpleNamespace(**{**vars(config), "sizes": ()})
    several, fixed = (samples.LabelledImages(c, "images") for c in (config, fixed_config))
    sizes = []
    for step in range(12):
        batch, plain = several.batch(step)[0], fixed.batch(step)[0]
        size = batch.inputs.pixels.shape[1]
        np.testing.assert_allclose(batch.targets.boxes, plain.targets.boxes * size / 64, rtol=1e-6)
        assert batch.inputs.pixels.mean() == pytest.approx(plain.inputs.pixels.mean(), abs=3)
        sizes.append(size)
    assert set(sizes) == {32, 64, 96}


def test_plain_samples_are_the_image_itself(config):
    config.plain_from, config.batch_size = 3, 1
    source = samples.LabelledImages(config, "images")
    for step in range(3, 9):
        batch, _ = source.batch(step)
        assert batch.targets.box_mask.sum() == 1
        x1, y1, x2, y2 = batch.targets.boxes[0, 0, 0]
        # 64 x 48 in 64 x 64: 8 rows of grey above and below; mirrored or not.
        assert (y1, y2) == pytest.approx((24, 40), abs=1e-3)
        assert (x1, x2) == pytest.approx((24, 44), abs=1e-3) or (x1, x2) == pytest.approx((20, 40), abs=1e-3)


def test_inputs_of_the_images_aspect_have_no_border(config):
    config.aspect, config.batch_size, config.recipe = 0.75, 1, "plain"
    source = samples.LabelledImages(config, "images")
    for step in range(6):
        batch, _ = source.batch(step)
        assert batch.inputs.pixels.shape == (1, 48, 64, 3)
        index = batch.source[0, 0, 0]
        # The margins are the picture's own; only the value of colours was changed.
        assert np.ptp(batch.inputs.pixels[0, :10], axis=(0, 1)).max() == 0
        x1, y1, x2, y2 = batch.targets.boxes[0, 0, 0]
        assert (y1, y2) == pytest.approx((16, 32), abs=1e-3)
        assert x2 - x1 == pytest.approx(20, abs=1e-3)
        assert batch.targets.labels[0, 0, 0] == index % 2


def test_an_aspect_that_is_none_is_named(config):
    config.aspect = 0.0
    with pytest.raises(InputError, match="expected height to width of the images"):
        samples.LabelledImages(config, "images")


def test_images_that_cannot_be_read_are_left_out_before_the_first_step(config, tmp_path, caplog):
    path = tmp_path / "images" / "2.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images" / "._2.png").write_bytes(bytes(100))
    source = samples.LabelledImages(config, "images")
    assert "left out 1 images that cannot be read (first: " in caplog.text
    for step in range(4):
        source.batch(step)
    # A bad checksum is seen by those who decode.
    path.write_bytes(whole[:45] + bytes([whole[45] ^ 255]) + whole[46:])
    assert len(samples.open_split(config, "images").items) == 5
    config.check = "full"
    assert len(samples.open_split(config, "images").items) == 4
    config.check = "none"
    with pytest.raises(InputError, match="check is 'none'"):
        samples.open_split(config, "images")


@pytest.mark.parametrize("size", [(48, 64), (96, 128), (64, 48), (None, None)])
def test_boxes_are_parts_of_the_file_and_not_of_the_size_in_the_json(config, tmp_path, size):
    images = [{"id": 1, "file_name": "0.png", "height": size[0], "width": size[1]}]
    rows = [{"image_id": 1, "category_id": 1, "bbox": [24, 16, 20, 16]}]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "Dark"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    found = samples.open_set(tmp_path, "train.json", CLASSES)
    expected = samples.open_set(tmp_path, "images", CLASSES).labels[0]
    np.testing.assert_allclose(found.labels[0], expected, atol=1e-6)
    assert ("size is that of the file" in found.report.line()) == (size not in ((48, 64), (None, None)))
    assert found.report.num_lost == 0
