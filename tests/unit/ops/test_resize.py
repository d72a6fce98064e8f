import cv2
import jax.numpy as jnp
import numpy as np

from jaxdet.ops import resize


def test_doubling_and_halving_equal_opencv():
    image = np.random.default_rng(0).random((6, 10, 2)).astype(np.float32)
    for ours, size in ((resize.double, (20, 12)), (resize.halve, (5, 3))):
        expected = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        # Sums of four numbers below 1 in float32.
        np.testing.assert_allclose(ours(jnp.asarray(image)[None])[0], expected, atol=1e-6)
