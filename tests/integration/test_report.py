"""`evaluate --report`: a page whose numbers are those of the JSON, with every picture in it."""

import base64
import json
import re

import cv2
import numpy as np
import pytest
from browser import opened

from jaxdet import class_names, evaluate, reports
from jaxdet.data.events import recordings
from jaxdet.detections import files
from jaxdet.evaluation.diagnosis import diagnose
from jaxdet.evaluation.evaluator import evaluate as measure
from jaxdet.structs import Boxes

NAMES = ("person", "vehicle")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Folder with a report of images in two months; a picture is missing, all boxes of one are right."""
    root = tmp_path_factory.mktemp("report")
    rng, images, rows, found = np.random.default_rng(1), [], [], []
    for number, month in enumerate((1, 1, 7, 7, 7)):
        name = f"2021{month:02d}05_clip_3_1400_{number:04d}.jpg"
        images.append({"id": number, "file_name": name, "width": 96, "height": 72})
        boxes = np.concatenate([rng.integers(0, 40, (3, 2)), rng.integers(10, 30, (3, 2))], 1)
        labels = rng.integers(0, 2, 3)
        for box, label in zip(boxes.tolist(), labels.tolist()):
            row = {"image_id": number, "category_id": label + 1, "bbox": box, "iscrowd": 0}
            rows.append({"id": len(rows) + 1, "area": box[2] * box[3], **row})
        if number:
            (root / "images").mkdir(exist_ok=True)
            cv2.imwrite(str(root / "images" / name), rng.integers(0, 255, (72, 96), np.uint8))
        moved = boxes + (0 if number == 4 else rng.normal(0, 4, boxes.shape))
        scores = rng.random(3).round(3)
        found.append(Boxes.of_xywh(np.abs(moved), scores, labels, class_names=NAMES, source=name))
    categories = [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)]
    labels = root / "annotations.json"
    labels.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    files.write(root / "boxes.npz", found, NAMES)
    flags = [f"--detections={root / 'boxes.npz'}", f"--annotations={labels}", f"--out={root / 'n.json'}"]
    assert evaluate.main([*flags, f"--report={root / 'report'}"]) == 0
    return root


def _cells(text, title):
    """Rows of the table of the page whose first heading is `title`, by their first cell."""
    table = re.search(rf"<table><tr><th>{title}</th>.*?</table>", text).group()
    rows = re.findall(r"<tr><th>([^<]*)</th>((?:<td>[^<]*</td>)+)", table)
    return {name: re.findall(r"<td>([^<]*)</td>", cells) for name, cells in rows}


def test_numbers_of_the_page_are_those_of_the_json(page):
    numbers = json.loads((page / "n.json").read_text())
    text = (page / "report" / "report.html").read_text()
    stored = re.search(r'id="numbers">(.*?)</script>', text).group(1)
    assert json.loads(stored) == numbers
    shown = _cells(text, "metric")
    assert shown == {name: [f"{value:.4f}"] for name, value in numbers["statistics"].items()}
    for name, row in _cells(text, "month").items():
        part = numbers["diagnosis"]["parts"]["month"][name]
        assert row == [
            str(part["num_images"]),
            str(part["num_truth"]),
            f"{part['ap']:.4f}",
            f"{part['ap50']:.4f}",
        ]
    assert set(_cells(text, "month")) == {"2021-01", "2021-07"}
    for name, row in _cells(text, "kind").items():
        share = numbers["diagnosis"]["errors"][name]
        assert row == [str(share["count"]), f"{share['cost']:.4f}"]
    matrix = np.array(numbers["diagnosis"]["confusion"])
    assert matrix[:2].sum() == numbers["num_truth"]


def test_every_picture_is_in_the_page_and_beside_it(page):
    text = (page / "report" / "report.html").read_text()
    inside = [base64.b64decode(data) for data in re.findall(r'src="data:image/\w+;base64,([^"]+)"', text)]
    beside = sorted(p.read_bytes() for p in (page / "report").iterdir() if p.suffix in (".png", ".jpg"))
    assert sorted(inside) == beside
    for data in inside:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture.std() > 5  # not blank
    assert "://" not in text  # no network
    titles = re.findall(r"<figcaption>(\S+): \d+ missed, \d+ false( \(picture not at hand\))?", text)
    absent = {name for name, note in titles if note}
    assert absent == {"20210105_clip_3_1400_0000"}
    assert not any(name.endswith("_0004") for name, _ in titles)  # all of its boxes are right


def test_best_scores_have_the_best_f1(page):
    numbers = json.loads((page / "n.json").read_text())
    known = json.loads((page / "annotations.json").read_text())
    found = {boxes.source: boxes for boxes in files.read(page / "boxes.npz").frames}
    metrics = evaluate.of_files(page / "boxes.npz", annotations=page / "annotations.json")
    for name, best in numbers["diagnosis"]["best_scores"].items():
        label = NAMES.index(name)
        asked = sum(row["category_id"] == label + 1 for row in known["annotations"])
        scores = np.concatenate([b.scores[b.labels == label] for b in found.values()])
        # Recall at a threshold from the metric itself: the boxes below it are dropped.
        f1 = {}
        for score in scores:
            kept = [b.take((b.scores >= score) & (b.labels == label)) for b in found.values()]
            labels = metrics.matched.images
            part = measure(kept, _truth(known, labels, label), "coco", NAMES)
            hits = part.recall[0, label, 0, 2] * asked
            f1[float(score)] = 2 * hits / (sum(map(len, kept)) + asked)
        assert best["F1"] == pytest.approx(max(f1.values()))
        assert f1[best["score"]] == pytest.approx(max(f1.values()))


def _truth(known, images, label):
    for image in images:
        rows = [
            row["bbox"]
            for row in known["annotations"]
            if row["image_id"] == image.image_id and row["category_id"] == label + 1
        ]
        yield Boxes.of_xywh(
            np.array(rows, float), np.ones(len(rows)), [label] * len(rows), source=image.source
        )


@pytest.fixture
def page_of_events(tmp_path):
    """Folder with a report of two recordings: the box of the first is right, that of the second in place."""
    labels, found = [], []
    for name in ("one", "two"):
        x = np.arange(40)
        chunk = recordings.EventChunk(np.full(40, 980_500), x, x, np.ones(40, np.int8))
        words = recordings.pack(chunk)
        index = recordings.index(chunk.t_us, 1500)
        info = {"width": 64, "height": 48, "duration_ms": 1500, "label_interval_us": 0}
        recordings.write(tmp_path / name, words, index, np.zeros(0, recordings.LABEL_DTYPE), info)
        where = {"source": name, "time_us": 1_000_000, "class_names": class_names.GEN1}
        box = [[4.0, 4, 40, 30]]
        labels.append(Boxes.of_xywh(box, np.ones(1), [0], **where))
        found.append(Boxes.of_xywh(box if name == "one" else [[30.0, 8, 30, 36]], [0.9], [0], **where))
    metrics = measure(found, labels, "hmnet", class_names.GEN1)
    diagnosis = diagnose(metrics)
    numbers = {**metrics.as_json(), "diagnosis": diagnosis.as_json()}
    reports.write(tmp_path / "report", metrics, diagnosis, numbers, [tmp_path])
    return tmp_path


def test_events_are_drawn_and_divided_by_recording(page_of_events):
    text = (page_of_events / "report" / "report.html").read_text()
    numbers = json.loads(re.search(r'id="numbers">(.*?)</script>', text).group(1))
    assert {name: row[3] for name, row in _cells(text, "recording").items()} == {
        "one": "1.0000",
        "two": "0.0000",
    }
    assert _cells(text, "metric") == {n: [f"{value:.4f}"] for n, value in numbers["statistics"].items()}
    errors = {
        kind: share["count"] for kind, share in numbers["diagnosis"]["errors"].items() if share["count"]
    }
    assert errors == {"place": 1}  # alone: a box of the right class at the wrong place
    assert "not at hand" not in text
    picture = cv2.imread(str(page_of_events / "report" / "worst_01.jpg"))
    assert picture.max() > 200  # the events are light
    assert not (page_of_events / "report" / "worst_02.jpg").exists()


@pytest.mark.browser
def test_the_page_opens_in_a_browser(page, tmp_path):
    found = opened(page / "report" / "report.html", tmp_path)
    assert found.console == []
    files = [p for p in (page / "report").iterdir() if p.suffix in (".png", ".jpg")]
    assert len(found.seen) == len(files)
    sizes = sorted(cv2.imread(str(p)).shape[1::-1] for p in files)
    assert sorted((width, height) for _, width, height, _ in found.seen) == sizes
    assert all(complete and shown > 100 for complete, _, _, shown in found.seen)
    assert cv2.imread(str(found.shot)).std() > 20


@pytest.mark.browser
def test_the_page_of_events_opens_in_a_browser(page_of_events, tmp_path):
    found = opened(page_of_events / "report" / "report.html", tmp_path)
    assert found.console == []
    assert all(complete and min(width, height, shown) > 100 for complete, width, height, shown in found.seen)
    assert len(found.seen) == len([p for p in (page_of_events / "report").iterdir() if p.suffix != ".html"])
    assert cv2.imread(str(found.shot)).std() > 20
