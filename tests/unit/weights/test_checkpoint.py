import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.training import optim, state
from jaxdet.training.checkpoint import RunCheckpoints
from jaxdet.weights import checkpoint

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
    with pytest.raises(InputError, match="holds no weights"):
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
