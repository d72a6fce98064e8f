import errno
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.training import optim, state
from jaxdet.training.checkpoint import RunCheckpoints

# Orbax leaves futures behind whose errors nobody asks for.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _example(width=3, ema=False):
    params = {"layer": {"kernel": jnp.arange(2.0 * width).reshape(2, width), "bias": jnp.ones(width)}}
    variables = Variables(params, {"norm": {"mean": jnp.full(width, 0.5)}})
    return state.create(variables, optim.adamw(optim.constant(0.1), 0.01), ema), {
        "latent": jnp.ones((4, width))
    }


def _equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("ema", [False, True])
def test_restored_state_and_carry_equal_the_saved(tmp_path, ema):
    saved, carry = _example(ema=ema)
    saved = saved._replace(step=jnp.asarray(7, jnp.int32))
    RunCheckpoints(tmp_path, {"seed": 1}).save(7, saved, carry)
    fresh = jax.tree.map(jnp.zeros_like, (saved, carry))
    again = RunCheckpoints(tmp_path, {"seed": 1})
    assert again.latest() == 7
    _equal(again.restore(*fresh), (saved, carry))


def test_checkpoint_of_another_model_is_one_line(tmp_path):
    RunCheckpoints(tmp_path, {}).save(1, *_example())
    with pytest.raises(InputError, match="another model"):
        RunCheckpoints(tmp_path, {}).restore(*_example(width=5))


def test_full_disk_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    checkpoints = RunCheckpoints(tmp_path, {})
    saved, carry = _example()
    checkpoints.save(1, saved, carry)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.manager, "save", full)
    with pytest.raises(InputError, match="last good one is step 1"):
        checkpoints.save(2, saved, carry)
    _equal(RunCheckpoints(tmp_path, {}).restore(saved, carry), (saved, carry))


def test_a_write_that_fails_half_way_is_one_line_and_leaves_the_last_good_checkpoint(tmp_path):
    """As on a full disk, files end early; Orbax writes from threads of its own."""
    checkpoints = RunCheckpoints(tmp_path, {})
    saved, carry = _example(width=100_000)
    checkpoints.save(1, saved, carry)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(InputError, match="last good one is step 1") as error:
            checkpoints.save(2, saved, carry)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    checkpoints.close()
    again = RunCheckpoints(tmp_path, {})
    assert again.latest() == 1
    _equal(again.restore(saved, carry), (saved, carry))


def test_only_the_newest_and_every_kept_one_stay(tmp_path):
    checkpoints = RunCheckpoints(tmp_path, {}, keep=2, keep_every=4)
    for step in range(1, 8):
        checkpoints.save(step, *_example())
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").glob("[!.]*")) == [4, 6, 7]


def test_a_checkpoint_of_another_shape_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    """Reads that Orbax breaks off go on behind the message, with a traceback each."""
    RunCheckpoints(tmp_path, {}).save(1, *_example())
    other = RunCheckpoints(tmp_path, {})
    monkeypatch.setattr(other.manager, "restore", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(InputError, match=r"first batch_stats.norm.mean, \(3,\) there and \(5,\) here"):
        other.restore(*_example(width=5))
    with pytest.raises(InputError, match="another model"):
        other.restore(*_example(ema=True))


@pytest.mark.parametrize("content", [b"", b"{", b"damaged"])
def test_a_damaged_checkpoint_is_one_line(tmp_path, content):
    RunCheckpoints(tmp_path, {}).save(1, *_example())
    for name in ("_METADATA", "manifest.ocdbt"):
        path = tmp_path / "checkpoints" / "1" / "state" / name
        whole = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(InputError, match="checkpoint 1 is damaged"):
            RunCheckpoints(tmp_path, {}).restore(*_example())
        path.write_bytes(whole)
