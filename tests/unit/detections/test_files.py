"""Files of boxes by suffix: early refusals, ids and names in the output, Seq-NMS from each."""

import json

import numpy as np
import pytest

from jaxdet import class_names
from jaxdet import seqnms as command
from jaxdet.detections import files, store
from jaxdet.errors import InputError
from jaxdet.formats import coco, names, pickle, plain_pickle
from jaxdet.postprocess import overlaps, seqnms
from jaxdet.structs import Boxes

CLIP = "20210901_clip_1_0001"


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch):
    monkeypatch.setattr(overlaps, "_FRAME_SIZES", (64,))
    monkeypatch.setattr(overlaps, "_BOX_SIZES", (16,))


def _frame(source, *rows, dtype=np.float64):
    table = np.array(rows, dtype).reshape(-1, 6)
    labels = table[:, 5].astype(np.int32)
    return Boxes(table[:, :4], table[:, 4], labels, class_names.LTD, source=source, image_size=(288, 384))


@pytest.fixture
def walk():
    """One object that moves 2 pixels a frame for 6 frames, seen twice in some."""
    frames = []
    for t in range(6):
        rows = [(10 + 2 * t, 20, 40 + 2 * t, 60, 0.4 + 0.1 * t, 1)]
        if t % 2:
            rows.append((12 + 2 * t, 21, 41 + 2 * t, 61, 0.3, 1))
        frames.append(_frame(f"{CLIP}_{t:04d}", *rows))
    return frames


@pytest.mark.parametrize("suffix", ["npz", "txt", "json", "h5", "pkl", "csv"])
def test_seqnms_gives_the_same_from_every_format(walk, tmp_path, suffix):
    source, out = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    files.write(source, walk, class_names.LTD)
    assert command.main([f"--detections={source}", "--min_score=0.5", f"--out={out}"]) == 0
    found = files.read(out)
    assert found.has_scores == (suffix != "pkl")
    assert len(found.frames) == len(walk)
    for t, boxes in enumerate(found.frames):
        np.testing.assert_allclose(boxes.xyxy, [[10 + 2 * t, 20, 40 + 2 * t, 60]], atol=1e-5)
        if found.has_scores:
            np.testing.assert_allclose(boxes.scores, [0.65], atol=1e-5)  # the mean of 0.4 to 0.9
        if found.class_names:
            assert [found.class_names[label] for label in boxes.labels] == ["bicycle"]


@pytest.mark.parametrize("suffix", ["npz", "json", "h5", "pkl", "csv"])
def test_perfect_boxes_have_an_average_precision_of_one(walk, tmp_path, suffix, caplog):
    """Labels as LTD annotations by frame name, and COCO annotations whose ids rise while the classes fall."""
    caplog.set_level("INFO")
    folder = tmp_path / "annotations" / "20210901" / "clip_1_0001"
    folder.mkdir(parents=True)
    images, rows = [], []
    for t, boxes in enumerate(walk):
        boxes = boxes.take(slice(0, 1))
        x1, y1, x2, y2 = (int(v) for v in boxes.xyxy[0])
        (folder / f"annotations_{t:04d}.txt").write_text(f"1 bicycle {x1} {y1} {x2} {y2}\n")
        images.append({"id": 50 - t, "file_name": f"Test/{boxes.source}.jpg"})
        rows.append({"image_id": 50 - t, "category_id": 6, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    categories = [{"id": 9 - i, "name": name} for i, name in enumerate((*class_names.LTD, "tree"))]
    categories[1]["id"], categories[3]["id"] = 6, 8
    content = {"images": images, "annotations": rows, "categories": categories}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    source = tmp_path / f"in.{suffix}"
    files.write(source, walk, class_names.LTD)
    for labels in (tmp_path / "annotations", tmp_path / "labels.json"):
        if suffix == "pkl" and labels.suffix:
            continue  # it has no class names, and these categories are in another order
        out = f"--out={tmp_path / 'out.csv'}"
        assert command.main([f"--detections={source}", out, f"--labels={labels}"]) == 0
        assert "after AP 1.0000" in caplog.messages[-1]


def test_labels_of_other_frames_or_classes_are_an_error(walk, tmp_path, capsys):
    files.write(tmp_path / "in.npz", walk, class_names.LTD)
    for file_name, name, message in (
        ("20990901_clip_1_0001_0000.jpg", "bicycle", "none of"),
        (f"{CLIP}_0000.jpg", "tree", "classes|class"),
    ):
        content = {
            "images": [{"id": 1, "file_name": file_name}],
            "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
            "categories": [{"id": 1, "name": name}],
        }
        (tmp_path / "labels.json").write_text(json.dumps(content))
        arguments = [f"--detections={tmp_path}/in.npz", f"--labels={tmp_path}/labels.json"]
        assert command.main([*arguments, f"--out={tmp_path}/out.npz"]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert any(part in lines[0] for part in message.split("|"))


def test_clips_are_rescored_apart():
    box = (10, 10, 50, 50)
    frames = [
        _frame("20210901_clip_1_00011_0000", (*box, 0.2, 0)),
        _frame(f"{CLIP}_0000", (*box, 0.9, 0)),
        _frame(f"{CLIP}_0001", (*box, 0.8, 0)),
    ]
    result = {boxes.source: boxes for boxes in seqnms.rescore(frames, seqnms.SeqNMSOptions(min_score=0.1))}
    assert result["20210901_clip_1_00011_0000"].scores.tolist() == [0.2]
    np.testing.assert_allclose(result[f"{CLIP}_0000"].scores, [0.85], rtol=1e-15)


@pytest.mark.parametrize("suffix", ["h5", "npz", "csv", "json"])
def test_a_gap_is_skipped_as_in_a_pickle(tmp_path, walk, suffix):
    """These files know frames without boxes, the pickle leaves them out; all must link across."""
    gap = [boxes.take(slice(0)) if t in (2, 3) else boxes for t, boxes in enumerate(walk)]
    for kind in (suffix, "pkl"):
        files.write(tmp_path / f"in.{kind}", gap, class_names.LTD)
        assert command.main([f"--detections={tmp_path}/in.{kind}", f"--out={tmp_path}/{kind}.pkl"]) == 0
    assert len(plain_pickle.load(tmp_path / "pkl.pkl")) == 4
    assert plain_pickle.load(tmp_path / f"{suffix}.pkl") == plain_pickle.load(tmp_path / "pkl.pkl")


def test_seqnms_of_a_detections_file_sees_its_numbers_unrounded(tmp_path):
    """Half a millionth of a pixel decides what float32 holds, three decimals do not."""
    score = np.float32(0.7000004)
    frames = [_frame(f"a_{t}", (1.00049, 2, 30.00051, 40, score, 0), dtype=np.float32) for t in range(3)]
    files.write(tmp_path / "in.h5", frames, class_names.LTD)
    assert command.main([f"--detections={tmp_path}/in.h5", f"--out={tmp_path}/out.npz"]) == 0
    for before, after in zip(frames, files.read(tmp_path / "out.npz").frames, strict=True):
        np.testing.assert_array_equal(after.xyxy, before.xyxy.astype(np.float64))
        np.testing.assert_allclose(after.scores, float(score), rtol=1e-12)


def test_scores_are_needed_to_rescore(tmp_path, walk, capsys):
    pickle.write_without_scores(tmp_path / "x.pkl", walk, numpy_numbers=False)
    assert command.main([f"--detections={tmp_path}/x.pkl", f"--out={tmp_path}/y.pkl"]) == 1
    assert "without scores" in capsys.readouterr().err


def test_ids_of_coco_results_come_through_seqnms(tmp_path):
    rows = [{"image_id": 17, "category_id": 3, "bbox": [1.1, 2.2, 3.3, 4.4], "score": 0.75}]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    assert command.main([f"--detections={tmp_path}/x.json", f"--out={tmp_path}/y.json"]) == 0
    assert json.loads((tmp_path / "y.json").read_text()) == rows


def test_results_have_the_category_ids_of_coco_or_count_from_one(tmp_path, caplog):
    caplog.set_level("INFO")
    bear = class_names.COCO.index("bear")
    for classes, label, category in ((class_names.COCO, bear, 23), (class_names.LTD, 3, 4)):
        boxes = Boxes(np.ones((1, 4)), np.ones(1), np.array([label], np.int32), classes, source="x.jpg")
        with files.writer(tmp_path / "x.json", classes) as append:
            append(boxes)
        (row,) = json.loads((tmp_path / "x.json").read_text())
        assert (row["category_id"], row["category_name"]) == (category, classes[label])
    assert "the category ids are 1 human, 2 bicycle, 3 motorcycle, 4 vehicle" in caplog.text


@pytest.fixture
def annotated(tmp_path):
    content = {
        "images": [{"id": 5, "file_name": "a/1.jpg"}, {"id": 6, "file_name": "b/1.jpg"}],
        "annotations": [],
        "categories": [{"id": 40, "name": "human"}, {"id": 30, "name": "bicycle"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return tmp_path / "labels.json"


def test_results_take_the_ids_of_annotations_by_path_and_name(tmp_path, annotated):
    sources = ["b/1.jpg", "a/1.jpg"]
    with files.writer(
        tmp_path / "x.json", class_names.LTD[:2], sources=sources, annotations=annotated
    ) as append:
        for source in sources:
            append(_frame(source, (1, 2, 3, 4, 0.5, 1)))
    rows = json.loads((tmp_path / "x.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(6, 30), (5, 30)]
    found = files.read(tmp_path / "x.json", coco.read_annotations(annotated))
    assert [found.class_names[boxes.labels[0]] for boxes in found.frames] == ["bicycle", "bicycle"]


@pytest.mark.parametrize(
    ("classes", "sources", "message"),
    [
        (class_names.LTD, ["a/1.jpg"], "no category 'motorcycle'; expected the 4 of the model"),
        (class_names.LTD[:2], ["c/3.jpg", "c/4.jpg"], "none of the 2 images, such as c/3.jpg, is in it"),
    ],
)
def test_annotations_of_other_images_or_classes_are_refused_before_the_work(
    tmp_path, annotated, classes, sources, message
):
    with (
        pytest.raises(InputError, match=message),
        files.writer(tmp_path / "x.json", classes, sources=sources, annotations=annotated),
    ):
        pytest.fail("the work began")


@pytest.mark.parametrize(
    ("name", "key", "sources", "message"),
    [
        ("x.pkl", "name", ["a/1.jpg", "b/1.jpg"], "2 images are called 1"),
        ("x.txt", "name", ["a/1.jpg", "b/1.jpg"], "2 recordings or clips, and a .txt holds one"),
        ("x.npy", "name", ["a.jpg"], ".npy holds boxes of a recording"),
        ("x.npy", "t_us", ["a", "b"], "2 recordings or clips, and a .npy holds one"),
        ("folder", "t_us", ["a"], "YOLO text holds boxes of images"),
        ("x.xml", "name", ["a.jpg"], "suffix .xml; expected one of .h5"),
    ],
)
def test_what_a_format_cannot_hold_is_said_before_the_work(tmp_path, name, key, sources, message):
    with (
        pytest.raises(InputError, match=message),
        files.writer(tmp_path / name, class_names.LTD, key=key, sources=sources),
    ):
        pytest.fail("the work began")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.h5", "x.json", "x.npz", "x.csv", "folder"])
def test_two_images_of_one_name_in_two_folders_stay_two(tmp_path, name):
    sources = ["a/1.jpg", "b/1.jpg"]
    files.write(
        tmp_path / name, [_frame(s, (1, 2, 3, 4, 0.5, i)) for i, s in enumerate(sources)], class_names.LTD
    )
    annotations = coco.Annotations(
        [_frame(source) for source in sources], class_names.LTD, (1, 2, 3, 4), None
    )
    found = files.read(tmp_path / name, annotations if name == "folder" else None)
    classes = {boxes.source: boxes.labels.tolist() for boxes in found.frames}
    assert set(classes) == set(sources)
    assert classes["a/1.jpg"] != classes["b/1.jpg"]


@pytest.mark.parametrize("name", ["x.h5", "x.json", "x.pkl", "x.npz", "x.txt", "x.csv", "x.npy"])
def test_numbers_that_are_not_finite_are_refused_and_leave_no_file(tmp_path, name):
    time_us = 5 if name == "x.npy" else None
    boxes = Boxes(np.full((1, 4), np.nan), np.ones(1), np.zeros(1, int), source="a_1", time_us=time_us)
    with pytest.raises(InputError, match="not finite"):
        files.write(tmp_path / name, [boxes])
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_not_there_or_repeat_a_frame_are_named(tmp_path, walk):
    with pytest.raises(InputError, match=r"x.npz: no such file"):
        files.read(tmp_path / "x.npz")
    with store.create(tmp_path / "x.h5", ["a"], "name") as writer:
        writer.append(walk[0])
        writer.append(walk[0])
    with pytest.raises(InputError, match=f"frame {names.path_name(walk[0])} appears twice"):
        files.read(tmp_path / "x.h5")


def test_a_folder_of_recordings_is_read_by_name(tmp_path):
    for name in ("day", "night"):
        boxes = Boxes(np.ones((1, 4)), np.ones(1), np.zeros(1, int), source=name, time_us=5)
        files.write(tmp_path / f"{name}_td.npy", [boxes])
    assert [boxes.source for boxes in files.read(tmp_path).frames] == ["day", "night"]


@pytest.mark.parametrize(
    "source", ["../x.jpg", "..", "/x.jpg", "a/../../b.jpg", "a\nb", "a\x1b[2J", "a//b", ""]
)
@pytest.mark.parametrize("name", ["folder", "x.json"])
def test_names_that_lead_elsewhere_are_refused_before_the_work(tmp_path, name, source):
    opened = files.writer(tmp_path / "sub" / name, class_names.LTD, sources=["a.jpg", source])
    with pytest.raises(InputError, match="name of an image") as error, opened:
        pytest.fail("the work began")
    assert str(error.value).isprintable()
    assert not any(tmp_path.iterdir())
