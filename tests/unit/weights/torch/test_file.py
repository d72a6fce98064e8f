import pickle
import struct
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest

from jaxdet import pickles
from jaxdet.errors import InputError
from jaxdet.weights.torch import file as torch_file
from jaxdet.weights.torch import state_dict


def zip_file(path, pickled, members=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x/data.pkl", pickled)
        for name, content in dict(members).items():
            archive.writestr(f"x/{name}", content)
    return path


def tensor(offset=0, size=(2,), stride=(1,), count=4, kind="FloatStorage"):
    """Opcodes of one tensor over storage `0`."""
    text = lambda s: b"X" + struct.pack("<I", len(s)) + s.encode()  # noqa: E731
    number = lambda n: b"J" + struct.pack("<i", n)  # noqa: E731
    several = lambda ns: b"(" + b"".join(map(number, ns)) + b"t"  # noqa: E731
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + text("storage")
        + f"ctorch\n{kind}\n".encode()
        + text("0")
        + text("cuda:0")
        + number(count)
        + b"tQ"
        + number(offset)
        + several(size)
        + several(stride)
        + b"\x89Nt"
        + b"R"
    )


def one_tensor(tmp_path, storage=None, **described):
    storage = np.arange(4, dtype=np.float32).tobytes() if storage is None else storage
    return zip_file(tmp_path / "t.pt", b"\x80\x02" + tensor(**described) + b".", {"data/0": storage})


def test_views_share_a_storage_and_start_at_their_offset(tmp_path):
    view = torch_file.load(one_tensor(tmp_path, offset=1, size=(2, 2), stride=(1, 1)))
    assert view.tolist() == [[1, 2], [2, 3]]
    assert not view.flags.writeable


@pytest.mark.parametrize(
    "described",
    [
        {"offset": 3},
        {"size": (5,)},
        {"size": (2, 2), "stride": (4, 1)},
        {"offset": -1},
        {"size": (-2,)},
        {"stride": (-1,)},
        {"size": (2, 2), "stride": (1,)},
        {"size": (1 << 30,), "stride": (0,)},
        {"count": 5},
        {"kind": "QInt8Storage"},
    ],
)
def test_tensors_outside_their_storage_are_refused(tmp_path, described):
    with pytest.raises(InputError):
        torch_file.load(one_tensor(tmp_path, **described))


def test_save_and_load_are_inverse(tmp_path):
    value = {
        "a": OrderedDict(w=np.arange(6, dtype=np.float16).reshape(2, 3).T, b=np.float32([]).reshape(0, 4)),
        "list": [1, -5, 1 << 70, -(1 << 31), 0.1, None, True, "é", (), (1, (2,)), {}],
        "bf16": np.array([1.5, -2], ml_dtypes.bfloat16),
        "scalar": np.array(3.0),
        "flags": np.array([True, False]),
        3: np.int64(7),
    }
    value["a"]._metadata = {"": {"version": 2}}
    torch_file.save(tmp_path / "x.pth", value)
    again = torch_file.load(tmp_path / "x.pth")
    assert list(again) == list(value)
    assert isinstance(again["a"], OrderedDict)
    assert again["a"]._metadata == {"": {"version": 2}}
    assert again["list"] == value["list"]
    assert again[3] == 7
    for name in ("bf16", "scalar", "flags"):
        assert again[name].dtype == value[name].dtype
        assert again[name].shape == value[name].shape
        np.testing.assert_array_equal(again[name], value[name])
    np.testing.assert_array_equal(again["a"]["w"], value["a"]["w"])
    assert again["a"]["b"].shape == (0, 4)


def test_equal_content_gives_equal_files(tmp_path):
    for name in ("a.pth", "b.pth"):
        torch_file.save(tmp_path / name, {"w": np.ones(3)})
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_objects_cannot_be_written(tmp_path):
    with pytest.raises(TypeError, match="object in a torch file"):
        torch_file.save(tmp_path / "x.pth", {"a": object()})
    with pytest.raises(TypeError, match="complex128"):
        torch_file.save(tmp_path / "x.pth", {"a": np.zeros(2, complex)})
    assert not list(tmp_path.iterdir())


HOSTILE = {
    "os.system": b"cposix\nsystem\nX\x0c\x00\x00\x00touch pwned\x00\x85R.",
    "eval": b"c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
    "getattr": b"cbuiltins\ngetattr\n.",
    "by stack": b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93.",
    "dotted": b"cjaxdet.files\natomic\n.",
    "old instance": b"(ios\nsystem\n.",
    "extension": b"\x82\x01.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_run_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for path in (zip_file(tmp_path / "x.pt", b"\x80\x02" + HOSTILE[name]), tmp_path / "y.pt"):
        if path.name == "y.pt":
            path.write_bytes(legacy_head() + b"\x80\x02" + HOSTILE[name])
        with pytest.raises(InputError) as caught:
            torch_file.load(path)
        assert "\n" not in str(caught.value)
    assert {p.name for p in tmp_path.iterdir()} == {"x.pt", "y.pt"}


def test_a_harmless_name_is_a_value_and_not_the_thing(tmp_path):
    # `torch.load` exists and would run code; here it is a name with arguments.
    value = torch_file.load(zip_file(tmp_path / "x.pt", b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00a\x85R."))
    assert isinstance(value, pickles.Inert)
    assert str(value.kind) == "torch.load"
    assert value.args == ("a",)


def legacy_head(little_endian=True, protocol=1001):
    parts = (0x1950A86A20F9469CFC6C, protocol, {"little_endian": little_endian})
    return b"".join(pickle.dumps(part, 2) for part in parts)


def legacy(tmp_path, body, tail=b"", **head):
    path = tmp_path / "legacy.pt"
    path.write_bytes(legacy_head(**head) + b"\x80\x02" + body + b"." + tail)
    return path


def test_legacy_stream_and_its_failures(tmp_path):
    keys, data = pickle.dumps(["0"], 2), struct.pack("<q", 4) + np.arange(4, dtype=np.float32).tobytes()
    assert torch_file.load(legacy(tmp_path, tensor(offset=2), keys + data)).tolist() == [2, 3]
    for tail, why in (
        (keys + data[:-1], "cut short"),
        (keys, "cut short"),
        (pickle.dumps([], 2), "list of storages"),
        (keys + struct.pack("<q", 3) + data[8:], "another length"),
    ):
        with pytest.raises(InputError, match=why):
            torch_file.load(legacy(tmp_path, tensor(), tail))
    with pytest.raises(InputError, match="cut short"):
        torch_file.load(legacy(tmp_path, tensor(count=1 << 30), keys + data))
    with pytest.raises(InputError, match="big-endian"):
        torch_file.load(legacy(tmp_path, tensor(), keys + data, little_endian=False))
    with pytest.raises(InputError, match="protocol"):
        torch_file.load(legacy(tmp_path, tensor(), keys + data, protocol=1000))


def test_archives_that_are_no_weights_are_refused(tmp_path):
    good = b"\x80\x02" + tensor() + b"."
    storage = {"data/0": bytes(16)}
    cases = (
        (zip_file(tmp_path / "big.pt", good, storage | {"byteorder": b"big"}), "big-endian"),
        (zip_file(tmp_path / "bomb.pt", good, {"data/0": bytes(16)}, zipfile.ZIP_DEFLATED), "compressed"),
        (zip_file(tmp_path / "script.pt", good, storage | {"constants.pkl": b""}), "TorchScript"),
        (zip_file(tmp_path / "missing.pt", good), "missing"),
    )
    for path, why in cases:
        with pytest.raises(InputError, match=why):
            torch_file.load(path)
    for name, content in (("empty.pt", b""), ("page.pt", b"<html>"), ("pickle.pt", pickle.dumps([1], 2))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"torch\.save"):
            torch_file.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        torch_file.load(tmp_path / "none.pt")


def module(name, **state):
    kind = pickles.Global("torch.nn", name)
    return pickles.Inert(kind, state=state)


def test_modules_flatten_in_the_order_of_torch():
    one = np.ones(1)
    inner = module("BatchNorm2d", _parameters={"weight": one, "bias": None}, _buffers={"running_mean": one})
    outer = module(
        "Net",
        _modules={"bn": inner, "act": None},
        _buffers={"anchors": one, "cache": one},
        _parameters={"w": one},
        _non_persistent_buffers_set={"cache"},
        nc=4,
    )
    contents = state_dict.find({"epoch": 3, "model": outer})
    assert list(contents.state_dict) == ["w", "anchors", "bn.weight", "bn.running_mean"]
    assert contents.extras == {"nc": 4, "epoch": 3}
    assert contents.layout == "pickled torch.nn.Net under 'model'"


def test_a_module_that_contains_itself_is_refused():
    net = module("Net", _modules={})
    net.state["_modules"]["child"] = net
    with pytest.raises(InputError, match="deep"):
        state_dict.find(net)


def test_names_that_add_up_to_long_keys_are_refused():
    net = module("Net", _parameters={"w": np.ones(1)})
    for _ in range(5):
        net = module("Net", _modules={"m" * 1000: net})
    with pytest.raises(InputError, match="a name of more than"):
        state_dict.find(net)


def test_a_set_of_names_that_holds_other_things_is_read_as_names():
    buffers = {"kept": np.ones(1), "cache": np.ones(1)}
    net = module("Net", _buffers=buffers, _non_persistent_buffers_set=[np.ones(2), "cache", []])
    assert list(state_dict.find(net).state_dict) == ["kept"]


def test_a_storage_of_booleans_is_cleaned_once(tmp_path):
    body = b"\x80\x02(" + 2 * tensor(kind="BoolStorage") + b"t."
    first, second = torch_file.load(zip_file(tmp_path / "t.pt", body, {"data/0": b"\x02\x00\x01\xff"}))
    assert first.tolist() == [True, False]
    assert np.shares_memory(first, second)


def test_files_without_weights_are_refused():
    for value in ([], {}, {"epoch": 1}, {"model": None}, module("Net"), 5):
        with pytest.raises(InputError):
            state_dict.find(value)
