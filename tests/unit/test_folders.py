"""What may be removed, and folders that are replaced whole."""

import errno
import os

import pytest

from jaxdet import folders
from jaxdet.errors import InputError

KIND = "recording"


def make(folder, text="old"):
    folders.begin(folder, KIND)
    (folder / "sub").mkdir()
    (folder / "sub" / "data").write_text(text)
    folders.finish(folder, KIND)
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_of_ours_is_removed_and_an_absent_one_is_no_error(tmp_path):
    folders.remove_own(make(tmp_path / "a"), KIND)
    folders.remove_own(tmp_path / "a", KIND)
    folders.remove_own(folders.begin(tmp_path / "a", KIND), KIND)
    assert not any(tmp_path.iterdir())


def no_marker(folder):
    (folder / folders.MARKER).unlink()


def other_marker(folder):
    (folder / folders.MARKER).write_text('{"jaxdet": "weights", "format": 1, "entries": ["sub", "sub/data"]}')


def broken_marker(folder):
    (folder / folders.MARKER).write_text('{"jaxdet": "recording", "entries"')


def marker_of_others(folder):
    (folder / folders.MARKER).write_text('["jaxdet", "entries"]')


def linked_marker(folder):
    (folder / folders.MARKER).rename(folder.parent / "marker")
    (folder / folders.MARKER).symlink_to(folder.parent / "marker")


def file_of_the_user(folder):
    (folder / "thesis.tex").write_text("mine")


def deep_file_of_the_user(folder):
    (folder / "sub" / "thesis.tex").write_text("mine")


def link_of_the_user(folder):
    (folder / "sub" / "link").symlink_to(folder.parent)


@pytest.mark.parametrize(
    "change",
    [
        no_marker,
        other_marker,
        broken_marker,
        marker_of_others,
        linked_marker,
        file_of_the_user,
        deep_file_of_the_user,
        link_of_the_user,
    ],
)
def test_nothing_else_is_removed_or_replaced(tmp_path, change):
    folder, new = make(tmp_path / "a"), make(tmp_path / "new", "new")
    change(folder)
    before = contents(tmp_path)
    for call in (folders.remove_own, folders.discard, lambda *args: folders.replace_own(new, *args)):
        with pytest.raises(InputError, match="made here") as error:
            call(folder, KIND)
        assert str(error.value).isprintable()
    assert contents(tmp_path) == before


def test_a_link_to_a_folder_of_ours_is_not_followed(tmp_path):
    target = make(tmp_path / "target")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "file").write_text("x")
    for name, found in (("link", "symbolic link"), ("file", "a file")):
        with pytest.raises(InputError, match=found):
            folders.remove_own(tmp_path / name, KIND)
    assert (tmp_path / "file").exists()
    # Nor is one that lies in a folder of ours.
    scratch = folders.begin(tmp_path / "scratch", KIND)
    (scratch / "link").symlink_to(target)
    folders.remove_own(scratch, KIND)
    assert contents(target)["sub/data"] == "old"


def test_begin_takes_no_folder_with_content(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        folders.begin(tmp_path, KIND)


def test_single_files_are_removed_from_an_unfinished_folder_only(tmp_path):
    scratch = folders.begin(tmp_path / "scratch", KIND)
    (scratch / "a").write_text("x")
    (scratch / "out").symlink_to(tmp_path)
    (tmp_path / "mine").write_text("mine")
    folders.remove_inside(scratch, KIND, scratch / "a")
    folders.remove_inside(scratch, KIND, scratch / "a")
    assert not (scratch / "a").exists()
    for path in (
        scratch / ".." / "mine",
        scratch / "out" / "mine",
        tmp_path / "mine",
        scratch / "..",
        scratch,
    ):
        with pytest.raises(InputError, match="left alone"):
            folders.remove_inside(scratch, KIND, path)
    assert (tmp_path / "mine").exists()
    done = make(tmp_path / "done")
    with pytest.raises(InputError, match="was not made here"):
        folders.remove_inside(done, KIND, done / "sub")


def test_folders_of_an_earlier_version_are_told_by_the_caller(tmp_path):
    folder, new = make(tmp_path / "a"), make(tmp_path / "new", "new")
    no_marker(folder)
    asked = []
    folders.replace_own(new, folder, KIND, lambda path: not asked.append(path))
    assert asked == [folder]
    assert contents(folder)["sub/data"] == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours handles it."""


STEPS = ("_mark", "_exchange", "_remove")


def killed_at(monkeypatch, number, steps):
    """Let the process die before the `number`-th step that changes the disk."""
    left = [number]

    def watched(function):
        def call(*arguments, **named):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return function(*arguments, **named)

        return call

    for owner, name in steps:
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    return left


@pytest.mark.parametrize("swaps", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("marked", [True, False])
def test_killed_at_any_step_the_old_or_the_new_is_whole_and_the_next_call_clears_up(
    tmp_path, monkeypatch, swaps, marked
):
    def cannot(*_):
        raise OSError(errno.EINVAL, "no exchange here")

    for number in range(20):
        place = tmp_path / str(number)
        folder, new = make(place / "a"), make(place / "new", "new")
        if not marked:
            no_marker(folder)
        with monkeypatch.context() as patch:
            if not swaps:
                patch.setattr(folders, "_exchange", cannot)
            owners = [(folders, name) for name in STEPS] + [(os, "rename"), (os, "replace")]
            left = killed_at(patch, number, owners)
            try:
                folders.replace_own(new, folder, KIND, lambda _: True)
                finished = left[0] > 0
            except Killed:
                finished = False
        texts = [path.read_text() for path in place.glob("**/sub/data")]
        assert "old" in texts or "new" in texts
        if swaps or finished:
            assert (folder / "sub" / "data").read_text() in ("old", "new")
        # The next run makes its folder anew, after it has removed what the killed one left.
        folders.remove_own(new, KIND, lambda _: True)
        folders.replace_own(make(new, "newer"), folder, KIND, lambda _: True)
        assert (folder / "sub" / "data").read_text() == "newer"
        assert [path.name for path in place.iterdir()] == ["a"]
        if finished:
            return
    pytest.fail("never came to an end")
