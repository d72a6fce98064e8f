"""Damaged files made from whole ones: of bytes, of text, of JSON, of NumPy and HDF5 structures."""

import copy
import io
import json
import re

import h5py
import numpy as np
from numpy.lib import recfunctions

STRANGE = (
    None, True, -1, 0, 1e308, -1e-308, float("nan"), float("inf"), 2**31, 2**63, 2**64, -(2**63), 0.5, "",
    "1", "a", "\x1b[2J", "\x00", "../x", [], {}, [[]], {"a": None}, "é" * 50, [1, 2], "NaN",
)  # fmt: skip
ORDINARY = (0.25, 0.5, 1.0, 2.0, 3.0, 17.0, 33.5, 99.0)
WORDS = (
    "nan",
    "-1",
    "1e999",
    "",
    "abc",
    "99999999999999999999",
    "0.5",
    "-0",
    "\x1b[2J",
    "true",
    "1,2",
    '"',
    "\t",
)


def of_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut, repeat, insert or overwrite a few places."""
    raw = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, max(len(raw), 1)))
        kind = rng.integers(0, 6)
        if kind == 0 and raw:
            raw[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            raw = raw[:at]
        elif kind == 2:
            raw[at:at] = raw[at : at + int(rng.integers(1, 40))]
        elif kind == 3:
            raw[at:at] = rng.bytes(int(rng.integers(1, 9)))
        elif kind == 4:
            width = int(rng.choice([1, 2, 4, 8]))
            value = int(rng.choice([0, 1, (1 << (8 * width - 1)) - 1, 1 << (8 * width - 1)], shuffle=False))
            raw[at : at + width] = value.to_bytes(width, "little")
        else:
            del raw[at : at + int(rng.integers(1, 20))]
    return bytes(raw)


def of_text(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace a word of a line, or repeat, drop or move a line; rarely damage bytes."""
    if rng.random() < 0.2:
        return of_bytes(data, rng)
    lines = data.decode(errors="replace").split("\n")
    at = int(rng.integers(0, len(lines)))
    kind = rng.integers(0, 5)
    if kind < 3:
        comma = "," in lines[at]
        words = lines[at].split("," if comma else " ")
        words[int(rng.integers(0, len(words)))] = str(rng.choice(WORDS))
        lines[at] = ("," if comma else " ").join(words)
    elif kind == 3:
        lines.insert(int(rng.integers(0, len(lines))), lines[at])
    else:
        del lines[at]
    return "\n".join(lines).encode(errors="replace")


def of_xml(data: bytes, rng: np.random.Generator) -> bytes:
    """Change the text of an element; sometimes anything."""
    if rng.random() < 0.3:
        return of_text(data, rng)
    places = list(re.finditer(rb">([^<>\n]+)<", data))
    place = places[int(rng.integers(0, len(places)))]
    word = str(rng.choice(WORDS if rng.random() < 0.5 else [str(number) for number in ORDINARY]))
    return data[: place.start(1)] + word.encode() + data[place.end(1) :]


def of_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace, drop, repeat or rename a value somewhere in the tree; rarely damage text."""
    if rng.random() < 0.1:
        return of_text(data, rng)
    tree = json.loads(data)
    for _ in range(rng.integers(1, 3)):
        node = tree
        while isinstance(node, (dict, list)) and node:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = keys[int(rng.integers(0, len(keys)))]
            if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.85:
                node = node[key]
                continue
            kind = rng.integers(0, 8)
            if kind >= 6 and isinstance(node[key], (int, float)):
                node[key] = float(rng.choice(ORDINARY))
            elif kind < 4:
                node[key] = copy.deepcopy(STRANGE[int(rng.integers(0, len(STRANGE)))])
            elif kind == 4:
                del node[key]
            elif isinstance(node, list):
                node.append(copy.deepcopy(node[key]))
            else:
                node[str(rng.choice(["id", "x", "", "image_id"]))] = copy.deepcopy(node[key])
            break
    return json.dumps(tree).encode()


def of_npy(data: bytes, rng: np.random.Generator) -> bytes:
    """Change type, shape or values of an array, or its header's text."""
    if rng.random() < 0.25:
        at = int(rng.integers(0, 128))
        return of_bytes(data[:at] + data[at : at + 60], rng)[:-1] + data[at + 60 :]
    return saved(_changed(np.load(io.BytesIO(data)), rng))


def saved(array: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _changed(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if array.ndim == 0:  # a version
        return np.array(rng.choice([0, 1, 2, 1 << 40]) if rng.random() < 0.7 else [1, 1])
    if len(array) and rng.random() < 0.75:  # one value, or row of a table, takes the place of another
        changed = array.copy()
        here, there = (int(place) for place in rng.integers(0, array.size, 2))
        changed.flat[here] = array.flat[there]
        return changed
    kind = rng.integers(0, 6)
    if array.dtype.names and kind < 4:
        names = list(array.dtype.names)
        name = names[int(rng.integers(0, len(names)))]
        if kind == 0:
            return recfunctions.drop_fields(array, name)
        if kind == 1:
            other = str(rng.choice(["<f8", "<i8", "S3", "?", "<u1", "<f2"]))
            types = [(n, other if n == name else array.dtype[n]) for n in names]
            with np.errstate(all="ignore"):
                return _cast(array, np.dtype(types))
        changed = array.copy()
        if len(changed):
            with np.errstate(all="ignore"):
                changed[name][int(rng.integers(0, len(changed)))] = _number(changed[name].dtype, rng)
        return changed
    if kind == 4:
        return array.reshape(-1)[: int(rng.integers(0, array.size + 1))]
    if kind == 5:
        return np.stack([array, array])
    with np.errstate(all="ignore"):
        return _cast(array, np.dtype(str(rng.choice(["<f8", "<i8", "<u1", "?", "S4", "<c8", "<f2"]))))


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    try:
        return array.astype(dtype)
    except (TypeError, ValueError):
        return array[:0]


def _number(dtype: np.dtype, rng: np.random.Generator):
    if dtype.kind == "f":
        return rng.choice([np.nan, np.inf, -1.0, 1e38, 0.5])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.choice(np.array([info.min, info.max, 0], dtype))
    return np.zeros((), dtype)[()]


def of_index(data: bytes, rng: np.random.Generator) -> bytes:
    """A value of a non-decreasing array takes the one before it; or any change."""
    if rng.random() < 0.5:
        return of_npy(data, rng)
    array = np.load(io.BytesIO(data))
    at = int(rng.integers(1, len(array) - 1))
    array[at] = array[at - 1]
    return saved(array)


def of_numbers(data: bytes, rng: np.random.Generator) -> bytes:
    """Another ordinary number in place of one in the values of a JSON text; or any change."""
    if rng.random() < 0.5:
        return of_json(data, rng)
    places = list(re.finditer(rb"(?<=[ \[:])[0-9.]+(?=[,\]}])", data))
    place = places[int(rng.integers(0, len(places)))]
    return data[: place.start()] + str(rng.choice(ORDINARY)).encode() + data[place.end() :]


def of_npz(data: bytes, rng: np.random.Generator) -> bytes:
    """Change, drop or rename an array of an archive; sometimes damage bytes."""
    if rng.random() < 0.3:
        return of_bytes(data, rng)
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)
    name = list(arrays)[int(rng.integers(0, len(arrays)))]
    kind = rng.integers(0, 4)
    if kind == 0:
        arrays["other"] = arrays.pop(name)
    elif kind == 1:
        del arrays[name]
    else:
        arrays[name] = _changed(arrays[name], rng)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def of_hdf5(data: bytes, rng: np.random.Generator) -> bytes:
    """Change, drop or rename a dataset or an attribute; sometimes damage bytes."""
    if rng.random() < 0.3:
        return of_bytes(data, rng)
    memory = io.BytesIO(data)
    with h5py.File(memory, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, node: names.append(name))
        owners = [node for node in (file, *(file[name] for name in names)) if len(node.attrs)]
        if owners and rng.random() < 0.3:
            attributes = owners[int(rng.integers(0, len(owners)))].attrs
            key = list(attributes)[int(rng.integers(0, len(attributes)))]
            if rng.random() < 0.5:
                del attributes[key]
            else:
                attributes[key] = str(rng.choice(["x", "{}", "[1", "\x1b"])) if rng.random() < 0.5 else -1
        elif names:
            name = names[int(rng.integers(0, len(names)))]
            values = file[name][()] if isinstance(file[name], h5py.Dataset) else None
            if values is None or rng.random() < 0.3:
                if rng.random() < 0.5:
                    file.move(name, "other")
                else:
                    del file[name]
            elif isinstance(values, np.ndarray) and values.dtype.kind in "iufV":
                del file[name]
                file[name] = _changed(values, rng)
    return memory.getvalue()
