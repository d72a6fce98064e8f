import cv2
import golden_data
import numpy as np
import pytest

from jaxdet.data.images import letterbox as images

AUGMENT = golden_data.load("yolo/augment")
LETTERBOXES = sorted({k.split("__")[0] for k in AUGMENT if k.startswith("letterbox")})
NUM_IMAGES = sum(k.startswith("ds_image") for k in AUGMENT)


def _coloured(index):
    return cv2.cvtColor(AUGMENT[f"ds_image{index}"], cv2.COLOR_GRAY2BGR)


@pytest.mark.parametrize("case", LETTERBOXES)
def test_letterbox_equals_released_pixels(case):
    height, width, auto, fill, enlarge = AUGMENT[f"{case}__args"]
    image, gain, pad = images.letterbox(
        AUGMENT[f"{case}__in"], (int(height), int(width)), 128 if auto else None, bool(fill), bool(enlarge)
    )
    np.testing.assert_array_equal(image, AUGMENT[f"{case}__out"])
    np.testing.assert_allclose([*gain, *pad], AUGMENT[f"{case}__ratio_pad"], rtol=1e-14)


@pytest.mark.parametrize("case", ["rect_test", "rect_val", "rect_test320"])
def test_rect_batches_equal_released_shapes_and_pixels(case):
    size, batch_size, stride, pad = AUGMENT[f"{case}__args"]
    sizes = [AUGMENT[f"ds_image{i}"].shape for i in range(NUM_IMAGES)]
    order, shapes = images.rect_shapes(sizes, int(batch_size), int(size), int(stride), pad)
    np.testing.assert_array_equal(shapes, AUGMENT[f"{case}__batch_shapes"])
    # The released sort is unstable: equal aspects may come in another order.
    released = AUGMENT[f"{case}__order"]
    aspects = np.array([h / w for h, w in sizes])
    np.testing.assert_array_equal(aspects[order], aspects[released])
    for place, index in enumerate(released):
        if f"{case}{place}__img" not in AUGMENT:
            continue
        shape = shapes[place // int(batch_size)]
        image, placement = images.fit_yolov4(_coloured(index), shape, int(size))
        np.testing.assert_array_equal(image[..., ::-1].transpose(2, 0, 1), AUGMENT[f"{case}{place}__img"])
        h0, w0, gain_h, _, pad_x, pad_y = AUGMENT[f"{case}{place}__shapes"]
        assert placement.size == (h0, w0)
        np.testing.assert_allclose([placement.gain[1], *placement.pad], [gain_h, pad_x, pad_y], rtol=1e-14)


def test_yolox_input_equals_released_pixels():
    yolox = golden_data.load("yolox/yolox")
    expected = yolox["preproc__out_u8"]
    image, placement = images.fit_yolox(yolox["preproc__in"], expected.shape[1:])
    np.testing.assert_array_equal(image.transpose(2, 0, 1), expected)
    assert placement.gain[0] == pytest.approx(float(yolox["preproc__ratio"]), rel=1e-14)
