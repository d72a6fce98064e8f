"""An exported file as a predictor of image files."""

from pathlib import Path

import cv2
import numpy as np
import tiny_detectors

from jaxdet.data.images.sets import ImageItem
from jaxdet.exporting import predictor


def test_boxes_return_to_pixels_of_the_image_and_bad_files_are_counted(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 128, 3), np.uint8))
    (tmp_path / "bad.png").write_bytes(b"not an image")
    items = [ImageItem(tmp_path / name, "", i, None) for i, name in enumerate(("a.png", "bad.png"))]
    given = []

    def run(inputs):
        given.append(inputs["images"].shape)
        boxes = np.array([[10, 4, 30, 12], [0, 0, 8, 8]], np.float32)
        scores, labels = np.array([0.9, 0.8], np.float32), np.array([1, 0])
        return {"boxes": boxes, "scores": scores, "labels": labels, "image": np.array([0, 1])}

    block = tiny_detectors.get_config("yolox").data
    made = predictor.FilePredictor(block, (64, 64), run, batch=2)
    (found,) = made.items(items)
    assert given == [(2, 3, 64, 64)]
    # 128 columns lie in 64.
    np.testing.assert_allclose(found.boxes.xyxy, [[20, 8, 60, 24]])
    assert found.boxes.labels.tolist() == [1]
    assert found.boxes.class_names == ("dark", "bright")
    assert found.item.path == Path(tmp_path / "a.png")
    assert made.num_skipped == 1
