import pytest

from jaxdet import files
from jaxdet.errors import InputError
from jaxdet.weights import stored_config


def test_epochs_of_steps():
    images = {"train": {"iterations_per_epoch": 4}, "data": {"kind": "images"}}
    assert stored_config.epoch_of(images, 6) == 1.5
    segments = {"train": {"iterations_per_epoch": 4}, "data": {"window_ms": 8100, "segment_ms": 810}}
    assert stored_config.epoch_of(segments, 60) == 1.5
    assert stored_config.epoch_of({}, 60) == 0


def test_the_kind_of_data_of_the_first_version():
    assert stored_config.current({"data": {"kind": "gen1", "seed": 1}}, "x") == {
        "data": {"kind": "events", "seed": 1}
    }
    assert stored_config.current({"data": {"kind": "images"}}, "x") == {"data": {"kind": "images"}}


def test_a_config_of_a_newer_format_is_refused_and_the_version_is_no_key_of_it():
    assert stored_config.current(files.stamped({"a": 1}), "x") == {"a": 1}
    with pytest.raises(InputError, match=r"runs/x: format_version 2, up to 1 is known; update jaxdet"):
        stored_config.current(files.stamped({"a": 1}, 2), "runs/x")
    with pytest.raises(InputError, match="runs/x: a list in place of a config"):
        stored_config.current([1], "runs/x")
