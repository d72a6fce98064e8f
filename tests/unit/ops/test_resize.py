import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import resize


def test_doubling_and_halving_equal_opencv():
    image = np.random.default_rng(0).random((6, 10, 2)).astype(np.float32)
    for ours, size in ((resize.double, (20, 12)), (resize.halve, (5, 3))):
        expected = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        # Sums of four numbers below 1 in float32.
        np.testing.assert_allclose(ours(jnp.asarray(image)[None])[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "new"), [((28, 40), (55, 80)), ((55, 7), (28, 4)), ((5, 3), (5, 8)), ((1, 2), (2, 3))]
)
def test_any_size_equals_opencv(size, new):
    """OpenCV has the same centres and edges; among the sizes are the grids of 440 x 640 pixels."""
    image = np.random.default_rng(0).random((*size, 2)).astype(np.float32)
    expected = cv2.resize(image, new[::-1], interpolation=cv2.INTER_LINEAR)
    # OpenCV keeps positions in float32.
    np.testing.assert_allclose(resize.bilinear(jnp.asarray(image)[None], new)[0], expected, atol=2e-5)


def test_factors_of_two_are_the_sums_of_slices_to_the_last_bit():
    image = jnp.asarray(np.random.default_rng(0).random((1, 6, 10, 2)), jnp.float32)
    np.testing.assert_array_equal(resize.bilinear(image, (12, 20)), resize.double(image))
    np.testing.assert_array_equal(resize.bilinear(image, (3, 5)), resize.halve(image))


def test_doubling_by_padding_equals_doubling_by_joining():
    """The forms of GPUs and of CPUs."""
    image = jnp.asarray(np.random.default_rng(0).random((1, 3, 5, 2)), jnp.float32)
    for axis in (1, 2):
        np.testing.assert_array_equal(
            resize._double_axis_padded(image, axis), resize._double_axis(image, axis)
        )
