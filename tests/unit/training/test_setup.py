from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from jax.sharding import Mesh

from jaxdet.nn import gpu_training
from jaxdet.training import setup


def _mesh(platform, size):
    """A mesh of devices that are not here."""
    devices = np.array([SimpleNamespace(platform=platform)] * size, object)
    return mock.Mock(spec=Mesh, devices=devices, size=size)


@pytest.mark.parametrize(
    ("platform", "size", "rules", "environment", "expected"),
    [
        ("gpu", 1, (), "1", True),
        ("gpu", 8, (), "1", True),
        ("gpu", 1, (("kernel", "data"),), "1", True),
        ("gpu", 8, (("kernel", "data"),), "1", False),  # no device has all weights
        ("gpu", 1, (), "0", False),
        ("cpu", 4, (), "1", False),
    ],
)
def test_the_form_of_gpus_is_for_gpus_that_have_all_weights(
    platform, size, rules, environment, expected, monkeypatch
):
    monkeypatch.setenv("JAXDET_GPU_FORM", environment)
    form = setup._form(SimpleNamespace(sharding=rules), _mesh(platform, size))
    assert (getattr(form, "func", None) is gpu_training.in_few_kernels) == expected
    if not expected:
        assert form("skeleton", "variables") == ("skeleton", "variables")
