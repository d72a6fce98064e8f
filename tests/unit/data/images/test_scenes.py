"""Scenes by the names of images, and sets divided by them."""

import numpy as np
import pytest

from jaxdet.data.images import scenes
from jaxdet.errors import InputError
from jaxdet.structs import Boxes


@pytest.mark.parametrize(
    ("source", "scene"),
    [
        ("20210213_clip_1_0001_0119.jpg", "20210213_clip_1_0001"),  # LTD
        ("data/video-57kWWRyeqqHs3Byei-frame-000816-b6tuLjNco8MfoBs3d.jpg", "data/video-57kWWRyeqqHs3Byei"),
        ("0_60_30_0_00664.jpg", "0_60_30_0"),  # HIT-UAV
        ("frames/20200502/clip_2_2240/image_0007.jpg", "frames/20200502/clip_2_2240/image"),  # LTDv2
        ("night/000123.png", "night/"),
        ("000123.png", ""),
        ("yard_0007_jpg.rf.0a1b2c3d4e5f.jpg", "yard"),  # three augmented copies of an image have one scene
        ("yard_0007_png.rf.ffff2c3d4e5f.jpg", "yard"),
        ("Frame12.png", ""),
        ("cat.jpg", "cat"),
        ("a.b 12.webp", "a.b"),
    ],
)
def test_the_scene_of_a_name(source, scene):
    assert scenes.scene_of(source) == scene


@pytest.mark.parametrize(
    "counts", [[10] * 10, [1] * 40, [3] * 7, [50, 10, 10], [97, 1, 1, 1], [30], [2], [5, 5]]
)
def test_a_fifth_validates_and_order_changes_nothing(counts):
    sources = [f"scene{i}x_{frame:04d}.png" for i, count in enumerate(counts) for frame in range(count)]
    found = scenes.divide(sources)
    assert sorted(found.train + found.val) == list(range(len(sources)))
    assert 0.1 <= len(found.val) / len(sources) <= 0.5 / min(len(sources), 2) + 0.25
    shared = {scenes.scene_of(sources[i]) for i in found.train} & {
        scenes.scene_of(sources[i]) for i in found.val
    }
    assert bool(shared) == found.rule.startswith("the last fifth")
    for scene in shared:  # a scene that is cut is cut once, in time
        last = max(sources[i] for i in found.train if scenes.scene_of(sources[i]) == scene)
        assert all(sources[i] > last for i in found.val if scenes.scene_of(sources[i]) == scene)
    order = np.random.default_rng(0).permutation(len(sources))
    again = scenes.divide([sources[i] for i in order])
    assert {sources[order[i]] for i in again.val} == {sources[i] for i in found.val}


def test_a_part_of_a_split():
    assert scenes.part_of("images#val") == ("images", "val")
    assert scenes.part_of("a#b/all.json:images#train") == ("a#b/all.json:images", "train")
    assert scenes.part_of("images#3") == ("images#3", "")
    images = [Boxes.none(source=f"{i}.png") for i in range(10)]
    assert scenes.chosen(images, "", "here") == images
    assert [b.source for b in scenes.chosen(images, "val", "here")] == ["8.png", "9.png"]
    with pytest.raises(InputError, match="here: 1 images cannot be divided"):
        scenes.chosen(images[:1], "val", "here")
