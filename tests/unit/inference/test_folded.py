import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_detectors

from jaxdet.inference import folded
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.structs import Images


@pytest.mark.parametrize("family", ["yolox", "yolov4"])
def test_the_form_of_gpus_has_the_candidates_of_the_other(family):
    """Suppression, a kernel there that CPUs lack, is left out."""
    fresh = functional.split(from_config.build(tiny_detectors.get_config(family), 0))
    images = Images(jnp.asarray(np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), np.uint8)))

    def candidates(on_gpu):
        skeleton, variables = folded.prepare(*fresh, on_gpu=on_gpu)

        @jax.jit
        def run(variables):
            model = functional.merge(skeleton, variables)
            slots, none = jnp.zeros((1, 1), jnp.int32), jnp.zeros(1, bool)
            return model.candidates(images, slots, none, model.init_carry(1))[0]

        return run(variables)

    # Sums whose order may change, layer after layer; boxes are in pixels.
    for found, expected in zip(candidates(True), candidates(False), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert np.ptp(expected) > 0
