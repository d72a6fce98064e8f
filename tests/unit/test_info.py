"""`jaxdet info`: the lines and the JSON of a recording, and one line for other files."""

import json

import numpy as np

from jaxdet import __main__ as door
from jaxdet.data.events import dat
from jaxdet.data.events.streams import EventChunk


def write(path):
    t = np.array([1_000, 2_000, 500_000])
    dat.write_dat(path, EventChunk(t, np.array([3, 3, 40]), np.array([2, 2, 0]), np.array([1, 0, 1])), 32, 24)


def test_lines_of_a_recording(tmp_path, capsys):
    write(tmp_path / "a.dat")
    assert door.main(["info", str(tmp_path / "a.dat")]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines()[1:5])
    assert lines["format"] == "dat"
    assert (lines["sensor"], lines["events"]) == ("32x24", "2")
    assert lines["time"] == "1000 to 2000 us, 0.001000 s"


def test_json_and_another_sensor(tmp_path, capsys):
    write(tmp_path / "a.dat")
    assert door.main(["info", str(tmp_path / "a.dat"), "--json", "--sensor=64x48"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["sensor"], facts["events"], facts["left_out"]) == ([64, 48], 3, {})
    assert facts["gaps"] == [[2_000, 500_000]]
    assert door.main(["info", str(tmp_path / "a.dat"), "--sensor=64"]) == 1
    assert "expected WIDTHxHEIGHT" in capsys.readouterr().err


def test_files_of_other_kinds_are_one_line_with_the_command_that_reads_them(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 no events")
    assert door.main(["info", str(tmp_path / "a.jpg")]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "an image, for `jaxdet predict --input=" in captured.err
    assert door.main(["info", str(tmp_path / "none.raw")]) == 1
    assert "no such file" in capsys.readouterr().err.lower()
