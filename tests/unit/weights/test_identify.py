"""Released files are recognised by keys and shapes, and only those."""

import golden_data
import numpy as np
import pytest
import released_files
from yolo_models import TINY

from jaxdet.errors import InputError
from jaxdet.weights.identify import identify
from jaxdet.weights.torch.state_dict import Contents

# Widths, heads and depths: table 1 of the released system's description.
HMNET = {
    "B1": ((128,), (4,), (1,)),
    "L1": ((256,), (8,), (1,)),
    "B3": ((128, 256, 256), (4, 8, 8), (1, 3, 9)),
    "L3": ((256, 256, 256), (8, 8, 8), (1, 3, 9)),
}


@pytest.mark.parametrize("name", released_files.HMNET)
def test_hmnet_shows_its_memories(name):
    found = identify(released_files.of_manifest("hmnet", name))
    assert (found.family, found.num_classes, found.cells) == ("hmnet", 2, 60 * 76)
    shown = found.arguments
    assert (shown["widths"], shown["num_heads"], shown["depths"]) == HMNET[name]
    assert (shown["out_features"], shown["event_features"]) == (256, 32)
    assert found.anchors is None


@pytest.mark.parametrize("name", released_files.YOLOX)
def test_yolox_shows_its_multiples(name):
    entry = golden_data.manifest("yolox")[name]
    found = identify(released_files.of_manifest("yolox", name))
    assert (found.family, found.num_classes) == ("yolox", entry["nc"])
    assert found.arguments["width"] == entry["width"]
    assert round(3 * found.arguments["depth"]) == round(3 * entry["depth"])
    assert found.arguments["depthwise"] is entry["depthwise"]


@pytest.mark.parametrize("name", released_files.YOLOV4)
def test_yolov4_shows_its_stages_and_anchors(name):
    entry = golden_data.manifest("yolov4")[name]
    found = identify(released_files.of_manifest("yolov4", name))
    assert (found.family, found.num_classes) == ("yolov4", entry["nc"])
    assert 2 ** len(found.arguments["stages"]) == entry["stride"][-1]
    assert len(found.arguments["neck"]) == len(entry["stride"])
    assert [[list(pair) for pair in level] for level in found.anchors] == entry["anchor_grid_px"]


@pytest.mark.parametrize("name", released_files.PT)
def test_a_reduced_yolov4_shows_every_channel(name):
    found = identify(released_files.of_file(f"pt/{name}"))
    quarter = lambda channels: -(-channels // 32) * 8  # noqa: E731  (of multiples of 8)
    assert found.num_classes == 4
    assert found.arguments["stem"] == 0
    assert found.arguments["stages"] == tuple((quarter(c), n) for c, n in TINY["stages"])
    assert found.arguments["neck"] == tuple(map(quarter, TINY["neck"]))
    assert found.arguments["neck_depths"] == TINY["neck_depths"]
    # Averages of equal anchors are off by rounding.
    np.testing.assert_allclose(found.anchors, TINY["anchors"], rtol=1e-6)


def test_class_names_of_a_pickled_model_are_read():
    assert identify(released_files.of_file("pt/soup.pt")).class_names == (
        "Human",
        "Bicycle",
        "Motorcycle",
        "Vehicle",
    )
    assert identify(released_files.of_file("pt/plain_state_dict.pt")).class_names is None


@pytest.mark.parametrize(
    "names",
    [["0", "1", "2", "3"], ["a", "b"], ["a", "a", "b", "c"], ["a\n", "b", "c", "d"], [1, 2, 3, 4], "abcd"],
)
def test_class_names_that_say_nothing_are_left(names):
    contents = released_files.of_manifest("yolov4", "csp_nc4", names=names)
    assert identify(contents).class_names is None


def test_a_head_of_another_depth_is_told():
    with pytest.raises(InputError, match=r"1 convolutions in bbox_head.levels.0.cls_conv, expected 2"):
        identify(released_files.of_file("pth/hmnet_tiny_checkpoint.pth.tar"))


def test_unknown_tensors_are_told_with_what_was_looked_for():
    with pytest.raises(InputError, match="of no known family") as caught:
        identify(released_files.of_file("pth/odd_tensors.pth"))
    for key in ("HMNet (backbone.memory1.init_latent)", "YOLOX (", "YOLOv4 (model.N.anchor_grid)"):
        assert key in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_models_in_one_are_refused():
    both = (
        released_files.of_manifest("hmnet", "B1").state_dict
        | released_files.of_manifest("yolox", "s").state_dict
    )
    with pytest.raises(InputError, match=r"keys of HMNet .* and YOLOX"):
        identify(Contents(both, "bare state dict"))


def damaged(contents):
    """The same, once for each key, without it, with a scalar and with an empty array in its place."""
    for key in contents.state_dict:
        yield {k: a for k, a in contents.state_dict.items() if k != key}
        for array in (np.zeros(()), np.zeros((0,) * 4)):
            yield contents.state_dict | {key: array}


@pytest.mark.parametrize("family", ["hmnet", "yolox", "yolov4"])
def test_a_damaged_key_is_an_input_error_or_is_not_read(family):
    name = {"hmnet": "B1", "yolox": "nano"}.get(family)
    contents = (
        released_files.of_manifest(family, name) if name else released_files.of_file("pt/plain_state_dict.pt")
    )
    expected, told = identify(contents), []
    for file in damaged(contents):
        try:
            found = identify(Contents(file, ""))
        except InputError as error:
            told.append(str(error))
        else:
            assert found == expected
    assert len(told) >= 6  # a key of the family and one of the class count, at least
    assert not any("\n" in line for line in told)


def test_other_lists_of_layers_are_not_taken_for_yolov4():
    # The same detection layer at the end of another network, as other models of one list have it.
    contents = released_files.of_manifest("yolov4", "csp_nc4")
    shorter = {k: a for k, a in contents.state_dict.items() if not k.startswith("model.29.")}
    with pytest.raises(InputError, match="looks like YOLOv4 but has weights in 25 of 32 layers, expected 26"):
        identify(Contents(shorter, ""))
    without = released_files.renumbered(contents, "cv7", "cv9")
    with pytest.raises(InputError, match="has 0 layers of pyramid pooling"):
        identify(without)


def test_anchors_that_do_not_fit_are_told():
    contents = released_files.of_manifest("yolov4", "csp_nc4")
    grid = contents.state_dict["model.31.anchor_grid"]
    for damaged, found in (
        (np.full_like(grid, np.nan), "no widths and heights"),
        (np.broadcast_to(grid[:1, :, :1], (3, 1, 1 << 40, 1, 1, 2)), "does not fit its 3 levels"),
        (np.broadcast_to(grid[:1], (1 << 40, *grid.shape[1:])), "does not fit its 3 levels"),
        (grid[:, :, :2], "27 outputs for 2 anchors"),
        (np.concatenate([grid, grid], 1), "does not fit its 3 levels"),
    ):
        with pytest.raises(InputError, match=found):
            identify(Contents(contents.state_dict | {"model.31.anchor_grid": damaged}, ""))


def test_two_detection_layers_are_refused():
    contents = released_files.of_manifest("yolov4", "csp_nc4")
    grid = contents.state_dict["model.31.anchor_grid"]
    with pytest.raises(InputError, match="has two detection layers"):
        identify(Contents(contents.state_dict | {"model.30.anchor_grid": grid}, ""))
