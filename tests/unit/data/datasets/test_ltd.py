import json
import os
from pathlib import Path

import cv2
import golden_data
import numpy as np
import pytest

from jaxdet import prepare
from jaxdet.data.datasets import coco_layout, ltd, ltd_preparation
from jaxdet.data.images import sets
from jaxdet.errors import InputError
from jaxdet.formats import yolo

EVALUATE = golden_data.load("yolo/evaluate")


def _source(root: Path, annotations: dict[str, str], part="Train", split="Day", clip="20210213/clip_0_0000"):
    """Frames numbered as their annotation files; every picture another."""
    frames, notes = (root / part / split / kind / clip for kind in ("frames", "annotations"))
    frames.mkdir(parents=True)
    notes.mkdir(parents=True)
    for i, (name, text) in enumerate(annotations.items()):
        (notes / name).write_text(text)
        picture = np.full((288, 384), 20 + i, np.uint8)
        cv2.imwrite(str(frames / name.replace("annotations", "image").replace("txt", "jpg")), picture)
    return root


def test_labels_equal_released_conversion_byte_for_byte_however_often_it_runs(tmp_path):
    annotations = json.loads(str(EVALUATE["labels__annotations_json"]))
    source, out = _source(tmp_path / "source", annotations), tmp_path / "out"
    for verify in (False, False, True):
        report = ltd_preparation.prepare(source, out, verify=verify)
    expected = json.loads(str(EVALUATE["labels__converted_json"]))
    written = {path.name: path.read_text() for path in (out / "Day" / "labels").iterdir()}
    assert written == expected
    names = {path.name for path in (out / "Day").rglob("*_*") if path.suffix in (".jpg",)} | set(written)
    assert names == set(EVALUATE["labels__files"].tolist())
    assert (report.num_made, report.num_kept) == (0, len(expected))
    assert report.num_unlabelled == len(annotations) - len(expected)


def test_months_keep_every_frame_and_images_are_links(tmp_path):
    annotations = {"annotations_0000.txt": "0 human 10 10 20 40 0\n", "annotations_0001.txt": ""}
    source = _source(tmp_path / "s", annotations, "Test", "Sep", "20210903/clip_4_1200")
    for link in coco_layout.LINKS:
        out = tmp_path / link
        ltd_preparation.prepare(source, out, link=link)
        found = sets.from_folder(out / "Sep" / "images")
        assert [item.name for item in found] == ["20210903_clip_4_1200_0000", "20210903_clip_4_1200_0001"]
        original = source / "Test/Sep/frames/20210903/clip_4_1200/image_0000.jpg"
        assert found[0].path.samefile(original) == (link != "copy")
        assert found[0].path.read_bytes() == original.read_bytes()
        label = yolo.read_labels(sets.label_path(found[0].path), 4)
        np.testing.assert_allclose(label, [[0, 15 / 384, 25 / 288, 10 / 384, 30 / 288]], atol=1e-6)
    # Months as distributed have no annotations.
    assert not any(path.unlink() for path in source.rglob("annotations_*"))
    ltd_preparation.prepare(source, tmp_path / "bare")
    assert len(list((tmp_path / "bare/Sep/images").iterdir())) == 2
    assert not (tmp_path / "bare/Sep/labels").exists()


def test_a_bad_frame_is_named_and_the_rest_prepared(tmp_path, capsys):
    annotations = {
        "annotations_0000.txt": "0 human 10 10 20 40 0\n1 lorry 1 2 3 4 0\n",
        "annotations_0001.txt": "0 human 10 10 400 40 0\n",
        "annotations_0002.txt": "0 human 10 10 20 40 0\n",
        "annotations_0003.txt": "0 human 10 10 20 40 0\n",
    }
    source = _source(tmp_path / "s", annotations)
    (source / "Train/Day/frames/20210213/clip_0_0000/image_0003.jpg").write_bytes(b"\xff\xd8 cut")
    status = prepare.main(["ltd", f"--source={source}", f"--out={tmp_path / 'out'}", "--lists=e5"])
    assert status == 1
    lines = capsys.readouterr().err
    assert "annotations_0000.txt:2: class 'lorry'" in lines
    assert "annotations_0001.txt:1: box 10 10 400 40" in lines
    assert "image_0003.jpg" in lines
    assert [p.stem for p in (tmp_path / "out/Day/images").iterdir()] == ["20210213_clip_0_0000_0002"]


def test_what_a_stopped_run_left_out_is_made_and_damage_is_found(tmp_path):
    annotations = {f"annotations_{i:04d}.txt": "0 human 10 10 20 40 0\n" for i in range(3)}
    source, out = _source(tmp_path / "s", annotations), tmp_path / "out"
    ltd_preparation.prepare(source, out, link="copy")
    labels, pictures = (sorted((out / "Day" / kind).iterdir()) for kind in ("labels", "images"))
    labels[0].unlink()
    labels[1].write_text("0 0.5")
    assert ltd_preparation.prepare(source, out, link="copy").num_made == 2
    pictures[2].write_bytes(b"other")
    assert ltd_preparation.prepare(source, out, link="copy", verify=True).num_made == 1
    assert cv2.imread(os.fspath(pictures[2])) is not None


def _labels(num, bicycles=(), motorcycles=(), empty=()):
    frames = {}
    for i in range(num):
        classes = {0} | ({1} if i in bicycles else set()) | ({2} if i in motorcycles else set())
        frames[f"20210213_clip_{i // 10}_0000_{i % 10:04d}"] = (
            frozenset() if i in empty else frozenset(classes)
        )
    return frames


def test_every_kth_counts_labelled_frames_over_all_clips():
    frames = _labels(23, empty={0, 5})
    labelled = [key for key in sorted(frames) if frames[key]]
    for every in (5, 10, 15):
        taken = ltd.sample(frames, ltd.LISTS[f"e{every}"])
        assert taken == labelled[::every]
        assert len(taken) == -(-21 // every)


def test_class_rules_add_every_nth_or_all_frames_that_show_the_class():
    bicycles, motorcycles = set(range(31, 62)), set(range(70, 95))
    frames = _labels(100, bicycles, motorcycles)
    keys = sorted(frames)
    every_tenth, cycling = set(keys[::10]), {keys[31], keys[41], keys[51]}  # 31 frames: 3 of them
    assert set(ltd.sample(frames, ltd.LISTS["e10_bic10_mot"])) == every_tenth | cycling | set(keys[70:95])
    thinned = ltd.sample(frames, ltd.LISTS["e10_bic10_mot10_a"])
    assert set(thinned) == every_tenth | cycling | {keys[70], keys[80]}
    full = ltd.sample(frames, ltd.LISTS["e10_bic10_mot10"])
    assert set(thinned) <= set(full) == every_tenth | cycling | set(keys[70:95])
    assert full == sorted(set(full))


def test_lists_read_back_as_written(tmp_path):
    keys = ltd.sample(_labels(9), ltd.LISTS["e5"])
    (tmp_path / "e5.txt").write_text(ltd.list_text(keys))
    assert [item.path for item in sets.from_list(tmp_path / "e5.txt")] == [
        tmp_path / "images" / f"{key}.jpg" for key in keys
    ]


def test_clip_of_a_frame_is_not_mistaken_for_a_prefix():
    assert ltd.clip_of("20210903_clip_1_0001_0005") == "20210903_clip_1_0001"
    assert ltd.clip_of("20210903_clip_1_00011_0005") == "20210903_clip_1_00011"
    for bad in ("20211303_clip_1_0001_0005", "image_0005", "20210903_clip_1"):
        with pytest.raises(InputError, match="YYYYMMDD"):
            ltd.clip_of(bad)


@pytest.fixture
def released_lists():
    root = os.environ.get("JAXDET_REAL_DATA")
    if not root:
        pytest.skip("JAXDET_REAL_DATA names no folder of real data")
    folder = Path(root) / "thermal/ltd/seq_yolo_lists"
    texts = {name: (folder / f"Day_all_{name}.txt").read_text() for name in ("e5", "e10_bic10_mot")}
    return {name: [Path(line).stem for line in text.split()] for name, text in texts.items()}


@pytest.mark.data
def test_released_lists_follow_the_rules(released_lists):
    e5, mixed = released_lists["e5"], released_lists["e10_bic10_mot"]
    assert (len(e5), len(mixed)) == (877, 568)
    assert e5 == sorted(set(e5))
    assert mixed == sorted(set(mixed))
    # Every tenth labelled frame is every second of every fifth.
    assert len(e5[::2]) == 439
    assert set(e5[::2]) <= set(mixed)
    assert len(set(mixed) - set(e5[::2])) == 129
    # All frames of a class: consecutive frames.
    runs, length = [], 1
    for before, key in zip(mixed, [*mixed[1:], ""], strict=True):
        number = int(before.rsplit("_", 1)[1])
        if key == f"{ltd.clip_of(before)}_{number + 1:04d}":
            length += 1
        else:
            runs.append(length)
            length = 1
    assert sorted(runs)[-3:] == [16, 18, 36]
    assert {key[4:6] for key in mixed} == {"02"}
