"""Programs are compiled here for the CPU in the place of a GPU; what a GPU adds is in `test_kernels.py`."""

import jax
import numpy as np
import pytest

from jaxdet import benchmark, config, train
from jaxdet.benchmarks import ahead, kernels, targets, timing
from jaxdet.errors import InputError
from jaxdet.models import from_config
from jaxdet.training import setup as runs


@pytest.mark.parametrize(
    ("command", "arguments", "line"),
    [
        (benchmark, ["--target=h100"], "error: --target compiles the programs of a config; give --config"),
        (
            benchmark,
            ["--config=synthetic_b3", "--target=h300"],
            "error: --target=h300: expected one of v100,",
        ),
        (
            benchmark,
            ["--config=synthetic_b3", "--target=h100", "--programs=steps"],
            "error: --programs=steps:",
        ),
        (train, ["--target=h100"], "error: --target=h100 plans a run for a GPU; add --dry_run"),
    ],
)
def test_a_wrong_flag_is_one_line(command, arguments, line, capsys):
    assert command.main(arguments) == 1
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.slow
def test_the_plan_of_a_training_step_counts_what_the_devices_hold():
    cfg = config.synthetic()
    cfg.model.update(widths=(16,), out_features=16, event_features=4)
    cfg.model.num_heads, cfg.data.batch_size = (1,), 4
    cluster = ahead.Cluster(targets.find("a100"), jax.devices()[:2], 1)
    batch = timing.segment_batch(from_config.geometry(cfg), 4, 2, 20)
    with pytest.raises(InputError, match=r"^batches of 4 cannot be divided among 3 devices"):
        cluster._replace(devices=jax.devices()[:3]).mesh(4)
    row = ahead.trained(cfg, cluster, batch)
    run = runs.assemble(cfg, cluster.mesh(4))
    held = sum(a.addressable_shards[0].data.nbytes for a in jax.tree.leaves(run.state))
    inputs = sum(np.asarray(a).nbytes for a in jax.tree.leaves((batch, run.carry))) / 2
    assert row["kept_mib"] == round(held / 2**20, 1)
    assert row["arguments_mib"] == pytest.approx((held + inputs) / 2**20, rel=0.05, abs=0.1)
    assert row["parameters"] == run.num_parameters
    assert row["lanes_a_device"] == 2
    assert row["lanes_that_fit"] > 2
    summed = row["collectives"]["all-reduce"]["bytes"]
    assert summed >= 4 * run.num_parameters  # gradients, and beside them sums of BatchNorm and of the loss
    assert row["estimated_ms"] >= 1e3 * row["launches"] * kernels.LAUNCH_S * 0.99
