"""The best class of a box, the first of equals, for few classes and for many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import select


@pytest.mark.parametrize("num_classes", [1, 2, 8, 9, 80])
def test_the_best_class_is_the_first_of_equals(num_classes):
    rng = np.random.default_rng(num_classes)
    classes = (rng.integers(0, 5, (3, 50, num_classes)) / 4).astype(np.float32)  # many ties
    best, label = jax.jit(select._best)(jnp.asarray(classes))
    np.testing.assert_array_equal(best, classes.max(-1))
    np.testing.assert_array_equal(label, classes.argmax(-1))
    assert label.dtype == jnp.int32


def test_a_score_that_is_no_number_has_a_class_that_exists():
    classes = np.full((1, 2, 80), np.nan, np.float32)
    _, label = select._best(jnp.asarray(classes))
    assert ((np.asarray(label) >= 0) & (np.asarray(label) < 80)).all()
