"""Image files to arrays: which kinds are read, how they are turned, and how more than 8 bits become 8.

The kind of a file is told by its content. Images are turned as their orientation tag says, whatever the
format. Pixels of 16 bits or floats are radiometric counts more often than pictures, see `to_bytes`.
"""

import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

MAX_PIXELS = 1 << 28  # of one image: 800 MB in three channels; a header may declare any size
# A stretch is guessed where the middle 98 % of the pixels lie in less than this part of 16 bits.
_NARROW = 0.25
_KELVIN_COUNTS = 100  # per kelvin, of 16-bit files of thermal cameras

_JPEG, _PNG, _TIFF = b"\xff\xd8", b"\x89PNG", (b"II*\0", b"MM\0*")
# Start-of-frame markers of JPEG: C0..CF without the tables C4, C8 and CC.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _EXIF = 0xDA, 0xE1
_PILLOW_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # of 8 bits; others would be clipped
_HEAD, _TAIL = 1 << 16, 1 << 12  # bytes that usually tell size and end


def read(
    path: str | Path, keep_grey: bool = False, radiometric: str = "auto", report: ReadReport | None = None
) -> np.ndarray:
    """Decode an image file to uint8 [H, W, 3], blue first.

    Grey becomes three equal channels, or stays [H, W] with `keep_grey`; alpha is dropped. `radiometric` says
    how more than 8 bits become 8 (see `to_bytes`); `report` notes what was converted. Raises InputError for a
    file that is missing, empty, cut short, too large or not an image.
    """
    data = _bytes(Path(path))
    _check_whole(path, data)
    size = _header_size(data)
    if size is not None:
        _check_size(path, size)
    image = _decoded(path, data)
    if image.dtype != np.uint8:
        image = to_bytes(image, radiometric, str(path), report)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim == 2:
        return image if keep_grey else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image[..., :3])


def _decoded(path: str | Path, data: bytes) -> np.ndarray:
    # Unlike IMREAD_UNCHANGED these flags turn the image as its tag says.
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        raise InputError(f"{path}: OpenCV cannot decode it ({' '.join(str(error).split())[:120]})") from error
    if image is None or not image.size:
        raise InputError(
            f"{path}: not an image OpenCV can decode, or a damaged one; expected JPEG, PNG, WebP, TIFF, BMP "
            "or the like"
        )
    return _turned(image, data)


def _turned(image: np.ndarray, data: bytes) -> np.ndarray:
    """An AVIF image, turned and mirrored as its boxes say, which OpenCV does not do."""
    if data[4:8] != b"ftyp":
        return image
    turn, mirror = (data.find(b"\0\0\0\x09" + name, 0, _HEAD) for name in (b"irot", b"imir"))
    if turn >= 0:
        image = np.rot90(image, data[turn + 8] & 3)
    if mirror >= 0:
        image = image[:, ::-1] if data[mirror + 8] & 1 else image[::-1]
    return np.ascontiguousarray(image)


def check_radiometric(radiometric: str) -> str:
    """`radiometric` if `to_bytes` knows it; InputError otherwise."""
    if radiometric not in ("auto", "minmax", "percentile"):
        _kelvin(radiometric)
    return radiometric


def to_bytes(
    pixels: np.ndarray, radiometric: str, where: str, report: ReadReport | None = None
) -> np.ndarray:
    """Pixels of more than 8 bits as uint8, by the method that `radiometric` names.

    minmax stretches from the least to the greatest value, percentile from the 1st to the 99th percentile,
    kelvin:LO,HI between two temperatures in kelvin (of 16 bits in hundredths of a kelvin, of floats in
    kelvin). auto keeps the upper 8 of 16 bits where the pixels fill the range, and is percentile where 98 %
    of them lie in a quarter of it, or where they are floats.
    """
    values = pixels.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise InputError(f"{where}: no pixel is finite; expected an image")
    if radiometric == "auto" and pixels.dtype == np.uint16:
        low, high = np.percentile(finite, (1, 99))
        if high - low >= _NARROW * 65536:
            if report is not None:
                report.note("16-bit images, of which the upper 8 bits were taken", where=where)
            return np.right_shift(pixels, 8).astype(np.uint8)
    if radiometric in ("auto", "percentile"):
        low, high = np.percentile(finite, (1, 99))
    elif radiometric == "minmax":
        low, high = finite.min(), finite.max()
    else:
        scale = 1 if pixels.dtype.kind == "f" else _KELVIN_COUNTS
        low, high = (scale * value for value in _kelvin(radiometric))
    if report is not None:
        name = "percentile" if radiometric == "auto" else radiometric
        report.note(f"images of more than 8 bits, stretched by radiometric={name}", where=where)
    stretched = (np.nan_to_num(values, nan=low) - low) * (255 / max(high - low, 1e-12))
    return stretched.clip(0, 255).astype(np.uint8)


def _kelvin(radiometric: str) -> tuple[float, float]:
    name, _, text = radiometric.partition(":")
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        name, low, high = "", 0.0, 0.0
    if name != "kelvin" or not 0 <= low < high < np.inf:
        raise InputError(
            f"radiometric is {radiometric!r}, expected auto, minmax, percentile or kelvin:LO,HI, such as "
            "kelvin:270,320"
        )
    return low, high


def size_of(path: str | Path) -> tuple[int, int]:
    """Height and width as `read` gives them, from the header where that suffices; errors as `read`."""
    path = Path(path)
    data = _bytes(path, _HEAD)
    size = _header_size(data)
    if size is None:
        height, width = read(path).shape[:2]
        return height, width
    _check_size(path, size)
    if len(data) < _HEAD:
        _check_whole(path, data)
    elif not _ends(path, data):
        _check_whole(path, _bytes(path))
    return size


def _check_size(path: str | Path, size: tuple[int, int]) -> None:
    height, width = size
    if not 0 < height * width <= MAX_PIXELS:
        raise InputError(f"{path}: {width}x{height} pixels, expected 1 to {MAX_PIXELS}; divide the image")


def _bytes(path: Path, count: int = -1) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(count)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such image; check the path or the list that names it") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; expected an image") from error
    if not data:
        raise InputError(f"{path}: empty file, expected an image; copy it again")
    return data


def _ends(path: Path, head: bytes) -> bool:
    """True if the last bytes of a large file hold the end marker of its kind; False says nothing."""
    marker = b"\xff\xd9" if head.startswith(_JPEG) else b"IEND"
    with open(path, "rb") as file:
        file.seek(-_TAIL, os.SEEK_END)
        return marker in file.read()


def _check_whole(path: str | Path, data: bytes) -> None:
    """Raise InputError for JPEG and PNG files that end before their image; what follows it is no fault."""
    if data.startswith(_JPEG):
        whole = data.find(b"\xff\xd9", _scan(data)) >= 0
    else:
        whole = not data.startswith(_PNG) or _has_png_end(data)
    if not whole:
        raise InputError(f"{path}: image is cut short after {len(data)} bytes; copy it again")


def _scan(data: bytes) -> int:
    """Position of the first scan of a JPEG file; a thumbnail before it has an end marker of its own."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == _SCAN:
            return at
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big") if data[at + 1] != 0xFF else 1
    return 2 if at + 4 <= len(data) else len(data)


def _has_png_end(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def _header_size(data: bytes) -> tuple[int, int] | None:
    """Size that JPEG and PNG headers give, turned by their tag; None for other kinds and odd headers."""
    if data.startswith(_PNG) and data[12:16] == b"IHDR":
        if b"eXIf" in data:
            return None
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    return _jpeg_size(data) if data.startswith(_JPEG) else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at, turned = 2, False
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
            continue
        if marker == _EXIF and data[at + 4 : at + 10] == b"Exif\0\0":
            turned = _orientation(data[at + 10 : at + 2 + length]) >= 5
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return (width, height) if turned else (height, width)
        at += 2 + length
    return None


def _orientation(exif: bytes) -> int:
    """Orientation tag of an EXIF block, 1 to 8; 1 if it has none. Values from 5 on swap the sides."""
    if exif[:4] not in _TIFF:
        return 1
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def is_picture(source: Any) -> bool:
    """True for an array of the shape of an image, and for an image of Pillow."""
    return _is_pillow(source) or (hasattr(source, "__array__") and np.ndim(source) in (2, 3))


def _is_pillow(source: Any) -> bool:
    return hasattr(source, "__array_interface__") and hasattr(source, "getbands")


def picture(source: Any, bgr: bool) -> Path | np.ndarray:
    """A path, or an image as OpenCV holds it: uint8 [H, W, 3], blue first.

    `bgr` tells the order of arrays; images of Pillow know theirs, and transparency is left out of them.
    InputError for anything else, for other types of pixels, and for an image without pixels.
    """
    if isinstance(source, (str, os.PathLike)):
        return Path(source)
    if _is_pillow(source) and source.mode in _PILLOW_MODES:
        source, bgr = source.convert("RGB"), False
    elif _is_pillow(source) or not hasattr(source, "__array__"):
        kind = f"mode {source.mode}" if _is_pillow(source) else f"type {type(source).__name__}"
        raise InputError(
            f"an image of {kind}; expected a path, an array uint8 [H, W] or [H, W, 3], or an image of Pillow "
            f"of mode {', '.join(_PILLOW_MODES)}"
        )
    image = np.asarray(source)
    plain = image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
    if not plain or not image.size:
        raise InputError(
            f"an array {image.dtype} {image.shape}; expected an image, uint8 [H, W] or [H, W, 3]"
        )
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, 2)
    return image if bgr else np.ascontiguousarray(image[..., ::-1])
