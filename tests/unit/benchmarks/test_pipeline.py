import types

import cv2
import numpy as np

from jaxdet.benchmarks import pipeline
from jaxdet.data.images import augment, samples


def test_the_plain_loop_makes_the_same_pixels_as_the_pipeline(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.jpg"), rng.integers(0, 255, (30, 40), np.uint8))
        (tmp_path / "labels" / f"{i}.txt").write_text("0 .5 .5 .5 .5\n")
    labelled = samples.open_set(tmp_path, "images", ("thing",))
    drawn = augment.draw(np.random.default_rng(1), 0, 4, augment.Settings())
    plain = pipeline._plain_sample(labelled, drawn, (32, 64))

    def load(index):
        return cv2.imread(str(labelled.items[index].path), cv2.IMREAD_GRAYSCALE), labelled.labels[index]

    ours = augment.apply(drawn, (32, 64), load)[0]
    np.testing.assert_array_equal(plain, np.broadcast_to(ours[..., None], plain.shape))
    block = types.SimpleNamespace(
        kind="images",
        root=tmp_path,
        classes=("thing",),
        train_split="images",
        size=64,
        placement="yolov4",
        batch_size=2,
        max_boxes=8,
        recipe="scratch",
        plain_from=0,
        sizes=(),
        aspect=1,
        stride=32,
        seed=0,
        cache=0,
        overfit=0,
        workers=0,
    )
    report = pipeline.measure(block, pairs=1, num_batches=2)
    assert report["samples_per_s"] > 0
    assert set(report) == {"samples_per_s", "plain_loop_samples_per_s", "ratio"}
