"""Score of LTDv2's board: published triples, CoV, months, and a submission from template to score."""

import json
import statistics

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxdet import class_names, evaluate, submit
from jaxdet.data.datasets import ltdv2
from jaxdet.detections import files
from jaxdet.errors import InputError
from jaxdet.evaluation import ltdv2_board
from jaxdet.formats import ltdv2 as submissions
from jaxdet.structs import Boxes

MONTHS = {month: f"{digits}00101" for digits, month in ltdv2.INTERVALS.items()}


@pytest.mark.parametrize(
    ("map50", "cov", "balance"),
    [(0.5053, 0.113303, 0.448077), (0.5582, 0.163621, 0.466827), (0.5827, 0.149571, 0.495547)],
)
def test_published_balances(map50, cov, balance):
    # The board prints mAP50 with four digits.
    assert ltdv2_board.balance(map50, cov) == pytest.approx(balance, abs=5e-5)


def test_cov_divides_by_seven_and_needs_eight_months():
    values = dict(zip(MONTHS, (0.5, 0.6, 0.4, 0.55, 0.45, 0.5, 0.7, 0.3)))
    expected = statistics.stdev(values.values()) / statistics.mean(values.values())
    assert ltdv2_board.coefficient(values) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(InputError, match=r"7 months.*missing are Apr"):
        ltdv2_board.coefficient({m: v for m, v in values.items() if m != "Apr"})
    assert ltdv2_board.coefficient(dict.fromkeys(MONTHS, 0.0)) is None
    assert ltdv2_board.balance(0.0, None) == 0


@pytest.fixture
def frames(tmp_path):
    """Labels of three frames a month and one of September; boxes that are moved, lost and invented."""
    rng, images, boxes, found = np.random.default_rng(0), [], [], {}
    for head in [*MONTHS.values(), "20200900101"]:
        for second in range(3):
            uid = f"{head}1200{second:02d}"
            images.append({"id": int(uid), "file_name": f"d/{uid}.jpg", "width": 384, "height": 288})
            rows = np.concatenate([rng.uniform(0, 200, (4, 2)), rng.uniform(10, 60, (4, 2))], 1).round(2)
            labels = rng.integers(0, 4, 4)
            for row, label in zip(rows.tolist(), labels.tolist()):
                boxes.append(
                    {"id": len(boxes) + 1, "image_id": int(uid), "category_id": label + 1, "bbox": row}
                )
            moved = np.concatenate([rows + rng.normal(0, 6, rows.shape), rows[:1] + 20])
            keep = rng.random(5) < 0.8
            xyxy = np.concatenate([moved[:, :2], moved[:, :2] + np.abs(moved[:, 2:])], 1)[keep]
            kinds = np.concatenate([labels, [0]])[keep].astype(np.int32)
            scores = rng.random(5)[keep]
            found[uid] = Boxes(xyxy, scores, kinds, class_names.LTDV2, image_id=int(uid))
    found[str(images[4]["id"])] = Boxes.none(image_id=images[4]["id"], class_names=class_names.LTDV2)
    categories = [{"id": 0, "name": "background"}]
    categories += [{"id": i, "name": name} for i, name in ltdv2.CATEGORIES.items()]
    labels = tmp_path / "Valid.json"
    labels.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    template = tmp_path / "template.json"
    template.write_text(json.dumps({uid: {} for uid in sorted(found, reverse=True)}))
    return labels, template, found


def _map50(annotations, entries, uids):
    """AP50 by pycocotools alone, from the files."""
    rows, chosen = [], {int(uid) for uid in uids}
    truth = COCO()
    truth.dataset = {
        **annotations,
        "categories": annotations["categories"][1:],
        "annotations": [
            {**row, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
            for row in annotations["annotations"]
        ],
    }
    truth.createIndex()
    for uid, entry in entries.items():
        for (x1, y1, x2, y2), score, label in zip(entry["boxes"], entry["scores"], entry["labels"]):
            rows.append(
                {
                    "image_id": int(uid),
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
    found = truth.loadRes(rows)
    evaluator = COCOeval(truth, found, "bbox")
    evaluator.params.imgIds = sorted(chosen)
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"][0, :, :, 0, 2]
    return precision[precision > -1].mean()


def test_from_boxes_to_submission_to_score(frames, tmp_path, capsys):
    labels, template, found = frames
    files.write(tmp_path / "boxes.json", list(found.values()), class_names.LTDV2)
    out = tmp_path / "submission.json"
    flags = [
        "--format=ltdv2",
        f"--detections={tmp_path / 'boxes.json'}",
        f"--template={template}",
        f"--out={out}",
    ]
    assert submit.main(flags) == 0
    entries = json.loads(out.read_text())
    assert list(entries) == list(json.loads(template.read_text()))
    empty = [uid for uid, boxes in found.items() if not len(boxes)]
    assert empty
    assert all(entries[uid] == {"boxes": [], "scores": [], "labels": []} for uid in empty)
    assert {label for entry in entries.values() for label in entry["labels"]} == {1, 2, 3, 4}

    numbers = tmp_path / "numbers.json"
    common = ["--metric=ltdv2", f"--annotations={labels}", f"--out={numbers}"]
    assert evaluate.main([*common, f"--detections={out}"]) == 0
    board = json.loads(numbers.read_text())["ltdv2"]
    annotations = json.loads(labels.read_text())
    months = {
        month: _map50(annotations, entries, [uid for uid in entries if uid.startswith(head[:6])])
        for month, head in MONTHS.items()
    }
    assert board["months"] == pytest.approx(months, abs=1e-9)
    whole = _map50(annotations, entries, entries)  # September counts here and in no month
    cov = statistics.stdev(months.values()) / statistics.mean(months.values())
    assert [board["map50"], board["cov"]] == pytest.approx([whole, cov], abs=1e-9)
    assert board["balance"] == pytest.approx((1 - cov) * whole, abs=1e-9)

    assert evaluate.main([*common, f"--detections={tmp_path / 'boxes.json'}"]) == 0
    again = json.loads(numbers.read_text())["ltdv2"]
    assert again["balance"] == pytest.approx(board["balance"], abs=1e-9)


def test_fewer_than_eight_months_are_refused(frames, tmp_path, capsys):
    labels, _, found = frames
    content = json.loads(labels.read_text())
    gone = {row["id"] for row in content["images"] if str(row["id"]).startswith("202104")}
    content["images"] = [row for row in content["images"] if row["id"] not in gone]
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] not in gone]
    labels.write_text(json.dumps(content))
    submissions.write(tmp_path / "s.json", found)
    flags = [f"--detections={tmp_path / 's.json'}", f"--annotations={labels}", f"--out={tmp_path / 'n.json'}"]
    assert evaluate.main(["--metric=ltdv2", *flags]) == 1
    assert "7 months" in capsys.readouterr().err
    assert not (tmp_path / "n.json").exists()


def test_a_submission_of_other_keys_is_refused(frames, tmp_path, capsys):
    _, template, found = frames
    content = json.loads(template.read_text())
    taken = sorted(content)[0]
    template.write_text(json.dumps({uid: {} for uid in content if uid != taken}))
    submissions.write(tmp_path / "boxes.json", found)
    out = tmp_path / "out.json"
    flags = [
        "--format=ltdv2",
        f"--detections={tmp_path / 'boxes.json'}",
        f"--template={template}",
        f"--out={out}",
    ]
    assert submit.main(flags) == 1
    assert f"frame {taken} is not in" in capsys.readouterr().err
    assert not out.exists()
    assert submit.main(flags[:2]) == 1
    assert "--template" in capsys.readouterr().err


def test_images_are_found_by_path_and_100_boxes_stay(frames, tmp_path):
    labels, template, _ = frames
    uid = json.loads(labels.read_text())["images"][0]["id"]
    scores = np.linspace(0.1, 0.9, 150)
    many = Boxes(
        np.tile([10.0, 10, 20, 20], (150, 1)),
        scores,
        np.zeros(150, np.int32),
        class_names.LTD,
        source=f"d/{uid}.jpg",
    )
    files.write(tmp_path / "boxes.npz", [many], class_names.LTD)
    out = tmp_path / "out.json"
    flags = [
        "--format=ltdv2",
        f"--detections={tmp_path / 'boxes.npz'}",
        f"--template={template}",
        f"--out={out}",
    ]
    assert submit.main([*flags, f"--annotations={labels}"]) == 0
    entry = json.loads(out.read_text())[str(uid)]
    assert entry["scores"] == scores[::-1][:100].tolist()


def test_entries_that_are_not_whole_are_named(tmp_path):
    path, uid = tmp_path / "x.json", "20200502114224046"
    for entry, said in (
        ({"boxes": [[0, 0, 1, 1]], "scores": [], "labels": [1]}, "1 boxes, 0 scores"),
        ({"boxes": [[0, 0, 1, 1]], "scores": [0.5], "labels": [0]}, "label 0, expected 1 to 4"),
        ({"boxes": [[0, 0, 1]], "scores": [0.5], "labels": [1]}, "finite numbers"),
        ({"boxes": []}, "the lists boxes, scores and labels"),
    ):
        path.write_text(json.dumps({uid: entry}))
        with pytest.raises(InputError, match=said):
            submissions.read(path)
    path.write_text("[]")
    with pytest.raises(InputError, match="submission of LTDv2"):
        submissions.read(path)
