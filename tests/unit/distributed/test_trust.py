"""Marks of the job's secret, and the secret itself: from the variable, or from the user's own file."""

import os
import threading

import pytest

from jaxdet.distributed.trust import FILE, Key, key
from jaxdet.errors import InputError

SECRET = b"0123456789abcdef"


@pytest.fixture
def environ(tmp_path):
    return {"XDG_CACHE_HOME": str(tmp_path)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jaxdet" / FILE


def _write(path, text="a" * 64, mode=0o600):
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(mode)


def test_marks_know_where_a_part_ends():
    own = Key(SECRET)
    assert own.mark(b"ab", b"c") != own.mark(b"a", b"bc")
    assert own.open("name", own.seal("name", b"data")) == b"data"
    assert SECRET.decode() not in repr(vars(type(own))) + repr(own)


def test_the_variable_is_the_secret_and_leaves_no_file(environ, path):
    assert key({**environ, "JAXDET_JOB_SECRET": SECRET.decode()}).mark(b"x") == Key(SECRET).mark(b"x")
    assert not path.parent.exists()


def test_a_short_secret_is_refused_and_not_repeated(environ):
    with pytest.raises(InputError, match="5 characters, expected at least 16") as caught:
        key({**environ, "JAXDET_JOB_SECRET": "guess"})
    assert "guess" not in str(caught.value)


def test_without_the_variable_the_user_has_one_key_in_a_file_closed_to_others(environ, path):
    mark = key(environ).mark(b"x")
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(path.read_text())) == 32
    assert os.listdir(path.parent) == [FILE]
    assert key({**environ, "JAXDET_JOB_SECRET": ""}).mark(b"x") == mark == Key(path.read_bytes()).mark(b"x")


def test_two_users_have_different_keys(environ, tmp_path):
    assert key(environ).mark(b"x") != key({"XDG_CACHE_HOME": str(tmp_path / "other")}).mark(b"x")


def test_processes_that_start_together_agree(environ, path):
    together, marks = threading.Barrier(8), []

    def start():
        together.wait()
        marks.append(key(environ).mark(b"x"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(marks) == 8
    assert len(set(marks)) == 1
    assert os.listdir(path.parent) == [FILE]


def test_a_process_that_comes_second_keeps_the_key_of_the_first(environ, path, monkeypatch):
    _write(path)
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # the file appears after the look
    assert key(environ).mark(b"x") == Key(b"a" * 64).mark(b"x")
    assert os.listdir(path.parent) == [FILE]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_key_that_others_can_read_or_change_is_refused(environ, path, mode):
    _write(path, mode=mode)
    with pytest.raises(InputError, match=f"has mode {mode:04o}, expected 0600") as caught:
        key(environ)
    assert "set JAXDET_JOB_SECRET" in str(caught.value)
    assert path.stat().st_mode & 0o777 == mode


def test_a_key_of_another_user_is_refused(environ, path, monkeypatch):
    _write(path)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(InputError, match=rf"belongs to another user \(id {owner}\)"):
        key(environ)


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "g" * 64])
def test_a_damaged_key_is_refused(environ, path, text):
    _write(path, text)
    with pytest.raises(InputError, match="does not hold 64 hexadecimal digits"):
        key(environ)
    assert path.read_text() == text


def test_a_link_is_not_followed(environ, path, tmp_path):
    path.parent.mkdir()
    (tmp_path / "elsewhere").write_text("a" * 64)
    (tmp_path / "elsewhere").chmod(0o600)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="cannot be made or read"):
        key(environ)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_not_a_file_is_refused_at_once(environ, path, make):
    path.parent.mkdir()
    make(path, 0o600)
    with pytest.raises(InputError, match=r"does not hold|cannot be made or read"):
        key(environ)


def test_a_folder_that_cannot_be_written_is_told_in_a_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be made or read .*; set JAXDET_JOB_SECRET alike") as caught:
        key({"XDG_CACHE_HOME": str(tmp_path / "file")})
    assert "\n" not in str(caught.value)
