from jaxdet.weights import stored_config


def test_epochs_of_steps():
    images = {"train": {"iterations_per_epoch": 4}, "data": {"kind": "images"}}
    assert stored_config.epoch_of(images, 6) == 1.5
    segments = {"train": {"iterations_per_epoch": 4}, "data": {"window_ms": 8100, "segment_ms": 810}}
    assert stored_config.epoch_of(segments, 60) == 1.5
    assert stored_config.epoch_of({}, 60) == 0


def test_the_kind_of_data_of_the_first_version():
    assert stored_config.current({"data": {"kind": "gen1", "seed": 1}}) == {
        "data": {"kind": "events", "seed": 1}
    }
    assert stored_config.current({"data": {"kind": "images"}}) == {"data": {"kind": "images"}}
