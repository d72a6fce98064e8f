"""Batches as pictures: the labels are where the boxes are."""

import cv2
import numpy as np

from jaxdet.structs import Batch, Events, Images, Targets
from jaxdet.viewing import training_batches


def _targets(boxes, at_step):
    """Two lanes with two slots each; only the second slot of the first lane has a box."""
    corners, mask = np.zeros((2, 2, 1, 4), np.float32), np.zeros((2, 2, 1), bool)
    corners[0, 1, 0], mask[0, 1, 0] = boxes, True
    labels = np.zeros((2, 2, 1), np.int32)
    return Targets(corners, labels, mask, np.zeros_like(mask), np.array(at_step), np.ones((2, 2), bool))


def _read(path):
    picture = cv2.imread(str(path)).astype(int)
    assert picture.shape == (320, 640, 3)
    return picture[:, :320], picture[:, 320:]


def test_images_have_their_boxes_in_either_order_of_channels(tmp_path):
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    pixels[..., 0] = 200
    batch = Batch(
        Images(pixels), _targets([16, 16, 48, 48], [[0, 0]] * 2), np.ones(2, bool), np.zeros((2, 2, 2))
    )
    training_batches.write(tmp_path / "x.png", batch, ("car",))
    first, second = _read(tmp_path / "x.png")
    assert (second == [200, 0, 0]).all()
    assert (first[80, 100:220] != [200, 0, 0]).any(-1).all()  # the upper edge at 16 of 64 is at 80 of 320
    assert (first[160, 100:220] == [200, 0, 0]).all()
    training_batches.write(tmp_path / "x.png", batch, ("car",), rgb=True)
    assert (_read(tmp_path / "x.png")[1] == [0, 0, 200]).all()


def test_events_of_the_steps_before_a_label_are_drawn(tmp_path):
    # Event k, of step k, is at column k; the label is at step 14, so steps 5 to 14 are seen.
    steps = 20
    xy = np.stack([np.arange(steps), np.full(steps, 10)], 1).astype(np.float32)
    events = Events(
        np.stack([xy, xy]), np.zeros((2, steps), np.int16), np.ones((2, steps), np.int8),
        np.tile(np.arange(steps + 1), (2, 1)),
    )  # fmt: skip
    batch = Batch(events, _targets([0, 20, 31, 31], [[3, 14]] * 2), np.ones(2, bool), np.zeros((2, 2, 2)))
    training_batches.write(tmp_path / "x.png", batch, ("car",), size=(32, 32))
    first, _ = _read(tmp_path / "x.png")
    light = first[105, 5::10].max(-1) > 200  # a pixel is ten pixels of the picture
    assert np.flatnonzero(light).tolist() == list(range(5, 15))
