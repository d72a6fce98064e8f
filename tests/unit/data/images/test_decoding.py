"""Image files as cameras and tools write them; all inputs are made here."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, features

from jaxdet.data.images import decoding
from jaxdet.errors import InputError
from jaxdet.structs import ReadReport

# Four flat fields, so that lossy formats keep which is where.
FIELDS = np.repeat(np.repeat(np.arange(4, dtype=np.uint8).reshape(2, 2) * 60 + 20, 16, 0), 24, 1)
PICTURE = np.dstack([FIELDS, FIELDS[::-1], 255 - FIELDS])


def _exif(orientation: int, order: str = "<") -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    # One short in a 4-byte field stands in its first two bytes.
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return head + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def _encoded(suffix: str, image=PICTURE) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _jpeg(orientation: int, order: str, thumbnail: bytes = b"") -> bytes:
    data, block = _encoded(".jpg"), b"Exif\0\0" + _exif(orientation, order) + thumbnail
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def _png(orientation: int, order: str) -> bytes:
    data = _encoded(".png")
    return data[:33] + _chunk(b"eXIf", _exif(orientation, order)) + data[33:]


def _webp(orientation: int, order: str) -> bytes:
    frame, exif = _encoded(".webp")[12:], _exif(orientation, order)
    height, width = FIELDS.shape
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + size + frame
    body += b"EXIF" + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _turned(orientation: int) -> np.ndarray:
    """The picture as EXIF defines the tag: row 0 and column 0 of the file lie on the named sides."""
    mirrored = PICTURE[:, ::-1] if orientation in (2, 4, 5, 7) else PICTURE
    quarter_turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation]
    return np.rot90(mirrored, quarter_turns)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize(("write", "suffix"), [(_jpeg, "jpg"), (_png, "png"), (_webp, "webp")])
def test_images_are_turned_as_their_tag_says(tmp_path, write, suffix, orientation):
    path = tmp_path / f"x.{suffix}"
    for order in "<>":
        path.write_bytes(write(orientation, order))
        expected = _turned(orientation)
        found = decoding.read(path)
        assert found.shape == expected.shape
        # Lossy formats move the values of flat fields by less than half of what tells them apart.
        assert np.abs(found.astype(int) - expected).mean() < 8
        assert decoding.size_of(path) == expected.shape[:2]


def _tiff(orientation: int, order: str, pixels: np.ndarray) -> bytes:
    """An uncompressed TIFF file of one strip; `pixels` [H, W] or [H, W, 3], red first."""
    height, width = pixels.shape[:2]
    channels, bits = pixels.size // (height * width), 8 * pixels.dtype.itemsize
    data, start = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes(), 8 + 2 + 12 * 10 + 4
    of_bits = bits if channels == 1 else start
    start += 6 * (channels == 3)
    short, long = 3, 4
    tags = (
        (256, long, 1, width), (257, long, 1, height), (258, short, channels, of_bits), (259, short, 1, 1),
        (262, short, 1, 1 + (channels == 3)), (273, long, 1, start), (274, short, 1, orientation),
        (277, short, 1, channels), (278, long, 1, height), (279, long, 1, len(data)),
    )  # fmt: skip
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    for tag, kind, count, value in tags:
        whole = (
            struct.pack(order + "HH", value, 0)
            if (kind, count) == (short, 1)
            else struct.pack(order + "I", value)
        )
        out += struct.pack(order + "HHI", tag, kind, count) + whole
    return out + bytes(4) + struct.pack(order + "HHH", bits, bits, bits) * (channels == 3) + data


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_tiff_of_any_depth_is_turned_as_its_tag_says(tmp_path, orientation):
    path, expected = tmp_path / "x.tif", _turned(orientation)
    for order in "<>":
        path.write_bytes(_tiff(orientation, order, PICTURE[..., ::-1]))
        np.testing.assert_array_equal(decoding.read(path), expected)
        assert decoding.size_of(path) == expected.shape[:2]
        counts = PICTURE[..., 0].astype(np.uint16) + 7000  # of a 14-bit camera
        path.write_bytes(_tiff(orientation, order, counts))
        grey = expected[..., 0].astype(float)
        stretched = (grey - grey.min()) * 255 / (grey.max() - grey.min())
        assert np.abs(decoding.read(path, True, "minmax") - stretched).max() <= 1


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_avif_is_turned_as_its_boxes_say(tmp_path, orientation):
    if not features.check("avif") or not cv2.haveImageWriter("x.avif"):
        pytest.skip("this Pillow or OpenCV has no AVIF")
    path, exif = tmp_path / "x.avif", Image.Exif()
    exif[0x0112] = orientation  # Pillow writes it as the boxes irot and imir
    Image.fromarray(np.ascontiguousarray(PICTURE[..., ::-1])).save(path, exif=exif.tobytes())
    found, expected = decoding.read(path), _turned(orientation)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 8
    assert decoding.size_of(path) == expected.shape[:2]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_what_follows_an_image_is_no_fault_and_what_is_missing_is(tmp_path, suffix):
    path, data = tmp_path / f"x{suffix}", _encoded(suffix)
    path.write_bytes(data + bytes(10_000))  # the film of a phone's moving picture, a note of a recorder
    np.testing.assert_array_equal(decoding.read(path), cv2.imdecode(np.frombuffer(data, np.uint8), 1))
    assert decoding.size_of(path) == FIELDS.shape
    path.write_bytes(data[: len(data) * 3 // 4] + bytes(10_000))  # a disk that was full
    for reader in (decoding.read, decoding.size_of):
        with pytest.raises(InputError, match="cut short"):
            reader(path)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(tmp_path):
    path, thumbnail = tmp_path / "x.jpg", _encoded(".jpg", PICTURE[:8, :8])
    whole = _jpeg(1, "<", thumbnail)
    path.write_bytes(whole)
    assert decoding.read(path).shape == PICTURE.shape
    path.write_bytes(whole[:-40])
    for reader in (decoding.read, decoding.size_of):
        with pytest.raises(InputError, match="cut short"):
            reader(path)


@pytest.mark.parametrize("suffix", [".webp", ".tiff", ".bmp", ".ppm", ".jp2", ".gif", ".avif"])
def test_kinds_are_told_by_content_and_damage_is_one_line(tmp_path, suffix):
    path = tmp_path / "x"
    try:
        data = _encoded(suffix)
    except cv2.error:
        pytest.skip(f"this OpenCV writes no {suffix}")
    path.write_bytes(data)
    assert decoding.read(path).shape == PICTURE.shape
    assert decoding.size_of(path) == FIELDS.shape
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(InputError, match=r"x: .*(not an image|decode)"):
        decoding.read(path)


def test_a_header_of_any_size_takes_no_memory(tmp_path):
    path = tmp_path / "x.png"
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"x") + _chunk(b"IEND", b"")
    )
    for reader in (decoding.read, decoding.size_of):
        with pytest.raises(InputError, match="60000x60000 pixels"):
            reader(path)
    with pytest.raises(InputError, match="expected an image"):
        decoding.read(tmp_path)


def _counts(low: int, high: int) -> np.ndarray:
    return np.linspace(low, high, 4000).reshape(40, 100).astype(np.uint16)


def test_radiometric_counts_are_stretched_and_full_range_is_not(tmp_path):
    report, path = ReadReport(), tmp_path / "x.png"
    cv2.imwrite(str(path), _counts(7000, 8500))
    found = decoding.read(path, True, report=report)
    # 1 % at each end is black and white, the middle stands in the middle.
    assert (found.min(), found.max(), np.median(found)) == (0, 255, pytest.approx(127, abs=1))
    assert (found == 0).mean() == pytest.approx(0.01, abs=0.005)
    assert "stretched by radiometric=percentile" in report.line()
    assert report.num_lost == 0
    cv2.imwrite(str(path), _counts(0, 65535))
    np.testing.assert_array_equal(decoding.read(path, True), _counts(0, 65535) >> 8)


def test_each_rule_does_what_its_name_says():
    counts = _counts(29_000, 31_000)  # 290 to 310 kelvin
    assert decoding.to_bytes(counts, "minmax", "x").flat[[0, -1]].tolist() == [0, 255]
    kelvin = decoding.to_bytes(counts, "kelvin:290,330", "x")
    assert kelvin.flat[[0, -1]].tolist() == [0, 127]
    degrees = (counts / 100).astype(np.float32)
    assert np.abs(decoding.to_bytes(degrees, "kelvin:290,330", "x").astype(int) - kelvin).max() <= 1
    hole = degrees.copy()
    hole[3, 3] = np.nan
    assert decoding.to_bytes(hole, "auto", "x")[3, 3] == 0
    flat = decoding.to_bytes(np.full((4, 4), 700, np.uint16), "percentile", "x")
    assert (flat == 0).all()
    with pytest.raises(InputError, match="no pixel is finite"):
        decoding.to_bytes(np.full((4, 4), np.nan, np.float32), "auto", "x")


@pytest.mark.parametrize(
    "rule", ["", "max", "kelvin", "kelvin:3", "kelvin:300,200", "kelvin:nan,1", "kelvin:0,inf"]
)
def test_an_unknown_rule_is_one_line(rule):
    with pytest.raises(InputError, match=r"radiometric is .*expected auto"):
        decoding.check_radiometric(rule)


def test_images_of_pillow_and_arrays_are_the_same_pictures():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    image = Image.fromarray(rgb)
    for one in (image, image.convert("RGBA")):
        assert decoding.is_picture(one)
        for bgr in (False, True):
            np.testing.assert_array_equal(decoding.picture(one, bgr), rgb[..., ::-1])
    palette = image.convert("P")  # numbers of colours, which are no colours
    np.testing.assert_array_equal(
        decoding.picture(palette, False), np.asarray(palette.convert("RGB"))[..., ::-1]
    )
    with pytest.raises(InputError, match="an image of mode I;16"):
        decoding.picture(Image.fromarray(rgb[..., 0].astype(np.uint16)), False)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "type NoneType"),
        (b"photo.jpg", "type bytes"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \(0, 4, 3\)"),
        (np.zeros((3, 4, 5), np.uint8), r"uint8 \(3, 4, 5\)"),
        (np.zeros((4, 4, 3)), "float64"),
    ],
)
def test_what_is_no_image_is_one_line(source, said):
    with pytest.raises(InputError, match=said):
        decoding.picture(source, False)
