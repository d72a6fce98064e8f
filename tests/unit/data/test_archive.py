import lzma

import numpy as np
import py7zr
import pytest

from jaxdet.data import archive
from jaxdet.errors import InputError

TOOLS = [None, *([archive.program()] if archive.program() else [])]
FILES = {
    f"train/{name}": np.random.default_rng(i).bytes(20_000 + i)
    for i, name in enumerate(["b.dat", "a b.npy", "ü.dat"])
}


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "train_a.7z"
    with py7zr.SevenZipFile(path, "w") as handle:
        for name, content in FILES.items():
            handle.writestr(content, name)
    return path


@pytest.fixture(params=TOOLS, ids=["py7zr", "7z"][: len(TOOLS)])
def tool(request, monkeypatch):
    if request.param is None:
        monkeypatch.setattr(archive, "program", lambda: None)
    return request.param


def test_files_arrive_whole_and_only_those_wanted(tmp_path, packed, tool):
    members = archive.members(packed)
    assert {m.name: m.size for m in members} == {name: len(content) for name, content in FILES.items()}
    wanted = [m for m in members if m.name != "train/b.dat"]
    found = {m.name: path.read_bytes() for m, path in archive.extract(packed, tmp_path / "out", wanted, tool)}
    assert found == {name: FILES[name] for name in FILES if name != "train/b.dat"}


def test_a_damaged_file_is_named_and_the_others_are_good(tmp_path, packed, tool):
    data = bytearray(packed.read_bytes())
    # Noise does not compress, so its last bytes lie as they are before the archive's directory.
    at = data.find(FILES["train/ü.dat"][-64:])
    assert at > 0
    data[at + 5] ^= 0xFF
    packed.write_bytes(data)
    files = archive.extract(packed, tmp_path / "out", archive.members(packed), tool)
    found = {}
    with pytest.raises(InputError, match=r"could not be extracted, the first is train/ü.dat") as error:
        found.update((member.name, path.read_bytes()) for member, path in files)
    assert all(content == FILES[name] for name, content in found.items())
    assert "\n" not in str(error.value)
    assert "train/ü.dat" not in found


@pytest.mark.parametrize("keep", [0, 10, 100, -1, -40])
def test_a_truncated_archive_is_one_clear_line(packed, keep):
    packed.write_bytes(packed.read_bytes()[:keep])
    with pytest.raises(InputError, match="expected a complete 7z archive"):
        archive.members(packed)


def test_another_kind_of_archive(tmp_path):
    (tmp_path / "a.7z").write_bytes(lzma.compress(b"hello"))
    with pytest.raises(InputError, match="expected a complete 7z archive"):
        archive.members(tmp_path / "a.7z")


@pytest.mark.parametrize(
    "name", ["../a", "/a", "b/../../a", "b/a\nc", "b\\..\\..\\a", "b/\x1b[2Ja", "b/\ud800a"]
)
def test_members_whose_names_leave_the_folder_or_are_not_plain_are_not_extracted(tmp_path, packed, name):
    wanted = [archive.members(packed)[0], archive.Member(name, 1, 0)]
    with pytest.raises(InputError, match="member") as error:
        list(archive.extract(packed, tmp_path / "out", wanted))
    assert str(error.value).isprintable()
    assert not (tmp_path / "out").exists()
