import contextlib
import errno
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet import folders
from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.training import optim, state
from jaxdet.training.checkpoint import RunCheckpoints
from jaxdet.weights import checkpoint, families, load

PARAMS = {"stem": {"0": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": np.ones(3, np.float32)}}}
STATS = {"stem": {"norm": {"mean": np.zeros(3, np.float32), "num_batches_tracked": np.array(7, np.int32)}}}


@pytest.mark.parametrize("stats", [STATS, {}])
def test_weights_come_back_with_their_types_and_config(tmp_path, stats):
    config = {"model": {"size": "b3", "num_classes": 2}, "names": ["car"]}
    checkpoint.save_weights(tmp_path / "w", Variables(PARAMS, stats), config)
    variables, read = checkpoint.load_weights(tmp_path / "w")
    assert read == config
    assert variables.batch_stats.keys() == stats.keys()
    kernel = variables.params["stem"]["0"]["kernel"]
    assert isinstance(kernel, np.ndarray)
    np.testing.assert_array_equal(kernel, PARAMS["stem"]["0"]["kernel"])
    if stats:
        tracked = variables.batch_stats["stem"]["norm"]["num_batches_tracked"]
        assert tracked.dtype == np.int32
        assert tracked.shape == ()
        assert tracked == 7


def test_weights_replace_weights_and_nothing_else(tmp_path):
    folder = tmp_path / "w"
    checkpoint.save_weights(folder, Variables(PARAMS, {}), {"epoch": 1})
    checkpoint.save_weights(folder, Variables(PARAMS, {}), {"epoch": 2})
    assert checkpoint.load_weights(folder)[1] == {"epoch": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["w"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(InputError, match="was not made here as weights"):
        checkpoint.save_weights(tmp_path / "other", Variables(PARAMS, {}), {})
    assert (tmp_path / "other" / "thesis.tex").exists()


def test_a_failed_save_leaves_the_old_weights(tmp_path):
    checkpoint.save_weights(tmp_path / "w", Variables(PARAMS, {}), {"epoch": 1})
    with pytest.raises(TypeError):
        checkpoint.save_weights(tmp_path / "w", Variables(PARAMS, {}), {"epoch": object()})
    assert checkpoint.load_weights(tmp_path / "w")[1] == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_what_holds_no_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no weights"):
        checkpoint.load_weights(tmp_path / "none")
    folder = tmp_path / "w"
    checkpoint.save_weights(folder, Variables(PARAMS, STATS), {})
    (folder / "weights" / "_METADATA").write_text("{")
    with pytest.raises(InputError, match="damaged weights"):
        checkpoint.load_weights(folder)


@pytest.mark.parametrize("averaged", [False, True])
def test_weights_of_a_run_are_those_of_its_newest_checkpoint(tmp_path, averaged):
    optimizer = optim.adamw(optim.constant(0.1), 0.01)
    run = RunCheckpoints(tmp_path, {"epoch": 1})
    for step, value in ((3, 1.0), (20, 2.0)):
        params = jax.tree.map(lambda a, v=value: jnp.full_like(a, v), PARAMS)
        start = state.create(Variables(params, STATS), optimizer, ema=averaged)
        if averaged:
            start = start._replace(ema=jax.tree.map(lambda a: a + 5, start.ema))
        run.save(step, start, ())
    run.close()
    newest, config = checkpoint.load_run(tmp_path)
    assert config == {"epoch": 1}
    assert (newest.params["stem"]["0"]["bias"] == (7 if averaged else 2)).all()
    assert newest.batch_stats["stem"]["norm"]["num_batches_tracked"] == (12 if averaged else 7)
    third, _ = checkpoint.load_run(tmp_path, 3)
    assert (third.params["stem"]["0"]["bias"] == (6 if averaged else 1)).all()
    with pytest.raises(InputError, match=r"checkpoints \[3, 20\], expected 4"):
        checkpoint.load_run(tmp_path, 4)
    with pytest.raises(InputError, match="no checkpoints"):
        checkpoint.load_run(tmp_path / "elsewhere")


def _value(folder):
    return int(checkpoint.load_weights(folder)[1]["epoch"])


def _unmarked(folder):
    """As version 0.1.0 left it."""
    (folder / folders.MARKER).unlink()


def test_a_folder_that_only_looks_like_weights_is_not_replaced(tmp_path):
    theirs = tmp_path / "theirs"
    for part in ("weights", "config"):
        (theirs / part).mkdir(parents=True)
        (theirs / part / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="was not made here as weights"):
        checkpoint.save_weights(theirs, Variables(PARAMS, {}), {})
    assert len(list(theirs.rglob("thesis.tex"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("part", ["", "weights", "config"])
def test_weights_with_a_file_of_the_user_inside_are_not_replaced(tmp_path, marked, part):
    folder = tmp_path / "w"
    checkpoint.save_weights(folder, Variables(PARAMS, {}), {"epoch": 1})
    if not marked:
        _unmarked(folder)
    (folder / part / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="made here"):
        checkpoint.save_weights(folder, Variables(PARAMS, {}), {"epoch": 2})
    assert (folder / part / "notes.txt").read_text() == "mine"
    assert _value(folder) == 1


def test_weights_of_version_0_1_0_are_read_and_replaced(tmp_path):
    folder = tmp_path / "w"
    checkpoint.save_weights(folder, Variables(PARAMS, STATS), {"epoch": 1})
    _unmarked(folder)
    assert _value(folder) == 1
    checkpoint.save_weights(folder, Variables(PARAMS, STATS), {"epoch": 2})
    assert _value(folder) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


class _Killed(BaseException):
    """Stands for SIGKILL."""


_STEPS = [(folders, name) for name in ("_mark", "_exchange", "_remove")] + [(os, "rename"), (os, "replace")]


@pytest.mark.parametrize("swaps", [True, False], ids=["exchange", "two renames"])
def test_killed_at_any_step_old_or_new_weights_are_whole_and_the_next_save_clears_up(
    tmp_path, monkeypatch, swaps
):
    def cannot(*_):
        raise OSError(errno.EINVAL, "no exchange here")

    def watched(function):
        def call(*arguments, **named):
            left[0] -= 1
            if left[0] < 0:
                raise _Killed
            return function(*arguments, **named)

        return call

    folder, old = tmp_path / "w", 1
    checkpoint.save_weights(folder, Variables(PARAMS, {}), {"epoch": old})
    for number in range(100):
        left, new, newer = [number], old + 1, old + 2
        with monkeypatch.context() as patch:
            patch.setattr(folders, "discard", lambda *_: None)  # nothing runs after SIGKILL
            if not swaps:
                patch.setattr(folders, "_exchange", cannot)
            for owner, name in _STEPS:
                patch.setattr(owner, name, watched(getattr(owner, name)))
            with contextlib.suppress(_Killed, InputError):
                checkpoint.save_weights(folder, Variables(PARAMS, {}), {"epoch": new})
            finished = left[0] > 0
        if folder.exists():
            assert _value(folder) in (old, new)
        else:
            assert not swaps
            assert _value(folders.aside(folder)) == old
            with pytest.raises(InputError, match=r"left the older weights in .*\.w\.old, rename it"):
                load.load(folder, families.YOLOX, Variables({}, {}))
        checkpoint.save_weights(folder, Variables(PARAMS, {}), {"epoch": newer})
        assert _value(folder) == newer
        assert [path.name for path in tmp_path.iterdir()] == ["w"]
        old = newer
        if finished:
            return
    pytest.fail("never came to an end")


def test_leftovers_of_a_killed_process_go_and_those_of_a_living_one_stay(tmp_path):
    over = subprocess.Popen([sys.executable, "-c", ""])
    over.wait()
    leftover, working = (
        folders.begin(tmp_path / f".w.{socket.gethostname()}.{process}.partial", "weights")
        for process in (over.pid, os.getppid())
    )
    theirs = tmp_path / f".w.{socket.gethostname()}.{over.pid + 1}.partial"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("mine")
    (leftover / "new.orbax-checkpoint-tmp").mkdir()
    checkpoint.save_weights(tmp_path / "w", Variables(PARAMS, {}), {})
    assert not leftover.exists()
    assert working.exists()
    assert (theirs / "thesis.tex").exists()
