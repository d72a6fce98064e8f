"""The readers that are attacked: each with whole files to start from, and how these are damaged.

A new reader takes one line in `READERS`.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import event_writers
import h5py
import more_readers as more
import mutations as m
import numpy as np
import structures as inside

from jaxdet.config_files import override
from jaxdet.data import archive
from jaxdet.data.datasets import gen1_metadata, ltd, ltdv2, pku_davis_sod, thermal_sets
from jaxdet.data.events import aedat4, dat, evt, label_files, recordings
from jaxdet.data.events.open import open_events
from jaxdet.data.events.streams import EventChunk, concatenate
from jaxdet.data.images import decoding, sets, yaml_sets
from jaxdet.data.synthetic import aedat4_files
from jaxdet.detections import files
from jaxdet.formats import coco, npy, voc, yolo
from jaxdet.formats import ltdv2 as board
from jaxdet.pickles import tables as _tables  # noqa: F401   (imported before memory is bounded)
from jaxdet.structs import Boxes, ReadReport
from jaxdet.weights.torch import file as torch_file

COUNT = 60


class Reader(NamedTuple):
    """How one kind of file is made, damaged and read."""

    suffix: str
    make: Callable[[Path], Any]  # writes a whole file at the path
    damage: Callable[[bytes, np.random.Generator], bytes]
    read: Callable[[Path], Any]
    share: float = 1.0  # of the cases of a run: less for a slow reader


def events(count: int = COUNT) -> EventChunk:
    """Events of a small camera in order of time."""
    rng = np.random.default_rng(1)
    x, y, p = (rng.integers(0, limit, count) for limit in (304, 240, 2))
    t = np.sort(rng.integers(0, 50_000, count))
    return EventChunk(t, x.astype(np.int16), y.astype(np.int16), p.astype(np.int8))


def frames() -> list[Boxes]:
    """Two frames of boxes of two classes."""
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 50, (2, 3, 2))
    xyxy = np.concatenate([corners, corners + 20], -1).astype(np.float32)
    scores = rng.uniform(0.1, 1, (2, 3)).astype(np.float32)
    return [
        Boxes(xyxy[i], scores[i], np.array([0, 1, 1], np.int32), ("car", "person"), f"clip_{i + 1:04d}.png",
              frame=i + 1, image_size=(100, 120))
        for i in range(2)
    ]  # fmt: skip


def _text(text: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(text)


def _saved(array: Callable[[], np.ndarray]) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(m.saved(array()))


def _rvt(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, column in zip("txyp", events()):
            file[f"events/{name}"] = column
        file["events/height"], file["events/width"] = 240, 304


def _dsec(path: Path) -> None:
    chunk = events()
    with h5py.File(path, "w") as file:
        for name, column, kind in zip("txyp", chunk, ("u4", "u2", "u2", "u1")):
            file[f"events/{name}"] = column.astype(kind)
        file["t_offset"] = np.int64(1_000_000)
        file["ms_to_idx"] = np.searchsorted(chunk.t_us, np.arange(0, 51_000, 1000)).astype("u8")


def _ecf(path: Path) -> None:
    chunk = events(40)
    event_writers.write_ecf(path, [event_writers.ecf_chunk(chunk, "masked")], 40, 40)


def _aedat4(path: Path) -> None:
    header = aedat4_files.header([(0, "EVTS", 304, 240)])
    path.write_bytes(header + aedat4_files.packet(0, aedat4_files.event_body(events(20))))


def _frames(path: Path) -> None:
    packets = b"".join(aedat4_files.packet(0, aedat4_files.frame_body(t_us)) for t_us in (5, 40_005))
    path.write_bytes(aedat4_files.header([(0, "FRME", 304, 240)]) + packets)


def _tracks() -> np.ndarray:
    kinds = [("t", "<u8"), ("h", "<f8"), ("w", "<f4"), ("x", "<f4"), ("y", "<f4"), ("class_id", "u1")]
    return np.ones(8, [*kinds, ("track_id", "<u8"), ("img_name", "<U10")])


def _read_tracks(path: Path) -> Any:
    return label_files.of_table(npy.read_table(path), "a", str(path), ReadReport())


def _evt21(path: Path) -> None:
    chunk = events()
    words = [0x8 << 60 | int(t >> 6) << 32 for t in chunk.t_us]
    ons = [int(p) << 60 | int(t & 63) << 54 | int(x) << 43 | int(y) << 32 | 1 for t, x, y, p in zip(*chunk)]
    both = np.array([word for pair in zip(words, ons) for word in pair], "<u8")
    path.write_bytes(b"% evt 2.1\n% geometry 304x240\n% end\n" + both.tobytes())


def _labels() -> np.ndarray:
    boxes = np.zeros(8, dat.BOX_DTYPE)
    boxes["t"], boxes["x"], boxes["w"], boxes["h"] = 1000 * np.arange(8), np.arange(8), 30, 20
    return boxes


def _info(path: Path) -> None:
    folder = recordings.open_recording(_prepared(path.parent / "prepared")).path
    path.write_bytes((folder / "info.json").read_bytes())


def _prepared(folder: Path) -> Path:
    if not folder.exists():
        chunk = events()
        words, starts = recordings.pack(chunk), recordings.index(chunk.t_us, 50)
        info = {"width": 304, "height": 240, "duration_ms": 50, "label_interval_us": 1000}
        recordings.write(folder, words, starts, np.zeros(0, recordings.LABEL_DTYPE), info)
    return folder


def _read_info(path: Path) -> Any:
    folder = _prepared(path.parent / "prepared")
    (folder / "info.json").write_bytes(path.read_bytes())
    recording = recordings.open_recording(folder)
    return concatenate(recording.stream()), recording.labels


def _coco_labels(name: str = "car") -> str:
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 120, "height": 100} for i in (1, 2)]
    rows = [
        {"id": i, "image_id": 1 + i % 2, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0}
        for i in range(4)
    ]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": name}]}
    return json.dumps(content)


def _written(suffix: str) -> Callable[[Path], Any]:
    def make(path: Path) -> None:
        found = frames()
        files.write(path, found, found[0].class_names)

    return make


def _picture(extension: str) -> Callable[[Path], Any]:
    image = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    plain = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if extension == ".tif" else []
    return lambda path: path.write_bytes(cv2.imencode(extension, image, plain)[1].tobytes())


def _weights(path: Path) -> None:
    state = {"a.weight": np.ones((2, 3), np.float32), "a.steps": np.int64(3) * np.ones((), np.int64)}
    torch_file.save(path, {"epoch": 1, "state_dict": state})


def _seven(path: Path) -> None:
    import py7zr

    with py7zr.SevenZipFile(path, "w") as file:
        file.writestr(b"abc" * 20, "train/a_td.dat")


def _voc(path: Path) -> None:
    voc.write(
        path.parent,
        [replace(frames()[0], source=f"{path.stem}.png", frame=None, time_us=None)],
        frames()[0].class_names,
    )


def _part(name: str) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes((_prepared(path.parent / "prepared") / name).read_bytes())


def _read_part(name: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        folder = _prepared(path.parent / "prepared")
        (folder / name).write_bytes(path.read_bytes())
        recording = recordings.open_recording(folder)
        return concatenate(recording.stream()), recording.labels

    return read


def _stream(path: Path) -> Any:
    return concatenate(open_events(path).ordered())


def _override(path: Path) -> Any:
    from jaxdet import config

    cfg = config.base()
    pairs = [line.partition("=")[::2] for line in path.read_text(errors="replace").split("\n") if line]
    return override(cfg, [(key, value) for key, value in pairs])


_YOLO = "0 0.5 0.5 0.2 0.1\n1 0.2 0.3 0.1 0.1 0.9\n0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n"
_MOT = "".join(f"{i},-1,{i},2,30,40,0.{i},-1,-1,-1\n" for i in range(1, 6))
_LTD = "0 human 10 10 20 20\n1 vehicle 30 30 50 60\n"
_YAML = "path: .\ntrain: images\nval: images\nnc: 2\nnames: [car, person]\n"
_CSV = "t,x,y,p\n" + "".join(",".join(map(str, row)) + "\n" for row in zip(*events(20)))
_FLAGS = "train.num_iterations=5\nseed=3\ntrain.tensorboard=true\ntrain.keep=2\n"
_INTERVALS = "name,interval\na_bbox.npy,250000\ntrain/b_bbox.npy,16666.7\n"
_BOARD = {"20200502114224046": {"boxes": [[1, 2, 30, 40]], "scores": [0.5], "labels": [1]}}

_PKU = (
    '{"shapes": [{"label": "1", "points": [[1, 2], [30, 40]]}, {"lable": 3, "points": [[5, 6.5], [1, 2]]}]}'
)

READERS: dict[str, Reader] = {
    "dat": Reader(".dat", lambda p: dat.write_dat(p, events()), m.of_bytes, _stream),
    "evt2": Reader(".raw", lambda p: event_writers.write_evt2(p, events(), 304, 240), m.of_bytes, _stream),
    "evt21": Reader(".raw", _evt21, m.of_bytes, _stream),
    "evt3": Reader(".raw", lambda p: evt.write_evt3(p, events(), 304, 240), m.of_bytes, _stream),
    "events csv": Reader(".csv", _text(_CSV), m.of_text, _stream),
    "events npy": Reader(".npy", _saved(lambda: np.stack(events(), 1)), m.of_npy, _stream),
    "events rvt": Reader(".h5", _rvt, m.of_hdf5, _stream),
    "events dsec": Reader(".h5", _dsec, m.of_hdf5, _stream),
    "events ecf": Reader(".hdf5", _ecf, inside.of_ecf, _stream),
    "events aedat4": Reader(".aedat4", _aedat4, inside.of_payload(200), _stream),
    "aedat4 frames": Reader(".aedat4", _frames, inside.of_payload(200), aedat4.frame_times),
    "dsec tracks": Reader(".npy", _saved(_tracks), m.of_npy, _read_tracks),
    "pku boxes": Reader(".json", _text(_PKU), m.of_json, lambda p: pku_davis_sod.read_boxes(p, ReadReport())),
    "prepared": Reader(".json", _info, m.of_json, _read_info),
    "labels npy": Reader("_bbox.npy", _saved(_labels), m.of_npy, dat.read_boxes),
    "coco labels": Reader(".json", _text(_coco_labels()), m.of_json, coco.read_annotations),
    "coco results": Reader(".json", _written(".json"), m.of_json, files.read),
    "ltdv2": Reader(".json", _text(json.dumps(_BOARD)), m.of_numbers, board.read),
    "mot": Reader(".txt", _text(_MOT), m.of_text, files.read),
    "csv": Reader(".csv", _written(".csv"), m.of_text, files.read),
    "npz": Reader(".npz", _written(".npz"), m.of_npz, files.read),
    "boxes npy": Reader("_td.npy", _saved(_labels), m.of_npy, files.read),
    "pkl": Reader(".pkl", _written(".pkl"), inside.of_pickle, files.read),
    "detections h5": Reader(".h5", _written(".h5"), m.of_hdf5, files.read),
    "yolo labels": Reader(
        ".txt", _text(_YOLO), m.of_text, lambda p: yolo.read_labels(p, 2, report=ReadReport())
    ),
    "ltd text": Reader(
        ".txt", _text("0 human 10 10 20 20\n1 vehicle 30 30 50 60\n"), m.of_text, ltd.read_annotation
    ),
    "image list": Reader(".txt", _text("a.png\n./b.png\n"), m.of_text, sets.from_list),
    "data.yaml": Reader(".yaml", _text(_YAML), m.of_text, yaml_sets.read),
    "png": Reader(".png", _picture(".png"), inside.of_png, decoding.read),
    "jpg": Reader(".jpg", _picture(".jpg"), m.of_bytes, decoding.read),
    "tif": Reader(".tif", _picture(".tif"), inside.of_payload(8), decoding.read),
    "torch": Reader(".pth", _weights, inside.of_zip, torch_file.load),
    "overrides": Reader(".txt", _text(_FLAGS), m.of_text, _override),
    "7z": Reader(".7z", _seven, inside.of_7z, archive.members),
    "bmp": Reader(".bmp", _picture(".bmp"), inside.of_payload(54), decoding.read),
    "webp": Reader(".webp", _picture(".webp"), inside.of_payload(20), decoding.read),
    "avi": Reader(".avi", more.video, inside.of_payload(5000), more.read_video),
    "voc": Reader(".xml", _voc, m.of_xml, voc.read),
    "prepared events": Reader(".npy", _part("events.npy"), m.of_npy, _read_part("events.npy")),
    "prepared index": Reader(".npy", _part("ms_start.npy"), m.of_index, _read_part("ms_start.npy")),
    "prepared labels": Reader(".npy", _part("labels.npy"), m.of_npy, _read_part("labels.npy")),
    "gen1 meta": Reader(".pkl", more.meta, inside.of_pickle, gen1_metadata.read_meta),
    "gen1 intervals": Reader(".csv", _text(_INTERVALS), m.of_text, gen1_metadata.read_intervals),
    "torch legacy": Reader(".pt", more.legacy, more.of_legacy, torch_file.load),
    "hit-uav": Reader(".json", _text(_coco_labels("Car")), m.of_json, thermal_sets.read_hit_uav),
    "ltdv2 labels": Reader(".json", _text(_coco_labels("person")), m.of_json, ltdv2.read_annotations),
    "event labels csv": Reader(".csv", _text(more.EVENT_TABLE), m.of_text, more.read_event_labels),
    "event labels json": Reader(".json", _text(more.event_json()), m.of_json, more.read_event_labels),
    "event labels npy": Reader("_bbox.npy", _saved(_labels), m.of_npy, more.read_event_labels),
    "set description": Reader(".json", _text(more.set_description()), m.of_json, more.read_set),
    "run config": Reader(".json", more.config, m.of_json, more.read_config),
    "run log": Reader(".jsonl", more.log, m.of_text, more.read_log),
    "weights": Reader("", more.weights_file, m.of_json, more.read_weights, 0.2),
    "marker": Reader(".json", more.marker, m.of_json, more.read_marker),
    "message": Reader("", more.message, more.of_message, more.read_message),
}
