"""Soups of released checkpoints equal the released ones."""

import golden_data
import numpy as np
import yolo_models

from jaxdet.nn.functional import Variables
from jaxdet.weights import families, rules, soup
from jaxdet.weights.load import load

INGREDIENTS = ("last_059", "last_069", "last_079")


def test_uniform_soup_of_three_checkpoints_is_the_released_one():
    block, _, target = yolo_models.tiny()
    family, expected = families.of_config(block), golden_data.load("pt/expected")
    files = {name: golden_data.path(f"pt/{name}.pt") for name in INGREDIENTS}
    mixed = soup.uniform((name, load(file, family, target)[0]) for name, file in files.items())
    state_dict = rules.to_torch(mixed, family)
    keys = [str(key) for key in expected["soup__keys"]]
    assert list(state_dict) == keys
    for key in keys:
        np.testing.assert_array_equal(state_dict[key], expected[f"soup/{key}"], err_msg=key)


def test_counters_are_summed_as_integers_and_their_mean_is_cut():
    def ingredient(count):
        return Variables({}, {"norm": {"num_batches_tracked": np.int32(count)}})

    mixed = soup.uniform((str(n), ingredient(n)) for n in (10, 11, 13))
    counter = mixed.batch_stats["norm"]["num_batches_tracked"]
    assert counter == golden_data.load("pt/expected")["soup_counters_10_11_13"]
    assert counter.dtype == np.int32
