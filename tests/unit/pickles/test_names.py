"""Pickles that run code under Python's own unpickler run nothing here."""

import copyreg
import pickle
import struct
import sys
import types

import pytest

from jaxdet import pickles
from jaxdet.errors import InputError
from jaxdet.pickles import tables
from jaxdet.weights.torch import names as torch_names

PLAIN = pickles.Names({**tables.CONTAINERS, **tables.ARRAYS}, "plain data")


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


MKDIR = b"cos\nmkdir\n"
IMPORTED = b"cimportlib\nimport_module\n" + text("os") + b"\x85R"
BY_NAME = text("__import__('os').mkdir(d)") + b"}" + text("d") + b"@stR."
MAPPED = b"cbuiltins\nmap\n" + MKDIR + b"@\x85\x86R\x85R"
# Each makes the folder whose name stands in the place of @.
LIVE = {
    "a name and a call": MKDIR + b"@\x85R.",
    "the module's own name": b"cposix\nmkdir\n@\x85R.",
    "a name on the stack": b"\x80\x04" + text("os") + text("mkdir") + b"\x93@\x85R.",
    "a dotted name": b"\x80\x04" + text("shutil") + text("os.mkdir") + b"\x93@\x85R.",
    "an old instance": b"(@ios\nmkdir\n.",
    "an old object": b"(" + MKDIR + b"@o.",
    "an extension": b"\x80\x02\x82\xf0@\x85R.",
    "eval": b"cbuiltins\neval\n(" + BY_NAME,
    "eval of Python 2": b"c__builtin__\neval\n(" + BY_NAME,
    "exec": b"cbuiltins\nexec\n(" + BY_NAME,
    "getattr": b"cbuiltins\ngetattr\n(" + IMPORTED + text("mkdir") + b"tR@\x85R.",
    "a partial": b"cfunctools\npartial\n" + MKDIR + b"@\x86R)R.",
    "a partial by new": b"\x80\x02cfunctools\npartial\n" + MKDIR + b"@\x86\x81)R.",
    "a partial with keywords": b"\x80\x04cfunctools\npartial\n"
    + MKDIR
    + b"\x85}"
    + text("path")
    + b"@s\x92)R.",
    "a partial by state": b"cfunctools\npartial\ncos\ngetcwd\n\x85R(" + MKDIR + b"@\x85}Ntb)R.",
    "a list of a map": b"cbuiltins\nlist\n" + MAPPED + b".",
    "a set of a map": b"cbuiltins\nset\n" + MAPPED + b".",
    "an item of another list": b"ccollections\ndeque\n)Rcbuiltins\nlist\n" + MAPPED + b"a.",
    "a method by name": b"coperator\nmethodcaller\n" + text("mkdir") + b"@\x86R" + IMPORTED + b"\x85R.",
    "within a dict": b"}" + text("a_0001") + b"}" + text("boxes") + MKDIR + b"@\x85Rss.",
    "before the end": MKDIR + b"@\x85R0N.",
    "as a member": b"\x80\x04\x8f(" + MKDIR + b"@\x85R\x90.",
    "another pickle": b"cpickle\nloads\nc_codecs\nencode\n#" + text("latin1") + b"\x86R\x85R.",
}


def live_pickle(body, path):
    within = text(f"(V{path}\nios\nmkdir\n.")
    return LIVE[body].replace(b"@", text(str(path))).replace(b"#", within)


@pytest.fixture
def extension():
    copyreg.add_extension("os", "mkdir", 0xF0)
    yield
    copyreg.remove_extension("os", "mkdir", 0xF0)


@pytest.mark.parametrize("names", [PLAIN, torch_names.NAMES], ids=["plain", "torch"])
@pytest.mark.parametrize("body", LIVE)
def test_live_pickles_run_nothing(tmp_path, extension, body, names):
    live, safe = tmp_path / "live", tmp_path / "safe"
    pickle.loads(live_pickle(body, live))
    assert live.is_dir(), "the pickle does nothing under Python's own unpickler either"
    with pytest.raises(InputError) as caught:
        pickles.read(live_pickle(body, safe), names)
    assert str(caught.value).isprintable()
    assert not safe.exists()


@pytest.fixture
def victim(monkeypatch):
    """A module whose name torch's table lets stand without effect."""
    module = types.ModuleType("models")
    exec(
        "def guard(path, allowed=()):\n    calls.append(path)\n    return path in allowed\ncalls = []",
        vars(module),
    )
    monkeypatch.setitem(sys.modules, "models", module)
    return module


def test_a_function_of_a_known_module_is_a_name(victim):
    data = b"cmodels\nguard\n" + text("x") + b"\x85R."
    pickle.loads(data)
    assert victim.calls == ["x"]
    value, _ = pickles.read(data, torch_names.NAMES)
    assert isinstance(value, pickles.Inert)
    assert victim.calls == ["x"]
    with pytest.raises(InputError, match=r"asks for models\.guard, expected plain data; nothing was run"):
        pickles.read(data, PLAIN)


def test_state_does_not_change_a_function(victim):
    data = b"\x80\x02cmodels\nguard\nN}" + text("__defaults__") + text("x") + b"\x85\x85s\x86b."
    pickle.loads(data)
    assert victim.guard.__defaults__ == (("x",),)
    victim.guard.__defaults__ = ((),)
    with pytest.raises(InputError, match="state for a value that has none"):
        pickles.read(data, torch_names.NAMES)
    assert victim.guard.__defaults__ == ((),)
    for (module, name), function in torch_names.NAMES.calls.items():
        before = getattr(function, "__defaults__", None)
        with pytest.raises(InputError):
            pickles.read(data.replace(b"models\nguard", f"{module}\n{name}".encode()), torch_names.NAMES)
        assert getattr(function, "__defaults__", None) == before
