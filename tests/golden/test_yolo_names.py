"""Every entry of the released state dicts has one place in our trees, and back."""

import golden_data
import numpy as np
import pytest
from yolo_models import abstract, tiny, yolov4_block

from jaxdet import config
from jaxdet.errors import InputError
from jaxdet.weights import families, rules, yolov4
from jaxdet.weights.torch import file as torch_file
from jaxdet.weights.torch import state_dict

YOLOV4 = ["csp_nc4", "p5_nc4", "p6_nc4", "p7_nc4", "p6_nc80", "p7_nc80"]
YOLOX = ["nano", "tiny", "s", "m", "l", "x"]


def block_of(family, name):
    if family == "yolox":
        return config.yolox(name, 80)
    size, classes = name.split("_nc")
    return yolov4_block(size, int(classes))


# The two largest models differ from these in the length of the last convolution only.
LONG = ("p6_nc4", "p7_nc80")
FILES = [
    *(pytest.param("yolov4", n, marks=[pytest.mark.slow] if n in LONG else []) for n in YOLOV4),
    *(("yolox", n) for n in YOLOX),
]


@pytest.mark.parametrize(("family", "name"), FILES)
def test_manifest_maps_key_by_key_and_back(family, name):
    entry = golden_data.manifest(family)[name]
    block = block_of(family, name)
    table, (_, shapes) = families.of_config(block), abstract(block)
    # Arrays of no memory: one number seen in every place.
    file = {k: np.broadcast_to(np.zeros((), dtype), shape) for k, shape, dtype in entry["state_dict"]}
    file.update({k: v for k, v in table.derived({}).items() if k in file})
    variables, report = rules.from_torch(file, table, shapes)
    assert len(report.pairs) + len(report.ignored) == len(file)
    assert not report.unused
    assert not report.missing
    written = rules.to_torch(variables, table)
    assert [[k, list(a.shape), str(a.dtype)] for k, a in written.items()] == entry["state_dict"]


@pytest.mark.parametrize("name", YOLOV4)
def test_configured_anchors_are_the_released_ones(name):
    entry = golden_data.manifest("yolov4")[name]
    assert [[list(a) for a in level] for level in block_of("yolov4", name).anchors] == entry["anchor_grid_px"]
    buffers = families.of_config(block_of("yolov4", name)).derived({})
    assert yolov4.head_of(
        {**buffers, f"model.{entry['detect_index']}.m.0.bias": np.zeros(len(entry["anchor_grid_px"][0]) * 9)}
    ) == (4, entry["anchor_grid_px"])


PT = [
    "last_059.pt",
    "last_069.pt",
    "last_079.pt",
    "last_059_legacy_format.pt",
    "last_059_strip.pt",
    "last_059_syncbn.pt",
    "soup.pt",
    "plain_state_dict.pt",
]


def contents(name):
    path = golden_data.path(f"pt/{name}")
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return state_dict.find(torch_file.load(path)).state_dict


@pytest.mark.parametrize("name", PT)
def test_released_file_goes_in_and_comes_out_unchanged(name):
    file, (block, _, shapes) = contents(name), tiny()
    variables, report = rules.from_torch(file, families.of_config(block), shapes)
    assert len(report.ignored) == 2
    written = rules.to_torch(variables, families.of_config(block))
    assert list(written) == list(file)
    for key, array in file.items():
        # Half-precision files are read into float32, which holds every half. Averaged anchors are off by
        # rounding.
        rtol = 1e-5 if "anchor" in key else 0
        np.testing.assert_allclose(written[key], array, rtol=rtol)


def test_head_of_a_file_is_read_from_its_tensors():
    classes, anchors = yolov4.head_of(contents("last_059_strip.pt"))
    assert classes == 4
    np.testing.assert_array_equal(anchors, yolov4_block("tiny").anchors)


def test_other_class_count_or_anchors_are_told():
    file = contents("last_059_strip.pt")
    block = yolov4_block("tiny", 3)
    with pytest.raises(InputError, match="4 classes, the configuration 3"):
        rules.from_torch(file, families.of_config(block), abstract(block)[1])
    block, _, shapes = tiny()
    other = yolov4.rules(4, 4, (((13, 17), (31, 26)), block.anchors[1]), stem=False)
    with pytest.raises(InputError, match=r"anchor.*configuration"):
        rules.from_torch(file, other, shapes)
