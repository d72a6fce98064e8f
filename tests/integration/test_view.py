"""`jaxdet view`, its page in a browser, and the live page of `predict --view`."""

import json
import os
import re
import shutil

import browser
import cv2
import numpy as np
import pytest
import recordings_data
import tiny_detectors

from jaxdet import view
from jaxdet.data.events import dat
from jaxdet.detections import files
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.structs import Boxes
from jaxdet.training import setup
from jaxdet.viewing import viewer
from jaxdet.viewing.live_page import LivePage, StillsOnPage
from jaxdet.weights import checkpoint

START_US = 7_000_000
NAMES = ("car", "person")
# State of the page after each jump, and what is said of the picture.
_LOOK = """async () => {
  const jumps = [];
  for (const key of ["m", "m", "f"]) {
    dispatchEvent(new KeyboardEvent("keydown", {key}));
    await picture();  // decoding takes real time, which the page's virtual time does not wait for
    jumps.push([place, at("boxes").innerText]);
  }
  at("score").value = "0.95"; at("score").oninput();
  await picture();
  const pixels = at("picture").getContext("2d").getImageData(0, 0, 99, 99).data;
  return {jumps, high: at("boxes").innerText, pictures: view.moments.length,
          painted: pixels.some(v => v > 100)};
}"""


def _content(page):
    return json.loads(re.search(r'id="content">(.*?)</script>', page.read_text(), re.DOTALL)[1])


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A prepared recording of 600 ms, labelled every 50 ms from 200 ms on, whose clock starts at 7 s."""
    rng = np.random.default_rng(0)
    times = np.arange(200_000, 600_000, 50_000)
    events = recordings_data.chunk(rng, 3000, 600, 64, 64)
    root = tmp_path_factory.mktemp("view")
    rows = recordings_data.labels(times)
    return recordings_data.write(root, "test", "street", events, rows, 600, size=(64, 64), start_us=START_US)


@pytest.fixture(scope="module")
def page(recording, tmp_path_factory):
    """The page of the recording with boxes that are right but for one at 300 ms."""
    folder = tmp_path_factory.mktemp("page")
    frames = []
    for t_us in range(200_000, 600_000, 5_000):
        xyxy = np.array([[2.5, 1.5, 30.5, 21.5], [2.5, 1.5, 7.5, 6.5]])
        if t_us == 300_000:
            xyxy[0] += 40
        labels, where = np.array([0, 1], np.int32), {"source": "street", "time_us": START_US + t_us}
        frames.append(Boxes(xyxy, np.array([0.9, 0.4]), labels, NAMES, **where))
    files.write(folder / "found.csv", frames, NAMES)
    out = folder / "street.html"
    assert view.main([str(recording), f"--detections={folder / 'found.csv'}", f"--out={out}"]) == 0
    return out


def test_the_page_of_a_recording_pairs_labels_with_the_boxes_of_their_time(page):
    content = _content(page)
    assert len(content["moments"]) == 12
    assert content["classes"] == list(NAMES)
    assert set(content["moments"][0]["layers"]) == {"accumulated", "decayed"}
    labelled = [m for m in content["moments"] if m["truth"] is not None]
    assert len(labelled) == 8
    # The label at 300 ms is in the picture from 250 ms on: labels are at the end of a step.
    hits = [[box[7] for box in m["found"][0]] for m in labelled]
    assert hits.count([-1, 1]) == 1
    assert hits.count([0, 1]) == 7
    assert content["moments"][-1]["title"] == "7.600 s"


@pytest.mark.browser
def test_the_page_jumps_to_misses_and_false_alarms(page, tmp_path):
    found = browser.opened(page, tmp_path, _LOOK)
    assert found.console == []
    seen = found.seen
    assert seen["pictures"] == 12
    assert seen["painted"]
    wrong = next(
        i for i, m in enumerate(_content(page)["moments"]) if m["truth"] and m["found"][0][0][7] == -1
    )
    assert [place for place, _ in seen["jumps"]] == [wrong] * 3
    assert "2 boxes, 1 missed, 1 false" in seen["jumps"][0][1]
    assert "0 boxes, 2 missed, 0 false" in seen["high"]


@pytest.mark.browser
def test_a_live_page_shows_pictures_that_come_later(tmp_path, monkeypatch):
    look = """async () => {
      // Each turn asks the server, so that it takes real time: that of the page is virtual.
      for (let turn = 0; turn < 300 && view.moments.length < 5; turn++) {
        await (await fetch("moments?after=99")).json();
        await new Promise(done => setTimeout(done, 20));
      }
      await new Promise(done => setTimeout(done, 300));
      return [view.moments.map(m => m.title), at("now").innerText];
    }"""
    plain = viewer.page
    monkeypatch.setattr(viewer, "page", lambda *given: browser.looking(plain(*given), look))
    with LivePage("clip", ("car",), 0.3) as page:
        stills, answer, asked = StillsOnPage(page), page.answer, []

        def answer_and_go_on(path):
            found = answer(path)
            if path == "/moments?after=1" and path not in asked:
                for number in range(2, 5):
                    stills.add(np.full((40, 60, 3), 200, np.uint8), Boxes.none(source="clip", frame=number))
            asked.append(path)
            return found

        page.answer = answer_and_go_on
        for number in range(2):
            stills.add(np.full((40, 60, 3), 200, np.uint8), Boxes.none(source="clip", frame=number))
        titles, now = browser.seen(browser.run(page.url, tmp_path, "--dump-dom"))
    assert titles == [f"clip_{number:04d}" for number in range(5)]
    assert now.startswith("clip_0004")


def test_latents_and_boxes_of_weights_are_shown(recording, tmp_path, capsys):
    cfg = tiny_detectors.get_config("hmnet")
    _, variables = functional.split(from_config.build(cfg, 0))
    checkpoint.save_weights(tmp_path / "weights", variables, setup.as_json(cfg))
    out = tmp_path / "x.html"
    assert view.main([str(recording), f"--weights={tmp_path / 'weights'}", f"--out={out}", "--most=3"]) == 0
    content = _content(out)
    assert [len(m["maps"]) for m in content["moments"]] == [2, 2, 2]
    assert content["note"] == "the first 3 pictures"
    assert content["detectors"] == ["weights"]
    assert "3 pictures" in capsys.readouterr().out


def test_images_videos_and_boxes_have_pages(tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for number in range(3):
        picture = np.full((64, 96, 3), 60 * number, np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        writer.write(picture)
    writer.release()
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    box = {"class_names": NAMES}
    one = [np.array([[1.0, 2, 30, 40]]), np.array([0.8]), np.zeros(1, np.int32)]
    files.write(tmp_path / "i.npz", [Boxes(*one, **box, source=f"{n}.png") for n in range(2)], NAMES)
    files.write(tmp_path / "v.npz", [Boxes(*one, **box, source="clip", frame=2)], NAMES)
    counts = {}
    for name, source, boxes in (("i", folder, "i.npz"), ("v", tmp_path / "clip.avi", "v.npz")):
        out = tmp_path / f"{name}.html"
        status = view.main([str(source), f"--detections={tmp_path / boxes}", f"--out={out}"])
        assert status == (1 if name == "i" else 0)  # one of the images is damaged; the page has the others
        counts[name] = [len(m["found"][0]) for m in _content(out)["moments"]]
    assert "1 images could not be read" in capsys.readouterr().err
    assert "left out 1 images" in _content(tmp_path / "i.html")["note"]
    assert counts == {"i": [1, 1, 0], "v": [0, 0, 1]}
    assert view.main([str(tmp_path / "i.npz"), f"--out={tmp_path / 'b.html'}"]) == 0
    assert [m["size"] for m in _content(tmp_path / "b.html")["moments"]] == [[42, 32]] * 2


def test_a_cut_recording_is_shown_and_said_to_be_cut(tmp_path, caplog):
    rng = np.random.default_rng(0)
    events = recordings_data.chunk(rng, 500, 100, 64, 64)
    dat.write_dat(tmp_path / "cut_td.dat", events, 64, 64)
    os.truncate(tmp_path / "cut_td.dat", (tmp_path / "cut_td.dat").stat().st_size - 3)
    assert view.main([str(tmp_path / "cut_td.dat"), f"--out={tmp_path / 'x.html'}"]) == 0
    assert "bytes after the last whole event" in caplog.text
    assert "bytes after the last whole event" in _content(tmp_path / "x.html")["note"]


def test_boxes_of_a_recording_that_is_shorter_than_a_picture_are_shown(tmp_path):
    events = recordings_data.chunk(np.random.default_rng(0), 50, 4, 64, 64)
    dat.write_dat(tmp_path / "short_td.dat", events, 64, 64)
    one = [np.array([[1.0, 2, 30, 40]]), np.array([0.8]), np.zeros(1, np.int32)]
    files.write(tmp_path / "b.csv", [Boxes(*one, NAMES, source="short_td", time_us=5_000)], NAMES)
    out = tmp_path / "x.html"
    assert (
        view.main([str(tmp_path / "short_td.dat"), f"--detections={tmp_path / 'b.csv'}", f"--out={out}"]) == 0
    )
    assert [len(moment["found"][0]) for moment in _content(out)["moments"]] == [1]


def test_boxes_of_other_clocks_recordings_and_names_are_said_or_refused(recording, tmp_path, caplog, capsys):
    """Boxes that belong to no picture would leave a page that looks as if nothing had been found."""
    out, one = tmp_path / "x.html", [np.array([[1.0, 2, 30, 40]]), np.array([0.8]), np.zeros(1, np.int32)]
    for name, t_us in (("own", START_US + 200_000), ("late", 300_000)):
        files.write(tmp_path / f"{name}.csv", [Boxes(*one, NAMES, source="other", time_us=t_us)], NAMES)
    assert view.main([str(recording), f"--detections={tmp_path / 'late.csv'}", f"--out={out}"]) == 1
    assert "late.csv: none of 1 boxes belongs to one of the 12 pictures" in capsys.readouterr().err
    assert not out.exists()
    with caplog.at_level("INFO"):
        assert view.main([str(recording), f"--detections={tmp_path / 'own.csv'}", f"--out={out}"]) == 0
    assert "own.csv: boxes of other, taken for those of street" in caplog.text
    assert "labels names no classes; taken as car" in caplog.text


def test_labels_of_a_prepared_set_have_its_classes_whatever_a_file_of_boxes_names(recording, tmp_path):
    keys = {"width": 64, "height": 64, "label_interval_us": 50_000, "most_boxes": 2}
    keys |= {"most_labelled_times_in_200_ms": 4, "load": {}, "format_version": 1}
    root = tmp_path / "set"
    shutil.copytree(recording, root / "test" / "street")
    (root / "dataset.json").write_text(json.dumps({"classes": NAMES, **keys}))
    one = [np.array([[2.5, 1.5, 7.5, 6.5]]), np.array([0.8]), np.zeros(1, np.int32)]
    frame = Boxes(*one, ("person",), source="street", time_us=START_US + 200_000)
    files.write(tmp_path / "people.csv", [frame], ("person",))
    out = tmp_path / "x.html"
    flags = [str(root / "test" / "street"), f"--detections={tmp_path / 'people.csv'}", f"--out={out}"]
    assert view.main(flags) == 0
    content = _content(out)
    (box,) = (box for moment in content["moments"] for box in moment["found"][0] if box[7] != -2)
    assert content["classes"][int(box[5])] == "person"
    assert box[7] == 1  # the label of a person, which is the second


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["street", "--score=7"], "--score=7, expected 0 to 1"),
        (["missing.raw"], "no such file"),
        (["notes.bin"], "no video, image or file of boxes"),
        (["street", "--most=0"], "--most=0"),
        (["street", "--out=x.png"], "expected a page, .html"),
        (["street", "--labels=other_bbox.npy", "--detections=b.npz"], "has no time"),
    ],
)
def test_what_cannot_be_shown_is_one_line(recording, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.bin").write_bytes(b"hello " * 20)
    (tmp_path / "street").symlink_to(recording)
    files.write(tmp_path / "b.npz", [Boxes.none(source="a.jpg")], NAMES)
    assert view.main(flags) == 1
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not [*tmp_path.glob("*.html")]
