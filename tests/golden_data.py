"""Reference arrays and the weight recipes they were made with.

The arrays lie in `tests/golden/`. Set JAXDET_GOLDEN to another folder of the same layout, and
JAXDET_GOLDEN_SEED to its seed, to run the same tests against other weights and inputs.
"""

import json
import os
import re
import zlib
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(os.environ.get("JAXDET_GOLDEN", Path(__file__).parent / "golden"))
SEED = int(os.environ.get("JAXDET_GOLDEN_SEED", "0"))
MANIFESTS = Path(__file__).parent / "golden" / "manifests"


def path(name: str) -> Path:
    """File `name` of the golden folder, such as `pt/soup.pt`."""
    return ROOT / name


@cache
def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of `<name>.npz`, for example `hmnet/units_B1`."""
    with np.load(ROOT / f"{name}.npz", allow_pickle=False) as archive:
        return {k: archive[k] for k in archive.files}


@cache
def manifest(family: str):
    """State-dict manifest of `hmnet`, `yolov4` or `yolox`, as JSON."""
    return json.loads((MANIFESTS / f"{family}_state_dicts.json").read_text())


def rng_for(name: str, seed: int = SEED) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()) ^ seed))


def normal(name: str, shape, seed: int = SEED) -> np.ndarray:
    """Standard normal noise named `name`, float32."""
    return rng_for(name, seed).standard_normal(shape).astype(np.float32)


def image(name: str, shape, seed: int = SEED) -> np.ndarray:
    """Blocky noise in [0, 1] at several scales, NCHW float32."""
    n, c, h, w = shape
    rng = rng_for(name, seed)
    out = np.zeros(shape)
    for cell, amplitude in ((64, 0.4), (32, 0.3), (16, 0.3), (8, 0.3), (4, 0.2), (1, 0.15)):
        grid = rng.random((n, c, -(-h // cell), -(-w // cell))) - 0.5
        out += amplitude * grid.repeat(cell, 2).repeat(cell, 3)[:, :, :h, :w]
    return np.clip(out + 0.5, 0, 1).astype(np.float32)


def hmnet_weights(size: str, seed: int = SEED) -> dict[str, np.ndarray]:
    """State dict of HMNet `size` under the weight recipe; structural index buffers are left out."""
    out = {}
    for key, shape, _ in manifest("hmnet")[size]["state_dict"]:
        leaf = key.rsplit(".", 1)[-1]
        if leaf == "relative_position_indices":
            continue
        out[key] = _hmnet_entry(key, leaf, tuple(shape), seed)
    return out


def _hmnet_entry(key, leaf, shape, seed):
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    n = rng_for(key, seed).standard_normal(shape)
    if leaf == "running_mean":
        n = 0.1 * n
    elif leaf == "running_var":
        n = 1 + 0.1 * np.abs(n)
    elif leaf in ("init_latent", "dustbin_weights", "position_embedding_table"):
        n = 0.5 * n
    elif leaf == "bias":
        n = 0.1 * n
        if key.endswith("reg_pred.bias"):
            n = n + np.array([0, 0, 2, 2])
        elif key.endswith("obj_pred.bias"):
            n = n - 4.5
        elif key.endswith("cls_pred.bias"):
            n = n - 1
    elif len(shape) == 1:
        n = 1 + 0.1 * n
    elif len(shape) == 2:
        n = n / np.sqrt(shape[1])
    else:
        n = n * np.sqrt(2 / (shape[1] * shape[2] * shape[3]))
    return np.asarray(n, np.float32)


_RESIDUAL = re.compile(r"^(.*)\.m\.\d+\.(cv2|conv2|conv2\.pconv)\.bn\.weight$")


def yolo_weights(entries, constants=None, seed: int = SEED) -> dict[str, np.ndarray]:
    """State dict of a YOLOv4 or YOLOX manifest [[key, shape, dtype], ...] under the weight recipe.

    `constants` gives the entries that are not random (the anchor buffers). Zero-mean filters and damped
    residual branches keep a hundred layers neither chaotic nor blind to their input.
    """
    constants = constants or {}
    keys = {entry[0] for entry in entries}
    norms = {k.removesuffix(".running_mean") for k in keys if k.endswith(".running_mean")}
    out = {}
    for key, shape, _ in entries:
        if key in constants:
            out[key] = np.asarray(constants[key], np.float32).reshape(shape)
        elif key.endswith("num_batches_tracked"):
            out[key] = np.zeros(shape, np.int64)
        else:
            out[key] = _yolo_entry(key, tuple(shape), keys, norms, seed)
    return out


def _yolo_entry(key, shape, keys, norms, seed):
    prefix, leaf = key.rsplit(".", 1)
    n = rng_for(key, seed).standard_normal(shape)
    if prefix in norms:
        if leaf == "weight":
            n = 1 + 0.1 * n
            match = _RESIDUAL.match(key)
            if match and (match[1] + ".cv4.conv.weight" in keys or key.startswith("backbone.backbone.")):
                n = n * 0.25
        else:
            n = 1 + 0.1 * np.abs(n) if leaf == "running_var" else 0.1 * n
    elif n.ndim == 4:
        fan_in = int(np.prod(shape[1:]))
        if fan_in > 1:
            n = n - n.mean((1, 2, 3), keepdims=True)
        n = (1.75 if key.startswith(("backbone.", "head.")) else 1.6) * n / np.sqrt(fan_in)
        if key == "backbone.backbone.stem.conv.conv.weight":
            n = n / 64
        elif key.startswith("head.") and "_preds." in key:
            n = n * 0.25
    else:
        n = 0.1 * n
    return n.astype(np.float32)
