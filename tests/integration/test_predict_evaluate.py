"""From a recording to boxes, video and numbers, with a small HMNet of random weights."""

import json

import cv2
import numpy as np
import pytest
from flax import nnx

from jaxdet import evaluate, models, predict
from jaxdet.data.datasets import gen1, preparation
from jaxdet.data.events import dat
from jaxdet.data.events.streams import EventChunk
from jaxdet.detections import store
from jaxdet.formats import npy
from jaxdet.nn import functional
from jaxdet.structs import EventGeometry
from jaxdet.viewing import drawing
from jaxdet.weights import checkpoint

HEIGHT, WIDTH, DURATION_MS = 48, 64, 700
CONFIG = """
from jaxdet import config as c

def get_config():
    cfg = c.base()
    sizes = dict(widths=(16, 16), num_heads=(1, 1), depths=(1, 1), periods=(1, 3))
    cfg.model = c.hmnet("b3", 2, **sizes, out_features=16)
    cfg.model.image_size, cfg.model.event_sizes = (48, 64), (128,)
    cfg.data = c.gen1(root={root!r})
    cfg.data.height, cfg.data.width = 48, 64
    cfg.data.event_buckets = (4096,)
    return cfg
"""


def _events(seed):
    rng = np.random.default_rng(seed)
    count = DURATION_MS * 10
    t = np.sort(rng.integers(0, DURATION_MS * 1000, count))
    t[-1] = DURATION_MS * 1000 - 1
    x, y, p = (rng.integers(0, limit, count) for limit in (WIDTH, HEIGHT, 2))
    return EventChunk(t, x.astype(np.int16), y.astype(np.int16), p.astype(np.int8))


def _labels(seed):
    rng = np.random.default_rng(seed)
    boxes = np.zeros(6, dat.BOX_DTYPE)
    boxes["t"] = 505_000 + rng.integers(0, 4_000) + 30_000 * np.arange(6)
    boxes["x"], boxes["y"] = rng.uniform(0, 20, 6), rng.uniform(0, 10, 6)
    boxes["w"], boxes["h"], boxes["class_id"] = 30, 30, rng.integers(0, 2, 6)
    return boxes


def _weights(folder, cfg_model):
    """Random weights whose boxes are about 30 pixels wide and score between 0 and 1."""
    _, variables = functional.split(models.build("hmnet", rngs=nnx.Rngs(3), **cfg_model))
    rng = np.random.default_rng(4)
    for level in variables.params["head"]["levels"].values():
        level["obj_pred"]["bias"] = np.full_like(level["obj_pred"]["bias"], -0.5)
        level["cls_pred"]["bias"] = np.full_like(level["cls_pred"]["bias"], -0.5)
        for name in ("obj_pred", "cls_pred"):
            kernel = level[name]["kernel"]
            level[name]["kernel"] = rng.standard_normal(kernel.shape).astype(np.float32)
    for stride, level in zip((4, 8, 16), variables.params["head"]["levels"].values()):
        bias = np.array([0, 0, np.log(30 / stride), np.log(30 / stride)], np.float32)
        level["reg_pred"]["bias"] = bias
    checkpoint.save_weights(folder, variables, {})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("end_to_end")
    for seed, name in enumerate(("rec_a", "rec_b", "rec_c")):
        dat.write_dat(folder / "source" / "test" / f"{name}_td.dat", _events(seed), WIDTH, HEIGHT)
        dat.write_boxes(folder / "source" / "test" / f"{name}_bbox.npy", _labels(seed))
    report = gen1.make(folder / "source", folder / "data", gen1.Gen1Options(duration_ms=None), workers=1)
    preparation.finish(folder / "data", report)
    (folder / "tiny.py").write_text(CONFIG.format(root=str(folder / "data")))
    arguments = {"geometry": EventGeometry(48, 64), "widths": (16, 16), "num_heads": (1, 1), "depths": (1, 1)}
    _weights(folder / "weights", {**arguments, "periods": (1, 3), "out_features": 16, "num_classes": 2})
    return folder


def _run(command, place, *arguments):
    return command.main([f"--config={place / 'tiny.py'}", f"--weights={place / 'weights'}", *arguments])


def test_a_file_gives_boxes_and_a_video_of_them(place, monkeypatch):
    out, film = place / "a.npy", place / "a.mp4"
    drawn, draw = [], drawing.draw

    def spy(picture, boxes, names, scale, min_score):
        shown = boxes.take(boxes.scores >= min_score)
        drawn.append((shown.xyxy, shown.scores, shown.labels))
        return draw(picture, boxes, names, scale, min_score)

    monkeypatch.setattr(drawing, "draw", spy)
    source = place / "source" / "test" / "rec_a_td.dat"
    rendering = [f"--render={film}", "--render_stride=7", "--render_score=0.1"]
    assert _run(predict, place, f"--input={source}", f"--out={out}", *rendering) == 0
    table = npy.read_table(out)
    assert table.dtype == npy.ROWS
    assert len(table) > 100
    # The slower of two memories is published at the step after its first cycle.
    assert table["t"].min() == 4 * 5_000
    assert table["t"].max() == DURATION_MS * 1000
    assert (np.diff(table["t"]) >= 0).all()
    same_step = np.diff(table["t"]) == 0
    assert (np.diff(table["class_confidence"])[same_step] <= 0).all()
    assert table["x"].min() >= 0
    assert (table["x"] + table["w"]).max() <= WIDTH + 1e-4
    video = cv2.VideoCapture(str(film))
    count = 0
    while video.read()[0]:
        count += 1
    assert count == (DURATION_MS // 5) // 7
    # Every box of a picture is a row of the file, at the time of the picture's last step.
    assert len(drawn) == count
    rows = {tuple(row) for row in table[["t", "x", "y", "w", "h", "class_id", "class_confidence"]].tolist()}
    of_pictures = [
        (7 * number * 5_000, *np.r_[box[:2], box[2:] - box[:2]].tolist(), int(label), float(score))
        for number, picture in enumerate(drawn, 1)
        for box, score, label in zip(*picture, strict=True)
    ]
    assert len(of_pictures) > 10
    assert rows.issuperset(of_pictures)
    # The prepared recording is the same recording.
    prepared = place / "data" / "test" / "rec_a"
    assert _run(predict, place, f"--input={prepared}", f"--out={place / 'b.npy'}") == 0
    assert (place / "b.npy").read_bytes() == out.read_bytes()
    # At 913 s of a clock, and from a camera of twice the size, the boxes are the same, elsewhere.
    events = _events(0)
    late = events._replace(t_us=events.t_us + 913_000_000, x=2 * events.x + 1, y=2 * events.y)
    dat.write_dat(place / "late_td.dat", late, 2 * WIDTH, 2 * HEIGHT)
    parts = ["--render=" + str(place / "late.png"), "--render_stride=1000"]
    assert _run(predict, place, f"--input={place / 'late_td.dat'}", f"--out={place / 'late.h5'}", *parts) == 0
    with store.read(place / "late.h5") as reader:
        assert reader.metadata["fit"]["name"] == "bin"
        rows = np.concatenate([npy.rows_of(boxes) for boxes in reader.frames("late")])
    assert (rows["t"] - 913_000_000).tolist() == table["t"].tolist()
    for field in ("x", "y", "w", "h"):
        np.testing.assert_allclose(rows[field], 2 * table[field], atol=1e-4)
    assert cv2.imread(str(place / "late.png")).shape[1] % (2 * WIDTH) == 0
    # With tracks the boxes are the same, and those that are sure belong to one.
    tracked = ["--track", "--track_score=0.15", f"--out={place / 'c.npy'}"]
    assert _run(predict, place, f"--input={prepared}", *tracked) == 0
    with_tracks = npy.read_table(place / "c.npy")
    sure = with_tracks["class_confidence"] >= 0.15
    assert sure.any()
    assert (with_tracks["track_id"][sure] > 0).all()
    with_tracks["track_id"] = 0
    np.testing.assert_array_equal(with_tracks, table)


def test_numbers_of_the_model_are_those_of_its_files(place):
    parts = place / "parts"
    for chunk in ("0/2", "1/2"):
        assert _run(predict, place, "--split=test", f"--chunk={chunk}", f"--out={parts}") == 0
    # Earlier parts are longer.
    for name, recordings in (("detections_0of2.h5", ["rec_a", "rec_b"]), ("detections_1of2.h5", ["rec_c"])):
        with store.read(parts / name) as reader:
            assert reader.names == recordings
            for recording in recordings:
                table = npy.read_table(parts / f"{recording}_td.npy")
                rows = [npy.rows_of(boxes) for boxes in reader.frames(recording)]
                np.testing.assert_array_equal(np.concatenate(rows), table)
    numbers = {}
    for kind, arguments in {
        "sparse": [f"--weights={place / 'weights'}"],
        "full": [f"--weights={place / 'weights'}", "--full"],
        "npy": [f"--detections={parts}"],
        "files": [f"--detections={parts}", f"--labels={place / 'source' / 'test'}"],
    }.items():
        out = place / f"{kind}.json"
        assert evaluate.main([f"--config={place / 'tiny.py'}", f"--out={out}", *arguments]) == 0
        content = json.loads(out.read_text())
        numbers[kind] = {**content["statistics"], **content["classes"]}
    assert numbers["full"]["AP50"] > 0
    for kind, values in numbers.items():
        assert values == numbers["full"], kind


def test_what_is_left_out_of_a_recording_is_stored_with_its_boxes(place, tmp_path, caplog):
    rng = np.random.default_rng(7)
    x, y, p = (rng.integers(0, limit, 5_000) for limit in (WIDTH, HEIGHT, 2))
    x[0] = WIDTH
    burst = EventChunk(np.sort(rng.integers(0, 80_000, 5_000)), *(a.astype(np.int16) for a in (x, y, p)))
    dat.write_dat(tmp_path / "burst_td.dat", burst, WIDTH, HEIGHT)
    arguments = [f"--input={tmp_path / 'burst_td.dat'}", f"--out={tmp_path / 'b.h5'}"]
    assert _run(predict, place, *arguments) == 0
    # One segment, whose bucket holds 4096 events.
    beyond = 5_000 - 1 - 4096
    told = {"events outside the sensor": 1, "events beyond the largest of data.event_buckets": beyond}
    assert all(f"{count} {reason}" in caplog.text for reason, count in told.items())
    with store.read(tmp_path / "b.h5") as reader:
        assert reader.metadata["left_out"] == told
    assert _run(predict, place, *arguments, "--strict") == 1


@pytest.mark.slow  # another size of segments is another program
def test_what_is_left_out_of_a_split_is_stored_with_its_boxes_and_numbers(place, tmp_path):
    # Segments of 18 steps, which are cut to the largest common length that the bucket holds.
    steps = np.stack([np.bincount(_events(seed).t_us // 5_000, minlength=8 * 18) for seed in range(3)])
    kept = [
        max(total for most in range(51) if (total := np.minimum(segment, most).sum()) <= 600)
        for segment in steps.reshape(-1, 18)
    ]
    beyond = int(steps.sum() - sum(kept))
    small = "--config.data.event_buckets=(600,)"
    assert _run(predict, place, "--split=test", f"--out={tmp_path}", small) == 0
    with store.read(tmp_path / "detections.h5") as reader:
        assert list(reader.metadata["left_out"].values()) == [beyond]
    assert _run(evaluate, place, "--full", f"--out={tmp_path / 'm.json'}", small) == 0
    assert list(json.loads((tmp_path / "m.json").read_text())["left_out"].values()) == [beyond]
    assert beyond > 0


@pytest.mark.slow  # compiles each step of the cycle in three sizes
def test_speed_is_told_step_by_step(place, capsys):
    assert _run(predict, place, "--speed_test", "--split=test", "--chunk=0/2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["rec_a", "rec_b"]
    for line in lines:
        assert line.split()[1] == str(DURATION_MS // 5 - 1)  # the last step ends after the last event
        values = {
            name: float(line.split(f" {name} ")[1].split()[0])
            for name in ("mean", "p50", "p99", "min", "max")
        }
        assert 0 < values["min"] <= values["p50"] <= values["p99"] <= values["max"]


def test_bad_input_is_one_line(place, capsys, tmp_path):
    dat.write_dat(tmp_path / "large_td.dat", _events(0), 320, 240)
    dat.write_dat(tmp_path / "plain_td.dat", _events(0)._replace(x=_events(0).x + 10), None, None)
    cases = (
        (
            [f"--input={tmp_path / 'large_td.dat'}", f"--out={tmp_path / 'x.npy'}", "--fit=none"],
            "320x240 pixels, the model sees 64x48",
        ),
        ([f"--input={tmp_path / 'plain_td.dat'}", f"--out={tmp_path / 'x.npy'}"], "the model sees 64x48"),
        ([f"--input={tmp_path / 'none.dat'}", f"--out={tmp_path / 'x.npy'}"], "no such file"),
        ([f"--input={place / 'source/test/rec_a_td.dat'}"], "give --out, --render or both"),
        (["--chunk=2/2", f"--out={tmp_path / 'y'}"], "--chunk=2/2"),
    )
    for arguments, message in cases:
        assert _run(predict, place, *arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "x.npy").exists()
