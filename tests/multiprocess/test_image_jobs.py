"""Commands on images, from `prepare` to `evaluate`, compute on two processes what they do on one."""

import cluster_jobs as jobs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet import class_names, config, prepare
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.training import setup as runs
from jaxdet.weights import checkpoint

CONFIG = f"{jobs.ROOT / 'configs' / 'synthetic_ltd.py'}:yolox"
STEPS = 20
TINY = (
    "--config.model.width=0.125",
    "--config.model.dtype=float64",
    "--config.data.size=64",
    "--config.data.batch_size=4",
    "--config.data.cache=0",
    "--config.data.train_split=Day/all.txt",
    "--config.data.recipe=scratch",
    "--config.data.plain_from=16",  # mosaics first, single images at the end
    # At the full rate so small a model is chaotic: rounding grows thirtyfold an update.
    "--config.optim.lr=1e-5",
    "--config.train.epochs=0",
    f"--config.train.num_iterations={STEPS}",
    "--config.train.iterations_per_epoch=5",
    "--config.train.log_every=1",
    f"--config.train.checkpoint_every={STEPS}",
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A simulated clip as `prepare ltd` leaves it."""
    root = tmp_path_factory.mktemp("clip")
    source = f"{root}/source"
    counts = ("--day=1", "--month=0", "--test=0", "--frames=14", "--workers=1")
    assert prepare.main(["synthetic-ltd", f"--out={source}", *counts]) == 0
    assert prepare.main(["ltd", f"--source={source}", f"--out={root}/ltd"]) == 0
    return root / "ltd"


def _weights(folder):
    """Fresh weights that report boxes everywhere, so that an evaluation has something to count."""
    cfg = config.base()
    cfg.model = config.yolox("nano", len(class_names.LTD), width=0.125)
    cfg.data = config.yolox_images(64, class_names.LTD, batch_size=4)
    variables = functional.split(from_config.build(cfg, 0))[1]
    for level in variables.params["head"]["levels"].values():
        for name in ("obj_pred", "cls_pred"):
            level[name]["bias"] = jnp.zeros_like(level[name]["bias"])
    checkpoint.save_weights(folder, variables, runs.as_json(cfg))


@pytest.mark.slow
def test_yolox_trains_alike_on_any_processes_and_devices(clip, tmp_path):
    runs_on = {"1x1": (1, 1), "1x4": (1, 4), "2x2": (2, 2)}  # processes, devices of each
    for name, (processes, devices) in runs_on.items():
        flags = jobs.train_flags(clip, tmp_path / name, *TINY, config=CONFIG)
        jobs.run(jobs.launched(processes, *flags), jobs.environment(devices))
    one = jobs.losses(tmp_path / "1x1")
    assert sorted(one) == list(range(1, STEPS + 1))
    assert np.ptp(list(one.values())) > 1e-2
    weights = checkpoint.load_run(tmp_path / "1x1", STEPS)[0]
    for name in ("1x4", "2x2"):
        found = jobs.losses(tmp_path / name)
        np.testing.assert_allclose([found[s] for s in one], list(one.values()), rtol=1e-6)
        others = checkpoint.load_run(tmp_path / name, STEPS)[0]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9), others, weights)


@pytest.mark.slow
def test_images_evaluated_over_two_processes_count_as_in_one(clip, tmp_path):
    _weights(tmp_path / "weights")
    flags = [f"--weights={tmp_path / 'weights'}", f"--config={CONFIG}", f"--config.data.root={clip}"]
    flags += ["--config.model.width=0.125", "--config.data.size=64", "--config.data.batch_size=4"]
    jobs.assert_evaluated_alike(tmp_path, *flags, "--split=Day/all.txt")
