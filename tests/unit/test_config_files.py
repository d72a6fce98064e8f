"""Configs by name from any folder, and the types of `--config.key=value`."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdet import config, config_files
from jaxdet.errors import InputError


@pytest.mark.parametrize("text", ["gen1_hmnet:b3,short", "configs/gen1_hmnet.py:b3,short"])
def test_a_published_config_is_found_from_any_folder(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    assert config_files.load(text).model.widths == config.HMNET_SIZES["b3"]["widths"]


def test_a_file_of_the_working_folder_comes_before_a_published_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    own = "from jaxdet import config as c\n\ndef get_config():\n    return c.block(own=1)\n"
    (tmp_path / "configs" / "gen1_hmnet.py").write_text(own)
    assert dict(config_files.load("configs/gen1_hmnet.py")) == {"own": 1}


def test_an_unknown_name_lists_the_published_ones():
    with pytest.raises(InputError, match=r"--config=gen1: no such file.*gen1_hmnet"):
        config_files.load("gen1:b3")


def _example():
    return config.block(
        whole=3, real=0.5, flag=True, text="a", pair=(1, 2), nothing=None, inner=config.block(deep=1)
    ).lock()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("whole", "-7", -7),
        ("real", "1e-3", 0.001),
        ("real", "2", 2.0),
        ("flag", "false", False),
        ("text", "3", "3"),
        ("pair", "(512,640,768)", (512, 640, 768)),
        ("pair", "5", (5,)),
        ("nothing", "rest", "rest"),
        ("nothing", "4", 4),
        ("inner.deep", "2", 2),
    ],
)
def test_a_value_takes_the_type_of_the_one_it_replaces(key, text, value):
    found = config_files.override(_example(), [(key, text)])
    for name in key.split("."):
        found = found[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("whole", "1.5", "a whole number, such as 3"),
        ("flag", "maybe", "true or false"),
        ("pair", "[1", "a list"),
        ("inner", "1", "a block of 1 keys, expected one of deep after it"),
        ("inner.dep", "1", "did you mean 'deep'"),
        ("whole.deeper", "1", "no key 'deeper'"),
    ],
)
def test_a_wrong_value_or_key_is_refused(key, text, said):
    with pytest.raises(InputError, match=said):
        config_files.override(_example(), [(key, text)])


@given(st.text(max_size=40), st.sampled_from(["whole", "real", "flag", "pair", "nothing"]))
def test_any_text_is_a_value_or_an_input_error(text, key):
    with contextlib.suppress(InputError):
        config_files.override(_example(), [(key, text)])
