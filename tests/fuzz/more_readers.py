"""Whole files of kinds that need some lines to make, and readers of a file inside a folder of ours."""

import json
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mutations import of_bytes, of_json
from structures import in_place, of_pickle

from jaxdet import config_files, folders
from jaxdet.data.datasets import event_sets
from jaxdet.data.events import label_files
from jaxdet.data.images import sets
from jaxdet.distributed import codec
from jaxdet.errors import InputError
from jaxdet.nn.functional import Variables
from jaxdet.structs import EventGeometry, ReadReport
from jaxdet.training import log_writers, setup
from jaxdet.weights import checkpoint

KINDS = (EventGeometry,)


def message(path: Path) -> None:
    """A value as it travels between processes."""
    value = {
        "a": [1, 2.5, None, "x"],
        "b": np.arange(6.0).reshape(2, 3),
        "c": EventGeometry(4, 5),
        "d": (True,),
    }
    path.write_bytes(codec.encode(value, KINDS))


def of_message(data: bytes, rng: np.random.Generator) -> bytes:
    """Change the text of a message, the arrays behind it, or any byte."""
    size = int.from_bytes(data[:8], "big")
    kind = rng.random()
    if kind < 0.2:
        return of_bytes(data, rng)
    if kind < 0.5:
        return in_place(data, rng, 8 + size)
    text = of_json(data[8 : 8 + size], rng)
    return len(text).to_bytes(8, "big") + text + data[8 + size :]


def read_message(path: Path) -> Any:
    return codec.decode(path.read_bytes(), KINDS)


def legacy(path: Path) -> None:
    """A torch file of the old form: one stream of pickles, then the bytes of the storages."""

    def text(word: str) -> bytes:
        return b"X" + struct.pack("<I", len(word)) + word.encode()

    def numbers(*values: int) -> bytes:
        return b"".join(b"J" + struct.pack("<i", value) for value in values)

    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n" + text("0")
        + text("cuda:0") + numbers(4) + b"tQ" + numbers(0) + b"(" + numbers(2, 2) + b"t(" + numbers(2, 1)
        + b"t\x89NtR"
    )  # fmt: skip
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    body = b"\x80\x02}" + text("w") + tensor + b"s."
    tail = pickle.dumps(["0"], 2) + struct.pack("<q", 4) + np.arange(4, dtype="f4").tobytes()
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in head) + body + tail)


def of_legacy(data: bytes, rng: np.random.Generator) -> bytes:
    """Change the numbers behind the pickles, one of the pickles, or any byte."""
    kind = rng.random()
    if kind < 0.4:
        return in_place(data, rng, len(data) - 16)
    if kind < 0.6:
        return of_bytes(data, rng)
    starts = [at for at in range(len(data) - 24) if data[at : at + 2] == b"\x80\x02"]
    at = starts[int(rng.integers(0, len(starts)))]
    stop = next((start for start in starts if start > at), data.index(b".", at + 2) + 1)
    return data[:at] + of_pickle(data[at:stop], rng) + data[stop:]


def meta(path: Path) -> None:
    """The events of each millisecond, as the released systems keep them."""
    pair = [np.arange(5), np.ones(5, np.int64)]
    path.write_bytes(pickle.dumps({"a_td.dat": pair, "b_td.dat": pair[::-1]}, 4))


def video(path: Path) -> None:
    """Three small frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (32, 24))
    for frame in np.random.default_rng(0).integers(0, 255, (3, 24, 32, 3), np.uint8):
        writer.write(frame)
    writer.release()


def read_video(path: Path) -> int:
    return sum(1 for _ in sets.VideoFile(path))


EVENT_TABLE = "recording,time_us,x,y,w,h,class,track\n" + "".join(
    f"a,{5000 * row},{row + 0.5},2,30,20,{('car', 'person')[row % 2]},{row}\n" for row in range(1, 6)
)


def event_json() -> str:
    """COCO annotations whose images have a recording and a time."""
    images = [{"id": i, "file_name": f"a/{i}.jpg", "width": 304, "height": 240, "time_us": 5000 * i,
               "recording": "a"} for i in (1, 2)]  # fmt: skip
    rows = [{"id": i, "image_id": 1 + i % 2, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600,
             "iscrowd": 0} for i in range(4)]  # fmt: skip
    categories = [{"id": 1, "name": "car"}]
    return json.dumps({"images": images, "annotations": rows, "categories": categories})


def read_event_labels(path: Path) -> Any:
    """Labels of recordings in the classes of a set; a file that cannot be read is a problem, not an error."""
    problems: list[str] = []
    report = ReadReport()
    classes = label_files.Classes(("car", "person"))
    parts = label_files.read([path], lambda name: (240, 304), report, problems)
    if problems:
        raise InputError(problems[0])
    return [classes.select(own, report) for own in parts.values()]


def set_description() -> str:
    """The description of a prepared set."""
    load = {str(length): [100, 200, 300] for length in (5, 200, 400, 810)}
    content = {"name": "x", "classes": ["car"], "width": 304, "height": 240, "label_interval_us": 50_000,
               "most_boxes": 3, "most_labelled_times_in_200_ms": 4, "load": load, "splits": {}}  # fmt: skip
    return json.dumps(content)


def read_set(path: Path) -> Any:
    """The config of a set with this description."""
    folder = path.parent / "set"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(path, folder / event_sets.DESCRIPTION)
    return config_files.load(f"events:tiny,{folder}")


def weights(folder: Path) -> Path:
    """A folder of weights."""
    if not folder.exists():
        arrays = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}
        checkpoint.save_weights(folder, Variables(arrays, {}), {"model": {"name": "x"}})
    return folder


def weights_file(path: Path) -> None:
    """One of the files of a folder of weights, the one that holds the config."""
    path.write_bytes((weights(path.parent / "weights") / "config" / "metadata").read_bytes())


def read_weights(path: Path) -> Any:
    shutil.copyfile(path, weights(path.parent / "weights") / "config" / "metadata")
    return checkpoint.load_weights(path.parent / "weights")


def log(path: Path) -> None:
    """Some lines of a training log."""
    path.write_text("".join(json.dumps({"step": n, "loss": 1 / n}) + "\n" for n in range(1, 6)))


def _beside(path: Path, name: str) -> Path:
    folder = path.parent / name.replace(".", "_")
    folder.mkdir(exist_ok=True)
    shutil.copyfile(path, folder / name)
    return folder


def read_log(path: Path) -> Any:
    return log_writers.read_log(_beside(path, "train.jsonl"))


def config(path: Path) -> None:
    """The config of a run."""
    content = {
        "version": "0.3.0",
        "model": {"name": "x", "widths": [1, 2]},
        "data": {"kind": "events"},
        "seed": 3,
    }
    path.write_text(json.dumps(content))


def read_config(path: Path) -> Any:
    return setup.read_config(_beside(path, "config.json"))


def marker(path: Path) -> None:
    """The marker of a folder that we made."""
    folder = path.parent / "ours"
    folders.begin(folder, "recording")
    (folder / "a").write_text("a")
    folders.finish(folder, "recording")
    path.write_bytes((folder / folders.MARKER).read_bytes())


def read_marker(path: Path) -> Any:
    folder = path.parent / "ours"
    shutil.copyfile(path, folder / folders.MARKER)
    folders.check_own(folder, "recording")
