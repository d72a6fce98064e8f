import struct

import pytest

from jaxdet.data.images import containers

AVI = b"RIFF" + struct.pack("<I", 104) + b"AVI " + bytes(100)
MP4 = struct.pack(">I4s", 16, b"ftyp") + bytes(8) + struct.pack(">I4sQ", 1, b"mdat", 116) + bytes(100)
MKV = b"\x1a\x45\xdf\xa3\x84" + bytes(4) + b"\x18\x53\x80\x67" + b"\x40\x64" + bytes(100)


@pytest.mark.parametrize("whole", [AVI, MP4, MKV])
def test_a_container_that_is_longer_than_its_file_is_cut_short(tmp_path, whole):
    path = tmp_path / "x"
    for content, cut in ((whole, False), (whole + bytes(50), False), (whole[:-1], True)):
        path.write_bytes(content)
        assert containers.is_cut_short(path) is cut


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(200),
        b"\x1a\x45\xdf\xa3\x84" + bytes(4) + b"\x18\x53\x80\x67" + b"\x01" + b"\xff" * 7 + bytes(9),
        struct.pack(">I4s", 16, b"ftyp") + bytes(8) + struct.pack(">I4s", 0, b"mdat") + bytes(9),
        b"G" + bytes(187),
    ],
    ids=["empty", "zeros", "streamed Matroska", "MP4 to the end", "transport stream"],
)
def test_a_file_without_a_length_is_not_condemned(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert not containers.is_cut_short(tmp_path / "x")
