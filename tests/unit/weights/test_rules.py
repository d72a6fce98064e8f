import golden_data
import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.weights import families, rules

DTYPES = {"float32": np.float32, "int64": np.int64}
SIZES = [("hmnet", size) for size in ("B1", "L1", "B3", "L3")] + [
    ("yolox", size) for size in ("nano", "tiny", "s", "m", "l", "x")
]
TABLES = {"hmnet": families.HMNET, "yolox": families.YOLOX}


def small(entries):
    """A state dict with every key of a manifest, its ranks and kinds, axes of 2 or 3, distinct values."""
    out, count = {}, 0
    for key, shape, dtype in entries:
        if key.endswith("relative_position_indices"):
            out[key] = families.relative_position_indices(7)
            continue
        window = key.endswith("position_embedding_table")
        shape = tuple(shape) if window else tuple(2 + i for i in range(len(shape)))
        size = int(np.prod(shape))
        out[key] = np.arange(count, count + size).reshape(shape).astype(DTYPES[dtype])
        count += size
    return out


@pytest.mark.parametrize(("family", "size"), SIZES)
def test_every_key_of_the_manifest_is_used_once_and_comes_back_in_order(family, size):
    before = small(golden_data.manifest(family)[size]["state_dict"])
    variables, report = rules.from_torch(before, TABLES[family])
    keys = [pair.key for pair in report.pairs] + [key for key, _ in report.ignored]
    assert sorted(keys) == sorted(before)
    assert len({pair.path for pair in report.pairs}) == len(report.pairs)
    after = rules.to_torch(variables, TABLES[family])
    assert list(after) == list(before)
    for key, array in before.items():
        assert after[key].dtype == array.dtype, key
        np.testing.assert_array_equal(after[key], array, err_msg=key)


@pytest.mark.parametrize(("family", "size"), SIZES)
def test_a_target_is_filled_completely(family, size):
    before = small(golden_data.manifest(family)[size]["state_dict"])
    target, _ = rules.from_torch(before, TABLES[family])
    again, report = rules.from_torch(before, TABLES[family], target)
    assert not report.missing
    assert not report.unused
    assert again.params.keys() == target.params.keys()


def test_names_follow_the_module_tree():
    keys = {
        "backbone.memory3.update.0.residual.conv1.conv.weight": (
            "backbone.memory3.update.0.residual.conv1.conv.kernel"
        ),
        "bbox_head.levels.1.cls_conv.0.bn.running_var": "head.levels.1.cls_conv.0.norm.var",
        "neck.extra_convs.0.norm.weight": "neck.extra_convs.0.norm.scale",
    }
    state = small(golden_data.manifest("hmnet")["B3"]["state_dict"])
    state |= small(golden_data.manifest("hmnet")["B1"]["state_dict"])
    _, report = rules.from_torch(state, families.HMNET)
    paths = {pair.key: pair.path.split(".", 1)[1] for pair in report.pairs}
    assert {key: paths[key] for key in keys} == keys
    state = small(golden_data.manifest("yolox")["nano"]["state_dict"])
    _, report = rules.from_torch(state, families.YOLOX)
    paths = {pair.key: pair.path.split(".", 1)[1] for pair in report.pairs}
    assert paths["backbone.backbone.dark2.0.dconv.bn.weight"] == "backbone.dark2.0.dconv.norm.scale"
    assert paths["backbone.C3_p4.conv1.conv.weight"] == "neck.C3_p4.conv1.conv.kernel"
    assert paths["head.cls_convs.2.0.dconv.conv.weight"] == "head.levels.2.cls_conv.0.dconv.conv.kernel"
    assert paths["head.obj_preds.1.bias"] == "head.levels.1.obj_pred.bias"
    assert paths["head.stems.0.conv.weight"] == "head.levels.0.stem.conv.kernel"


def test_axes_move_from_oihw_to_hwio():
    state = {"backbone.backbone.stem.conv.conv.weight": np.arange(120.0).reshape(2, 3, 4, 5)}
    variables, _ = rules.from_torch(state, families.YOLOX)
    kernel = variables.params["backbone"]["stem"]["conv"]["conv"]["kernel"]
    assert kernel.shape == (4, 5, 3, 2)
    assert kernel[1, 2, 0, 1] == state["backbone.backbone.stem.conv.conv.weight"][1, 0, 1, 2]


def test_relative_positions_are_those_of_a_two_by_two_window():
    # Query 0 at (0, 0), key 3 at (1, 1): row offset +1, column offset +1, shifted by window - 1.
    table = families.relative_position_indices(2).reshape(2, 4, 4)
    assert table[:, 0, 3].tolist() == [2, 2]
    assert table[:, 3, 0].tolist() == [0, 0]
    assert table[:, 1, 2].tolist() == [2, 0]


def tiny():
    state = {"bbox_head.levels.0.cls_pred.weight": np.ones((2, 3, 1, 1), np.float32)}
    state["bbox_head.levels.0.cls_pred.bias"] = np.ones(2, np.float32)
    return state


def test_strict_conversion_names_what_does_not_fit():
    target, _ = rules.from_torch(tiny(), families.HMNET)
    with pytest.raises(
        InputError, match=r"1 of 2 leaves are not in it \(first params.head.levels.0.cls_pred.bias"
    ):
        rules.from_torch({k: v for k, v in tiny().items() if "weight" in k}, families.HMNET, target)
    with pytest.raises(InputError, match="the model has no such part"):
        rules.from_torch(tiny() | {"neck.extra.weight": np.ones(2)}, families.HMNET, target)
    wrong = tiny() | {"bbox_head.levels.0.cls_pred.bias": np.ones(80, np.float32)}
    with pytest.raises(InputError, match=r"shape \[80\] in the file, \[2\] in the model"):
        rules.from_torch(wrong, families.HMNET, target)
    with pytest.raises(InputError, match="is this the right --config"):
        rules.from_torch({"conv.weight": np.ones(2)}, families.HMNET, target)


def test_lenient_conversion_keeps_what_does_not_fit_and_says_so():
    target, _ = rules.from_torch(tiny(), families.HMNET)
    file = {
        "bbox_head.levels.0.cls_pred.weight": np.full((2, 3, 1, 1), 7, np.float16),
        "bbox_head.levels.0.cls_pred.bias": np.zeros(80, np.float32),
    }
    variables, report = rules.from_torch(file, families.HMNET, target, lenient=True)
    head = variables.params["head"]["levels"]["0"]["cls_pred"]
    assert head["kernel"].dtype == np.float32
    assert (head["kernel"] == 7).all()
    assert (head["bias"] == 1).all()
    assert [key for key, _ in report.unused] == ["bbox_head.levels.0.cls_pred.bias"]
    assert report.missing == ["params.head.levels.0.cls_pred.bias"]
    assert "not used: shape [80] in the file, [2] in the model" in report.text()


def test_a_changed_index_table_is_refused():
    state = small(golden_data.manifest("hmnet")["B3"]["state_dict"])
    key = next(k for k in state if k.endswith("relative_position_indices"))
    with pytest.raises(InputError, match="differs from the configuration"):
        rules.from_torch(state | {key: state[key] + 1}, families.HMNET)


def test_two_keys_for_one_leaf_are_refused():
    with pytest.raises(InputError, match="both lead to"):
        rules.from_torch(
            {"head.levels.0.bias": np.ones(1), "bbox_head.levels.0.bias": np.ones(1)}, families.HMNET
        )


def test_counters_are_int32_in_the_tree_and_int64_in_the_file():
    state = {"neck.extra_convs.0.norm.num_batches_tracked": np.asarray(5, np.int64)}
    variables, _ = rules.from_torch(state, families.HMNET)
    assert variables.batch_stats["neck"]["extra_convs"]["0"]["norm"]["num_batches_tracked"].dtype == np.int32
    after = rules.to_torch(Variables({}, variables.batch_stats), families.HMNET)
    assert next(iter(after.values())).dtype == np.int64
    huge = {"neck.extra_convs.0.norm.num_batches_tracked": np.asarray(1 << 40, np.int64)}
    with pytest.raises(InputError, match="31 bits"):
        rules.from_torch(huge, families.HMNET)
