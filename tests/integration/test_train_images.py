"""Training on images by the commands: what a run writes, that stopping changes nothing, soups of its
checkpoints."""

import json
import shutil
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from jaxdet import evaluate, soup, train
from jaxdet.weights import checkpoint

HERE = Path(__file__).parent
NUM_IMAGES = 5  # two batches of two; one image waits for another epoch


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Grey images with a dark or a bright square, labelled in YOLO text and in COCO json."""
    folder = tmp_path_factory.mktemp("squares")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    images, rows = [], []
    for i in range(NUM_IMAGES):
        picture = np.full((48, 64), 110 + 5 * i, np.uint8)
        picture[16:36, 20 + i : 44 + i] = 255 * (i % 2)
        cv2.imwrite(str(folder / "images" / f"{i}.png"), picture)
        text = f"{i % 2} {(32 + i) / 64:.6f} {26 / 48:.6f} {24 / 64:.6f} {20 / 48:.6f}\n"
        (folder / "labels" / f"{i}.txt").write_text(text)
        images.append({"id": 7 * i, "file_name": f"{i}.png", "height": 48, "width": 64})
        rows.append({"image_id": 7 * i, "category_id": 1 + i % 2, "bbox": [20 + i, 16, 24, 20]})
    categories = [{"id": 1, "name": "dark"}, {"id": 2, "name": "bright"}]
    content = {"images": images, "annotations": rows, "categories": categories}
    (folder / "annotations").mkdir()
    (folder / "annotations" / "all.json").write_text(json.dumps(content))
    return folder


def _config(root, family):
    return [f"--config={HERE / 'tiny_images.py'}:{family}", f"--config.data.root={root}"]


def _train(root, family, workdir, *more):
    assert train.main([*_config(root, family), f"--workdir={workdir}", *more]) == 0
    lines = [json.loads(line) for line in (workdir / "train.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines], checkpoint.load_run(workdir)[0]


@pytest.fixture(scope="module")
def unbroken(root, tmp_path_factory):
    """A run of the family that compiles in half the time."""
    workdir = tmp_path_factory.mktemp("unbroken")
    return workdir, *_train(root, "yolov4", workdir, "--config.train.evaluate_epochs=2")


@pytest.fixture(scope="module")
def unbroken_yolox(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken_yolox")
    return workdir, *_train(root, "yolox", workdir, "--config.train.evaluate_epochs=2")


def test_epochs_become_steps_and_checkpoints(unbroken):
    workdir, losses, _ = unbroken
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()) == ["2", "4"]
    drawn = [cv2.imread(str(workdir / f"batch_{step}.jpg")) for step in range(3)]
    assert all(picture.shape == (320, 640, 3) and picture.std() > 5 for picture in drawn)  # two lanes
    (line,) = [json.loads(line) for line in (workdir / "validation.jsonl").read_text().splitlines()]
    assert line["step"] == 4
    checkpoint.load_weights(workdir / "best")
    resolved = json.loads((workdir / "config.json").read_text())["train"]
    assert (resolved["num_iterations"], resolved["iterations_per_epoch"]) == (4, 2)


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(root, tmp_path, unbroken_yolox):
    workdir, losses, weights = unbroken_yolox
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")  # as if killed after step 2
    resumed_losses, resumed = _train(root, "yolox", tmp_path / "run")
    assert resumed_losses == losses
    jax.tree.map(np.testing.assert_array_equal, resumed, weights)


@pytest.mark.slow
def test_annotations_of_coco_are_the_same_data(root, tmp_path, unbroken_yolox):
    losses, _ = _train(root, "yolox", tmp_path, "--config.data.train_split=annotations/all.json:images")
    # Boxes of the two formats differ in their seventh digit, six being written.
    np.testing.assert_allclose(losses, unbroken_yolox[1], rtol=1e-3)


@pytest.mark.slow  # another number of classes is another program
def test_a_set_is_divided_and_weights_of_other_classes_are_a_start(root, tmp_path, unbroken_yolox, caplog):
    content = json.loads((root / "annotations" / "all.json").read_text())
    content["categories"].append({"id": 3, "name": "grey"})
    content["annotations"].append({"image_id": 0, "category_id": 3, "bbox": [1, 1, 9, 9]})
    content["images"].append({"id": 99, "file_name": "00.png"})  # a background
    shutil.copytree(root / "images", tmp_path / "images")
    shutil.copy(root / "images" / "0.png", tmp_path / "images" / "00.png")
    (tmp_path / "all.json").write_text(json.dumps(content))
    config = f"--config={HERE / 'tiny_images.py'}:yolox"
    flags = [f"--data={tmp_path}", f"--init={unbroken_yolox[0]}", f"--workdir={tmp_path / 'run'}"]
    flags += ["--config.train.epochs=1", "--config.train.evaluate_epochs=1"]
    with caplog.at_level("INFO"):
        assert train.main([config, *flags]) == 0
    assert "#train: 5 images, 1 backgrounds, 0 left out" in caplog.text
    assert "(of 2 classes, not 3: the last layer begins anew)" in caplog.text
    assert "1 of 6 images validate: the last fifth of the frames of each of 1 scenes" in caplog.text
    assert "epoch 1/1  step 2/2" in caplog.text
    out = tmp_path / "evaluation.json"
    assert evaluate.main([f"--weights={tmp_path / 'run'}", f"--out={out}"]) == 0
    assert json.loads(out.read_text())["num_images"] == 1


@pytest.mark.slow
def test_bfloat16_and_several_sizes(root, tmp_path):
    more = ["--config.model.dtype=bfloat16", "--config.data.sizes=(32,64)"]
    losses, weights = _train(root, "yolox", tmp_path, *more)
    assert np.isfinite(losses).all()
    assert all(a.dtype == np.float32 for a in jax.tree.leaves(weights.params))


@pytest.mark.slow
def test_yolov4_trains_and_is_evaluated_by_the_same_commands(root, tmp_path):
    losses, _ = _train(root, "yolov4", tmp_path / "run", "--config.train.evaluate_epochs=1")
    assert np.isfinite(losses).all()
    columns = (tmp_path / "run" / "train.csv").read_text().splitlines()[0]
    assert columns == "Epoch,Iter,Loss,DataTime,BatchTime,loss_box,loss_obj,loss_cls,loss,LR0,LR1"
    out = tmp_path / "evaluation.json"
    assert evaluate.main([f"--weights={tmp_path / 'run'}", f"--out={out}"]) == 0
    measured = json.loads((tmp_path / "run" / "validation.jsonl").read_text().splitlines()[-1])
    assert {"AP", "AP50", "fitness"} <= set(measured)


@pytest.mark.slow
def test_soups_of_a_run_are_averaged_reported_and_evaluated(root, tmp_path, unbroken_yolox, capsys):
    run = unbroken_yolox[0]
    flags = [f"--run={run}", f"--out={tmp_path / 'greedy'}", "--method=greedy", "--reestimate=2"]
    assert soup.main([*flags, "--report=annotations/all.json:images"]) == 0
    report = json.loads((tmp_path / "greedy.json").read_text())
    assert sorted(Path(row["name"]).name for row in report["ingredients"]) == ["2", "4"]
    assert report["ingredients"][0]["kept"]
    table = capsys.readouterr().out
    assert "greedy soup of" in table
    assert "on annotations/all.json:images:" in table
    assert set(report["report"]) == {"split", "soup", "best single", "uniform soup"}
    found, config = checkpoint.load_weights(tmp_path / "greedy")
    assert config["model"]["name"] == "yolox"
    counters = [a for a in jax.tree.leaves(found.batch_stats) if a.dtype == np.int32]
    assert {int(a) for a in counters} == {2}
    out = tmp_path / "evaluation.json"
    assert evaluate.main([*_config(root, "yolox"), f"--weights={tmp_path / 'greedy'}", f"--out={out}"]) == 0
    statistics = json.loads(out.read_text())["statistics"]
    assert report["report"]["soup"] == {name: pytest.approx(statistics[name]) for name in ("AP", "AP50")}


def test_a_uniform_soup_is_the_mean_and_needs_no_data(tmp_path, unbroken):
    run = unbroken[0]
    assert soup.main([f"--run={run}", "--steps=2,4", f"--out={tmp_path / 'mean'}"]) == 0
    first, last = (checkpoint.load_run(run, step)[0] for step in (2, 4))
    expected = jax.tree.map(lambda a, b: (a + b) / np.float32(2), first.params, last.params)
    jax.tree.map(
        np.testing.assert_array_equal, checkpoint.load_weights(tmp_path / "mean")[0].params, expected
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps=3"], "has no checkpoint 3; it has 2, 4"),
        (["--inputs={run}/checkpoints/2"], "given twice"),
        (["--inputs=nowhere.pt", "--config={here}/tiny_images.py:yolov4"], "nowhere.pt does not exist"),
        (["--config={here}/tiny_images.py:yolox"], "belongs to YOLOX"),
    ],
)
def test_ingredients_that_do_not_fit_are_one_line(tmp_path, unbroken, capsys, flags, message):
    flags = [flag.format(run=unbroken[0], here=HERE) for flag in flags]
    assert soup.main([f"--run={unbroken[0]}", f"--out={tmp_path / 'soup'}", *flags]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert message in line
    assert not (tmp_path / "soup").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.data.train_split=nowhere", "nowhere"),
        ("--config.model.num_classes=3", "data.classes names 2 classes, model.num_classes is 3"),
        ("--config.data.batch_size=8", "lower data.batch_size"),
        ("--config.data.recipe=none", "expected one of scratch"),
    ],
)
def test_wrong_data_is_one_line_before_the_first_step(root, tmp_path, capsys, flag, message):
    assert train.main([*_config(root, "yolox"), f"--workdir={tmp_path}", flag]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert message in line
    assert not (tmp_path / "train.csv").exists()
