"""Augmentation against the released pipeline, with the draws its seeds give."""

import random

import cv2
import golden_data
import numpy as np
import pytest

from jaxdet.data.images import augment
from jaxdet.data.images.augment import Draw, Mosaic, Warp

AUGMENT = golden_data.load("yolo/augment")
WARPS = sorted(
    k.removeprefix("persp_").removesuffix("__in")
    for k in AUGMENT
    if k.startswith("persp_") and k.endswith("__in")
)
SAMPLES = sorted(k.removesuffix("__img") for k in AUGMENT if k.startswith("train_") and k.endswith("__img"))
HSV = sorted(k.removesuffix("__in") for k in AUGMENT if k.startswith("hsv") and k.endswith("__in"))
NUM_IMAGES = sum(k.startswith("ds_image") for k in AUGMENT)


def _assert_pixels(actual, expected):
    # OpenCV's warps differ by a few levels between versions.
    difference = np.abs(actual.astype(int) - expected.astype(int))
    assert difference.max(initial=0) <= 5
    assert difference.mean() < 0.5


@pytest.mark.parametrize("case", HSV)
def test_colour_equals_released(case):
    actual = augment.recolour(AUGMENT[f"{case}__in"], tuple(AUGMENT[f"{case}__gains"]))
    np.testing.assert_array_equal(actual, AUGMENT[f"{case}__out"])


@pytest.mark.parametrize("case", WARPS)
def test_warp_equals_released(case):
    px, py, angle, scale, shx, shy, tx, ty = AUGMENT[f"persp_{case}__drawn8"]
    drawn = Warp((px, py), angle, scale, (shx, shy), (tx, ty))
    out = AUGMENT[f"persp_{case}__out"]
    image, labels = augment.warp(
        AUGMENT[f"persp_{case}__in"], AUGMENT[f"persp_{case}__targets"], drawn, out.shape[:2]
    )
    _assert_pixels(image, out)
    np.testing.assert_array_equal(labels, AUGMENT[f"persp_{case}__targets_out"])


def _released_mosaic(rng, index, settings):
    others = [rng.randint(0, NUM_IMAGES - 1) for _ in range(3)]
    s = settings
    reaches = (
        [(0, s.perspective)] * 2
        + [(0, s.degrees), (1, s.scale)]
        + [(0, s.shear)] * 2
        + [(0.5, s.translate)] * 2
    )
    px, py, angle, scale, shx, shy, tx, ty = (rng.uniform(m - r, m + r) for m, r in reaches)
    return Mosaic((index, *others), Warp((px, py), angle, scale, (shx, shy), (tx, ty)))


def _released_draw(index, settings):
    """The draws in the order of the released code, from its two generators."""
    rng = random.Random(1000 + index + golden_data.SEED)
    state = np.random.RandomState(2000 + index + golden_data.SEED)
    mosaic, mix = _released_mosaic(rng, index, settings), None
    if rng.random() < settings.mixup:
        other = _released_mosaic(rng, rng.randint(0, NUM_IMAGES - 1), settings)
        mix = other, state.beta(8, 8)
    gains = state.uniform(-1, 1, 3) * settings.hsv + 1
    up = rng.random() < settings.flip_up
    return Draw(mosaic, mix, tuple(gains), up, rng.random() < settings.flip_left)


def _load(grey):
    def load(index):
        image = AUGMENT[f"ds_image{index}"]
        rows = [line.split() for line in str(AUGMENT["ds_labels"][index]).splitlines()]
        labels = np.array(rows, np.float32).reshape(-1, 5)
        return (image if grey else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)), labels

    return load


@pytest.mark.parametrize("case", SAMPLES)
def test_samples_equal_released_ones(case):
    settings = augment.FINETUNE if "finetune" in case else augment.Settings()
    drawn = _released_draw(int(case.removeprefix("train_scratch").removeprefix("train_finetune")), settings)
    expected = AUGMENT[f"{case}__img"]
    image, labels = augment.apply(drawn, expected.shape[1:], _load(grey=False))
    _assert_pixels(image[..., ::-1].transpose(2, 0, 1), expected)
    np.testing.assert_array_equal(labels, AUGMENT[f"{case}__labels"][:, 1:])
    # One channel does for grey frames.
    grey, same = augment.apply(drawn, expected.shape[1:], _load(grey=True))
    np.testing.assert_array_equal(np.broadcast_to(grey[..., None], image.shape), image)
    np.testing.assert_array_equal(same, labels)
