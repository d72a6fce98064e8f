"""Whatever the bytes, reading a torch file runs nothing and fails in one line."""

import io
import sys
import tempfile
import zipfile
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import golden_data
import ml_dtypes
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.weights import families, rules
from jaxdet.weights.torch import file as torch_file
from jaxdet.weights.torch import state_dict

# Python reports these before it does them.
FORBIDDEN = (
    "exec",
    "os.system",
    "os.exec",
    "os.spawn",
    "os.remove",
    "subprocess.",
    "socket.",
    "pickle.find_class",
)
_seen: list[str] | None = None


def _audit(event, args):
    if _seen is None or not event.startswith(FORBIDDEN):
        return
    # zipfile may import the codec of its file names.
    if event != "exec" or "encodings" not in getattr(args[0], "co_filename", ""):
        _seen.append(event)


sys.addaudithook(_audit)


@contextmanager
def nothing_runs():
    global _seen
    _seen = events = []
    try:
        yield
    finally:
        _seen = None
    assert not events


def load(content: bytes):
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        file.write(content)
        file.flush()
        with nothing_runs():
            try:
                state_dict.find(torch_file.load(file.name))
                line = ""
            except InputError as error:
                line = str(error)
    assert "\n" not in line


def mutated(content: bytes, edits) -> bytes:
    out = bytearray(content)
    for position, kind, value in edits:
        at = position % max(len(out), 1)
        if kind == "flip":
            out[at : at + 1] = bytes([value])
        elif kind == "cut":
            del out[at:]
        elif kind == "drop":
            del out[at : at + 1 + value % 8]
        else:
            out[at:at] = bytes([value])
    return bytes(out)


EDITS = st.lists(
    st.tuples(
        st.integers(0, 1 << 20), st.sampled_from(["flip", "flip", "cut", "drop", "add"]), st.integers(0, 255)
    ),
    min_size=1,
    max_size=4,
)
ZIPPED = golden_data.path("pth/odd_tensors.pth").read_bytes()
STREAM = golden_data.path("pth/odd_tensors_legacy.pth").read_bytes()
MODULES = golden_data.path("pt/last_059.pt")


@settings(max_examples=100, deadline=None)
@given(EDITS, st.sampled_from([ZIPPED, STREAM]))
def test_damaged_files_fail_in_one_line(edits, content):
    load(mutated(content, edits))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_pickles_fail_in_one_line(data):
    """The pickle is changed inside of an archive whose checksums are right again."""
    with zipfile.ZipFile(io.BytesIO(ZIPPED)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = "odd_tensors/data.pkl"
    members[name] = mutated(members[name], data.draw(EDITS))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    load(out.getvalue())


@settings(max_examples=10, deadline=None)
@given(EDITS)
def test_damaged_pickled_models_fail_in_one_line(edits):
    # Only the pickle: the archive's checksums hide everything else from the reader.
    with zipfile.ZipFile(MODULES) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = f"{MODULES.stem}/data.pkl"
    members[name] = mutated(members[name], edits)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    load(out.getvalue())


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_random_pickles_fail_in_one_line(program):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + program)
    load(out.getvalue())


DTYPES = [np.float32, np.float16, np.float64, np.int64, np.int32, np.int8, np.uint8, np.bool_]
TENSORS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
NAMES = st.text(min_size=1, max_size=20)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(NAMES, TENSORS, min_size=1, max_size=6), st.booleans())
def test_state_dicts_survive_writing_and_reading(tensors, as_bfloat16):
    if as_bfloat16:
        tensors = {
            k: a.astype(ml_dtypes.bfloat16) if a.dtype == np.float16 else a for k, a in tensors.items()
        }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pth"
        torch_file.save(path, {"epoch": 3, "state_dict": OrderedDict(tensors)})
        contents = state_dict.find(torch_file.load(path))
    assert list(contents.state_dict) == list(tensors)
    for key, array in tensors.items():
        read = contents.state_dict[key]
        assert (read.dtype, read.shape) == (array.dtype, array.shape)
        assert read.tobytes() == np.ascontiguousarray(array).tobytes()


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(np.float32, st.tuples(*[st.integers(1, 4)] * 4)),
    arrays.arrays(np.float32, st.tuples(st.integers(1, 4))),
    st.integers(0, (1 << 31) - 1),
)
def test_trees_survive_the_way_to_torch_and_back(kernel, vector, count):
    level = {"cls_conv": {"0": {"conv": {"kernel": kernel}, "norm": {"scale": vector, "bias": -vector}}}}
    tracked = {"mean": vector, "var": vector, "num_batches_tracked": np.int32(count)}
    stats = {"head": {"levels": {"0": {"cls_conv": {"0": {"norm": tracked}}}}}}
    before = Variables({"head": {"levels": {"0": level}}}, stats)
    after, _ = rules.from_torch(rules.to_torch(before, families.HMNET), families.HMNET, before)
    read = after.params["head"]["levels"]["0"]["cls_conv"]["0"]
    assert read["conv"]["kernel"].tobytes() == kernel.tobytes()
    assert read["norm"]["scale"].tobytes() == vector.tobytes()
    assert after.batch_stats["head"]["levels"]["0"]["cls_conv"]["0"]["norm"]["num_batches_tracked"] == count
