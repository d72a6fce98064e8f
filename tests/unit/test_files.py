"""Names that become file names, and files that are whole or absent."""

import errno
import os
import secrets
import socket

import pytest

from jaxdet import files
from jaxdet.errors import InputError
from jaxdet.evaluation import labels
from jaxdet.files import MAX_NAME_BYTES, atomic, finished, put_link, safe_name

BAD_NAMES = [
    "",
    ".",
    "..",
    "a/b",
    "/",
    "../x",
    "a\\b",
    "a\nb",
    "\x1b[2J",
    "a\0b",
    "\x7f",
    "\u2028",
    "\udc80",
    7,
    None,
]


@pytest.mark.parametrize("name", [*BAD_NAMES, "x" * (MAX_NAME_BYTES + 1), "ü" * (MAX_NAME_BYTES // 2 + 1)])
def test_what_is_no_plain_name_is_one_printable_line(name):
    with pytest.raises(InputError, match="name of a clip") as error:
        safe_name(name, "name of a clip")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    "name", ["r0", "17-04-13_15-05-43_122500000", "a b", "ü.dat", "...", ".a", "名", "x" * MAX_NAME_BYTES]
)
def test_plain_names_stay_as_they_are(name):
    assert safe_name(name, "name") == name


def test_a_link_under_the_name_of_a_temporary_file_is_not_written_through(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    folder = tmp_path / "out"
    folder.mkdir()
    # The name that followed from host and process, and the one that the next call would draw.
    guessed = folder / f".a.{socket.gethostname()}.{os.getpid()}.partial.txt"
    guessed.symlink_to(precious)
    with atomic(folder / "a.txt") as temporary:
        temporary.write_text("new")
    assert (folder / "a.txt").read_text() == "new"
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0" * 16)
    drawn = folder / f".a.{'0' * 16}.partial.txt"
    drawn.symlink_to(precious)
    with pytest.raises(FileExistsError), atomic(folder / "a.txt") as temporary:
        temporary.write_text("newer")
    with pytest.raises(FileExistsError):
        put_link(folder / "a.txt", folder / "a.txt", hard=True)
    assert precious.read_text() == "keep me"
    assert guessed.is_symlink()
    assert drawn.is_symlink()
    assert (folder / "a.txt").read_text() == "new"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def fail():
        with atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    with atomic(tmp_path / "a") as temporary:
        temporary.write_text("x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("hard", [True, False])
def test_a_link_replaces_what_is_there_also_when_it_is_the_same_file(tmp_path, hard):
    source, target = tmp_path / "source", tmp_path / "sub" / "target"
    source.write_text("x")
    for _ in range(2):
        put_link(source, target, hard)
        assert target.samefile(source)
        assert target.is_symlink() != hard
        assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_what_a_killed_writer_left_is_not_listed_and_hidden_files_of_others_are(tmp_path):
    (tmp_path / "clip").mkdir()
    whole = tmp_path / "clip" / "a.jpg"
    with atomic(whole) as temporary:
        left = temporary.name
        (tmp_path / "clip" / ".own.jpg").touch()
        assert finished(tmp_path.rglob("*.jpg"), tmp_path) == [tmp_path / "clip" / ".own.jpg"]
    assert (tmp_path / "clip" / left).exists() is False
    (tmp_path / ".clip.partial").mkdir()
    (tmp_path / ".clip.partial" / "image_0000.jpg").touch()
    assert finished(tmp_path.rglob("*.jpg"), tmp_path) == [tmp_path / "clip" / ".own.jpg", whole]
    # A folder above the root may have any name.
    inner = tmp_path / ".clip.partial"
    assert finished(inner.glob("*.jpg"), inner) == [inner / "image_0000.jpg"]


def test_labels_of_a_folder_are_those_of_finished_files(tmp_path):
    (tmp_path / ".r_bbox.0123456789abcdef.partial.npy").write_bytes(b"half")
    with pytest.raises(InputError, match=r"no \.npy label files"):
        labels.of_files(tmp_path)


def test_a_full_disk_is_said_with_the_name_of_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, atomic(tmp_path / "a.npy"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "a.npy")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("found", [0, -1, True, 1.0, "1", None, [1], "x" * 1000])
def test_a_version_that_is_no_number_of_one_is_refused(found):
    with pytest.raises(InputError, match=r"a.json: format_version .{1,50}, expected a whole number"):
        files.check_version({files.VERSION_KEY: found}, "a.json")


def test_older_versions_are_read_and_newer_ones_refused():
    files.check_version({}, "a.json")
    files.check_version(files.stamped({}, 2), "a.json", known=2)
    with pytest.raises(InputError, match=r"a.json: format_version 3, up to 2 is known; update jaxdet"):
        files.check_version(files.stamped({}, 3), "a.json", known=2)
