import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.weights import soup


def _weights(*values):
    return Variables({"layer": {"kernel": np.array(values, np.float32)}}, {"norm": {"mean": np.float32(0)}})


def _loaders(**values):
    return {name: lambda v=v: _weights(*v) for name, v in values.items()}


def _closeness(target):
    return lambda weights: -float(np.abs(weights.params["layer"]["kernel"] - target).sum())


def test_a_soup_of_equal_models_is_that_model():
    rng = np.random.default_rng(0)
    one = _weights(*rng.normal(size=50))
    for number in (1, 2, 4):  # powers of two divide without rounding
        mixed = soup.uniform((str(i), one) for i in range(number))
        np.testing.assert_array_equal(mixed.params["layer"]["kernel"], one.params["layer"]["kernel"])
    assert mixed.params["layer"]["kernel"].dtype == np.float32


def test_half_precision_ingredients_are_summed_in_float32():
    half = Variables({"w": np.full(1, 60000, np.float16)}, {})
    assert soup.uniform([("a", half), ("b", half)]).params["w"] == 60000  # the sum is beyond float16


def test_greedy_keeps_what_does_not_harm_and_tells_why():
    # The best alone is b; a balances its error, c spoils the mean.
    found = soup.greedy(_loaders(a=[2.0, 0.0], b=[0.0, 1.5], c=[9.0, 9.0]), _closeness([1.0, 1.0]))
    assert [(t.name, t.kept) for t in found.tried] == [("b", True), ("a", True), ("c", False)]
    np.testing.assert_array_equal(found.weights.params["layer"]["kernel"], [1.0, 0.75])
    assert found.score == -0.25
    assert [t.score for t in found.tried] == [-1.5, -2.0, -16.0]
    assert found.score >= max(t.score for t in found.tried)


def test_one_ingredient_is_its_own_soup():
    found = soup.greedy(_loaders(a=[1.0, 3.0]), _closeness([0.0, 0.0]))
    np.testing.assert_array_equal(found.weights.params["layer"]["kernel"], [1.0, 3.0])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            Variables({"layer": {"kernel": np.zeros(3, np.float32)}}, {"norm": {"mean": np.float32(0)}}),
            "shape",
        ),
        (Variables({"layer": {}}, {"norm": {"mean": np.float32(0)}}), r"b lacks params\.layer\.kernel"),
        (
            Variables(
                {"layer": {"kernel": np.zeros(2), "bias": np.zeros(1)}}, {"norm": {"mean": np.float32(0)}}
            ),
            r"additional part params\.layer\.bias",
        ),
    ],
)
def test_what_does_not_match_is_named(other, message):
    with pytest.raises(InputError, match=message):
        soup.uniform([("a", _weights(0.0, 0.0)), ("b", other)])


def test_a_soup_needs_an_ingredient():
    with pytest.raises(InputError, match="at least one"):
        soup.uniform([])


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(InputError, match="b has no score"):
        soup.greedy(
            _loaders(a=[1.0], b=[2.0]),
            lambda weights: {1.0: 0.5}.get(float(weights.params["layer"]["kernel"][0]), float("nan")),
        )
