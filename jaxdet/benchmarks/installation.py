"""Facts of an installation: versions, devices, codecs, caches, speed of the disk, and what is missing.

Every fact is found on its own, so that a broken part does not hide the others.
"""

import importlib
import importlib.util
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from jaxdet.distributed.flags import cache_folder, user_folder
from jaxdet.viewing import video_files

_MIB = 1 << 20
_DISK_MIB = 64  # written and read again

# Module, what it adds, the command that installs it.
OPTIONAL = {
    "faster_coco_eval": ("evaluation in a seventh of the time", "pip install 'jaxdet[fasteval]'"),
    "tensorboardX": ("--config.train.tensorboard=true", "pip install 'jaxdet[tensorboard]'"),
    "wandb": ("--config.train.wandb=PROJECT", "pip install 'jaxdet[wandb]'"),
    "mlflow": ("--config.train.mlflow=EXPERIMENT", "pip install 'jaxdet[mlflow]'"),
    "onnx": ("jaxdet export", "pip install 'jaxdet[export]'"),
    "onnxruntime": ("checking of exported files", "pip install 'jaxdet[export]'"),
    "supervision": ("jaxdet.to_supervision", "pip install supervision"),
}


class Fact(NamedTuple):
    """A line of the report; `advice` says what to do, and a `fault` keeps jaxdet from working."""

    name: str
    value: str
    advice: str = ""
    fault: bool = False


def facts(folder: Path, version: str) -> list[Fact]:
    """All facts of jaxdet's `version`; the speed of the disk is that of `folder`."""
    parts: list[Callable[[], list[Fact]]] = [
        lambda: _python(version),
        _packages,
        _devices,
        _codecs,
        _caches,
        lambda: _disk(folder),
        _optional,
    ]
    found = []
    for part in parts:
        try:
            found += part()
        except Exception as error:  # whatever it is, it is what the report is for
            name = part.__name__.strip("_<>")
            found.append(Fact(name, f"{type(error).__name__}: {' '.join(str(error).split())}", "", True))
    return found


def _python(version: str) -> list[Fact]:
    return [
        Fact("jaxdet", f"{version} in {Path(__file__).parents[1]}"),
        Fact("python", f"{platform.python_version()} {sys.executable}"),
        Fact("system", f"{platform.platform()}, {len(os.sched_getaffinity(0))} CPU cores"),
    ]


def required() -> dict[str, str]:
    """Name and condition of every package that jaxdet needs, from its metadata."""
    found = {}
    for line in metadata.requires("jaxdet") or ():
        name, rest = re.match(r"([\w.-]+)(.*)", line).groups()  # pyright: ignore[reportOptionalMemberAccess]
        condition, _, marker = rest.partition(";")
        if "extra" not in marker and not ("python_version" in marker and sys.version_info >= (3, 14)):
            found[name] = condition.strip()
    return found


def _packages() -> list[Fact]:
    present, missing = [], []
    for name, condition in required().items():
        try:
            present.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(f"'{name}{condition}'")
    found = [Fact("packages", ", ".join(present))]
    if missing:
        found.append(Fact("missing", ", ".join(missing), f"pip install {' '.join(missing)}", True))
    return found


def _devices() -> list[Fact]:
    jax = importlib.import_module("jax")
    devices = jax.devices()
    found = [Fact("devices", f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})")]
    if devices[0].platform == "cpu" and Path("/dev/nvidiactl").exists():
        advice = "pip install 'jaxdet[cuda12]', or 'jaxdet[cuda13]' for drivers from 580 on"
        found.append(Fact("GPU", "this machine has an NVIDIA GPU, and JAX has no plugin for it", advice))
    return found


def _codecs() -> list[Fact]:
    cv2, np = importlib.import_module("cv2"), importlib.import_module("numpy")
    works = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix, codec in video_files.CODECS.items():
            path = Path(folder, f"film{suffix}")
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (64, 64))
            for _ in range(3):
                writer.write(np.zeros((64, 64, 3), np.uint8))
            writer.release()
            if path.exists() and cv2.VideoCapture(str(path)).read()[0]:
                works.append(f"{suffix} ({codec})")
    lacking = len(works) < len(video_files.CODECS)
    advice = "pip install --force-reinstall 'opencv-python-headless<5'" if lacking else ""
    return [
        Fact("films", ", ".join(works) or "none can be written", advice),
        Fact("HDF5", ", ".join(_filters()) or "no compression filters"),
    ]


def _filters() -> list[str]:
    importlib.import_module("hdf5plugin")
    h5z = importlib.import_module("h5py").h5z
    known = {"gzip": 1, "lzf": 32000, "blosc": 32001, "lz4": 32004, "zstd": 32015}
    return [name for name, number in known.items() if h5z.filter_avail(number)]


def _caches() -> list[Fact]:
    found = []
    for name, folder in (("programs", cache_folder()), ("downloads", user_folder())):
        files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        size = sum(path.stat().st_size for path in files) / _MIB
        near = next(parent for parent in (folder, *folder.parents) if parent.exists())
        writable = os.access(near, os.W_OK)
        advice = "" if writable else "set JAX_COMPILATION_CACHE_DIR or XDG_CACHE_HOME to a folder of yours"
        state = f"{len(files)} files, {size:.0f} MiB" + ("" if writable else ", cannot be written")
        found.append(Fact(name, f"{folder}: {state}", advice))
    return found


def _disk(folder: Path) -> list[Fact]:
    """Speeds of one file of 64 MiB, written through to the disk, and read, perhaps from memory."""
    block = os.urandom(_MIB)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        began = time.perf_counter()
        for _ in range(_DISK_MIB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        written = time.perf_counter()
        file.seek(0)
        while file.read(_MIB):
            pass
        read = time.perf_counter()
    usage = os.statvfs(folder)
    free = usage.f_bavail * usage.f_frsize / (1 << 30)
    return [
        Fact(
            "disk",
            f"{folder.resolve()}: {_DISK_MIB / (written - began):.0f} MiB/s written, "
            f"{_DISK_MIB / (read - written):.0f} read, {free:.0f} GiB free",
        )
    ]


def _optional() -> list[Fact]:
    return [
        Fact("not there", f"{module} ({adds})", command)
        for module, (adds, command) in OPTIONAL.items()
        if importlib.util.find_spec(module) is None
    ]


def text(found: list[Fact]) -> str:
    """The report for people."""
    lines = []
    for fact in found:
        lines.append(f"{fact.name:<10} {fact.value}")
        if fact.advice:
            lines.append(f"{'':<10}   -> {fact.advice}")
    return "\n".join(lines)


def as_json(found: list[Fact]) -> str:
    """The report for programs: one JSON list of objects."""
    return json.dumps([fact._asdict() for fact in found])
