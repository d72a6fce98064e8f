"""HMNet models with the golden weight recipe, and golden events as the structures of jaxdet."""

import re

import golden_data as gd
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdet import models
from jaxdet.nn import functional
from jaxdet.structs import Events

SIZES = {
    "B1": {"widths": (128,), "num_heads": (4,), "depths": (1,), "periods": (1,)},
    "L1": {"widths": (256,), "num_heads": (8,), "depths": (1,), "periods": (1,)},
    "B3": {"widths": (128, 256, 256), "num_heads": (4, 8, 8), "depths": (1, 3, 9), "periods": (1, 3, 9)},
    "L3": {"widths": (256, 256, 256), "num_heads": (8, 8, 8), "depths": (1, 3, 9), "periods": (1, 3, 9)},
}


def path_of(key: str) -> tuple[bool, str]:
    """(is a statistic, path) of a torch key."""
    key = key.replace("bbox_head.", "head.").replace(".bn.", ".norm.")
    for old, new in ((".running_mean", ".mean"), (".running_var", ".var")):
        if key.endswith(old):
            return True, key.removesuffix(old) + new
    return key.endswith("num_batches_tracked"), key


def leaf_of(key: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """Our path and layout of a torch entry."""
    _, path = path_of(key)
    if path.endswith(".weight"):
        path = re.sub("weight$", "scale" if value.ndim == 1 else "kernel", path)
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif value.ndim == 2:
            value = value.T
    return path, value


def flat(tree) -> dict:
    """{dotted path: leaf}."""
    return {
        ".".join(str(k.key) for k in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def variables(size: str, template: functional.Variables) -> functional.Variables:
    """Recipe weights in the tree of `template`; every leaf is filled once."""
    entries = dict(leaf_of(k, v) for k, v in gd.hmnet_weights(size).items())

    def fill(tree):
        out = {}
        for key, leaf in flat(tree).items():
            value = entries.pop(key)
            assert value.shape == leaf.shape, (key, value.shape, leaf.shape)
            node = out
            *parents, last = key.split(".")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = jnp.asarray(value, leaf.dtype)
        return out

    filled = functional.Variables(*(fill(tree) for tree in template))
    assert not entries, sorted(entries)
    return filled


def build(size: str, **kwargs):
    """(skeleton, variables) of a model with recipe weights."""
    skeleton, template = functional.abstract(
        lambda: models.build("hmnet", rngs=nnx.Rngs(0), **SIZES[size], **kwargs)
    )
    return skeleton, variables(size, template)


def model(size: str, **kwargs):
    return functional.merge(*build(size, **kwargs))


def pack(lanes: list[list[np.ndarray]], size: int | None = None) -> Events:
    """Events [n, 4] (t since the step began, x, y, p 0/1) per lane and step, sorted by window, as
    `Events`."""
    flat, starts = [], []
    for steps in lanes:
        rows = []
        for step in steps:
            cell = np.trunc(step[:, 2] / 4) * 10_000 + np.trunc(step[:, 1] / 4)
            rows.append(step[np.argsort(cell, kind="stable")])
        flat.append(np.concatenate(rows))
        starts.append(np.cumsum([0, *(len(r) for r in rows)]))
    size = size or max(len(f) for f in flat)
    rows = np.stack([np.pad(f, ((0, size - len(f)), (0, 0))) for f in flat])
    return Events(
        jnp.asarray(rows[:, :, 1:3], jnp.float32),
        jnp.asarray(rows[:, :, 0], jnp.int16),
        jnp.asarray(rows[:, :, 3], jnp.int8),
        jnp.asarray(np.stack(starts), jnp.int32),
    )


def stream(g: dict, prefix: str, lanes: int, start: int = 0, stop: int | None = None, size=None) -> Events:
    """Steps [start, stop) of golden arrays `<prefix>_events_bI` and `<prefix>_offsets_bI`."""
    out = []
    for lane in range(lanes):
        events, offsets = g[f"{prefix}_events_b{lane}"], g[f"{prefix}_offsets_b{lane}"]
        steps = []
        for k in range(start, len(offsets) - 1 if stop is None else stop):
            rows = events[offsets[k] : offsets[k + 1]].astype(np.float64)
            rows[:, 0] -= k * 5000
            rows[:, 3] = (rows[:, 3] + 1) / 2
            steps.append(rows)
        out.append(steps)
    return pack(out, size)


def close(actual, expected, rtol=1e-4, err_msg=""):
    """Largest error relative to the largest entry, ignoring nothing."""
    expected = np.asarray(expected, np.float64)
    actual = np.asarray(actual, np.float64)
    assert actual.shape == expected.shape, (err_msg, actual.shape, expected.shape)
    scale = np.abs(expected).max() or 1.0
    worst = np.abs(actual - expected).max() / scale if expected.size else 0.0
    assert worst <= rtol, f"{err_msg}: {worst:.2e} of the largest entry, allowed {rtol:.0e}"
