"""Batches of augmented training images, a pure function of the step number.

Sample i is entry i of the concatenated permutations of the epochs, drawn by its own generator. Any process or
worker can thus make any step, and a resumed run only needs the number. Images that do not fill a batch at the
end of an epoch are left out.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from jaxdet.data import pipeline
from jaxdet.data.images import augment, decoding, scenes, sets
from jaxdet.data.images.augment import PLAIN
from jaxdet.data.images.sets import ImageItem
from jaxdet.errors import InputError
from jaxdet.formats import coco, yolo
from jaxdet.structs import Batch, Images, ReadReport, Targets

logger = logging.getLogger(__name__)

_READERS = 8  # threads that look at the images of a set

RECIPES = {
    "scratch": augment.Settings(),
    "finetune": augment.FINETUNE,
    "plain": PLAIN,
}


class LabelledSet(NamedTuple):
    """Images with the rows of their boxes."""

    items: list[ImageItem]
    labels: list[np.ndarray]  # float32 [M, 5]   class, then centre and size relative to the image
    report: ReadReport  # what was left out


class AnnotatedSplit(NamedTuple):
    """A split with COCO annotations: their file, the folder of the images, the part of `scenes` or ""."""

    file: Path
    folder: Path
    part: str


class DroppedBoxes(NamedTuple):
    """Count of the boxes that a batch had to leave out."""

    boxes: int = 0  # beyond max_boxes


def open_set(
    root: str | Path,
    split: str,
    class_names: Sequence[str],
    class_map: Mapping[str, str] | None = None,
    check: str = "headers",
) -> LabelledSet:
    """Open the labelled images that `split` names below `root`, with YOLO labels or COCO annotations.

    `split` is a folder, a list of images (.txt) or a COCO file (.json). Images of COCO annotations lie in
    `images` beside the file, or where `FILE.json:FOLDER` says, below `root`. `SPLIT#train` and `SPLIT#val`
    are the parts into which `scenes` divides a split. Labels that cannot be read are
    left out and counted, and so are images, of which `check` reads the "headers" or decodes all ("full").
    `class_map` gives categories of COCO annotations other names. Raises InputError for missing images, boxes
    of other classes and sets without a box.
    """
    annotated = annotated_split(root, split)
    if annotated is not None:
        path = annotated.file
        found = _coco(annotated, class_names, class_map or {}, check)
    else:
        name, part = scenes.part_of(split)
        path = Path(root) / name.partition(":")[0]
        found = _yolo(path, part, len(class_names), check)
    if not sum(len(rows) for rows in found.labels):
        why = f" ({found.report.line()})" if found.report else ""
        raise InputError(f"{path}: {len(found.items)} images without a box{why}; expected labels")
    return found


def open_split(config: Any, split: str) -> LabelledSet:
    """`open_set` with the root, classes, class_map and check of a data block."""
    class_map = dict(getattr(config, "class_map", {}))
    return open_set(config.root, split, tuple(config.classes), class_map, getattr(config, "check", "headers"))


def _measured(items: Sequence[ImageItem], check: str, report: ReadReport) -> list[ImageItem]:
    """The images that can be read, with the sizes that their files have; the others are counted."""
    if check not in ("headers", "full"):
        raise InputError(f"check is {check!r}, expected headers or full")

    def size(item: ImageItem) -> tuple[int, int] | str:
        try:
            found = decoding.size_of(item.path) if check == "headers" else decoding.read(item.path).shape
        except InputError as error:
            return str(error)
        return found[0], found[1]

    kept = []
    with ThreadPoolExecutor(_READERS) as pool:
        for item, found in zip(items, pool.map(size, items), strict=True):
            if isinstance(found, str):
                report.add("images that cannot be read", where=found)
                continue
            if item.size is not None and item.size != found:
                where = f"{item.source}: {item.size[1]}x{item.size[0]} in the json, {found[1]}x{found[0]}"
                report.note("images whose size is that of the file, not of the json", where=where)
            kept.append(item._replace(size=found))
    if not kept:
        raise InputError(f"none of {len(items)} images can be read: {report.line()}")
    return kept


def annotated_split(root: str | Path, split: str) -> AnnotatedSplit | None:
    """The files of a split with COCO annotations; None for a split with YOLO labels."""
    place, part = scenes.part_of(split)
    name, _, folder = place.partition(":")
    path = Path(root) / name
    if path.suffix != ".json":
        return None
    return AnnotatedSplit(path, Path(root) / folder if folder else path.parent / "images", part)


def _yolo(path: Path, part: str, num_classes: int, check: str) -> LabelledSet:
    report = ReadReport()
    items = scenes.chosen(sets.open_input(path, report), part, str(path))
    missing = [item.path for item in items if not item.path.is_file()]
    if missing:
        where = sets.line_of(path, missing[0]) if path.suffix == ".txt" else path
        raise InputError(
            f"{where}: {missing[0]} is missing ({len(missing)} of {len(items)} images are), "
            "expected all images; check the paths"
        )
    items = _measured(items, check, report)
    return LabelledSet(*with_labels(items, num_classes, report), report)


def with_labels(
    items: Sequence[ImageItem], num_classes: int, report: ReadReport
) -> tuple[list[ImageItem], list[np.ndarray]]:
    """Images whose YOLO labels can be read, and the rows of each; an image without a file has no objects.

    An image whose labels are no text is left out and counted: it would teach that its objects are none.
    """
    kept, labels = [], []
    for item in items:
        rows = yolo.read_labels(sets.label_path(item.path), num_classes, report)
        if rows is not None:
            kept.append(item)
            labels.append(rows)
    return kept, labels


def _coco(
    annotated: AnnotatedSplit, class_names: Sequence[str], class_map: Mapping[str, str], check: str
) -> LabelledSet:
    path, folder, part = annotated
    known = coco.renamed(coco.read_annotations(path), class_names, class_map)
    items, missing = sets.from_coco(scenes.chosen(known.frames, part, str(path)), folder)
    if missing:
        raise InputError(
            f"{path}: {len(missing)} images are not in {folder}, the first is {missing[0]}; check the folder"
        )
    items = _measured(items, check, known.report)
    by_id = {boxes.image_id: boxes for boxes in known.frames}
    order = np.array([class_names.index(n) if n in class_names else -1 for n in known.class_names], np.int64)
    labels = []
    for item in items:
        boxes = by_id[item.image_id]
        new = order[boxes.labels]
        if (new < 0).any():
            name = known.class_names[boxes.labels[new < 0][0]]
            raise InputError(
                f"{path}: {item.source} has a box of category {name!r}, expected one of "
                f"{', '.join(class_names)}; set data.classes or data.class_map"
            )
        assert boxes.crowd is not None
        rows = np.concatenate([new[:, None], boxes.xywh], 1)[~boxes.crowd]
        labels.append(_fractions(rows, item, known.report))
    return LabelledSet(items, labels, known.report)


def _fractions(table: np.ndarray, item: ImageItem, report: ReadReport) -> np.ndarray:
    """Clip rows (class, left, top, width, height in pixels) to the image; return (class, fractions)."""
    assert item.size is not None
    height, width = item.size
    low = table[:, 1:3].clip(0, [width, height])
    high = (table[:, 1:3] + table[:, 3:]).clip(0, [width, height])
    boxes = np.concatenate([(low + high) / 2, high - low], 1) / [width, height, width, height]
    inside = (high > low).all(1)
    report.add("boxes without area inside their image", int((~inside).sum()), item.source)
    return np.concatenate([table[:, :1], boxes], 1)[inside].astype(np.float32)


def input_shape(width: int, aspect: float, stride: int) -> tuple[int, int]:
    """Height and width of training inputs: a square, or a height near `aspect` * `width`.

    `stride` divides that height. Raises InputError for an aspect that is not positive.
    """
    if aspect <= 0:
        raise InputError(f"data.aspect is {aspect}, expected height to width of the images, such as 0.75")
    if aspect == 1:
        return width, width
    return max(round(width * aspect / stride), 1) * stride, width


class LabelledImages:
    """Training batches of a set of images.

    Fields read from `config`: root, classes, size (pixels of the input's width), aspect (height to width of
    the input), stride (of which both sides are multiples), placement ("yolov4": RGB, "yolox": BGR),
    batch_size (over all processes), max_boxes, recipe (of RECIPES), plain_from (N > 0: recipe "plain" from
    step N on), sizes (multi-scale: a step's batch is resized to one of them, drawn for the step), seed, cache
    (decoded images kept in memory), radiometric (see `decoding.to_bytes`), check and class_map (see
    `open_set`), overfit (N > 0: only the first N images, always with the same draws).

    `process` is this process's index and the number of processes: it gets lanes `index * B / count` onwards.
    """

    def __init__(self, config: Any, split: str, process: tuple[int, int] = (0, 1)):
        self._set = open_split(config, split)
        logger.log(
            logging.WARNING if self._set.report else logging.INFO, "%s", self._line(config.root, split)
        )
        self._shape_of = functools.partial(
            input_shape, aspect=float(config.aspect), stride=int(config.stride)
        )
        self._shape, self._max_boxes = self._shape_of(int(config.size)), int(config.max_boxes)
        self._radiometric = decoding.check_radiometric(getattr(config, "radiometric", "auto"))
        self._rgb = config.placement == "yolov4"
        if config.recipe not in RECIPES:
            raise InputError(f"data.recipe is {config.recipe!r}, expected one of {', '.join(RECIPES)}")
        self._settings, self._plain_from = RECIPES[config.recipe], int(config.plain_from)
        self._sizes = tuple(int(size) for size in config.sizes)
        self._seed, self._overfit = int(config.seed), int(config.overfit)
        self._room, self._cache = int(config.cache), {}
        self.batch_size = int(config.batch_size)
        self._lanes = pipeline.lanes_of(self.batch_size, process)
        if len(self._set.items) < self.batch_size and not self._overfit:
            raise InputError(
                f"{config.root}: {split} has {len(self._set.items)} images, fewer than the batch size "
                f"{self.batch_size}; lower data.batch_size"
            )

    def _line(self, root: str | Path, split: str) -> str:
        """The size of the set, and what was left out of it."""
        report, backgrounds = self._set.report, sum(not len(rows) for rows in self._set.labels)
        sizes = f"{len(self._set.items)} images, {backgrounds} backgrounds, {report.num_lost} left out"
        return f"{Path(root) / split}: {sizes}" + (f" ({report.line()})" if report else "")

    @property
    def report(self) -> ReadReport:
        """Count of what was left out when the set was opened."""
        return self._set.report

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch, each image being a sample's first once; incomplete batches are left out."""
        return max(1, (self._overfit or len(self._set.items)) // self.batch_size)

    def batch(self, step: int) -> tuple[Batch, DroppedBoxes]:
        """This process's lanes of step `step`, and the count of what was dropped."""
        num, room, shape = len(self._lanes), self._max_boxes, self._shape
        pixels = np.empty((num, *shape, 3), np.uint8)
        boxes = np.zeros((num, 1, room, 4), np.float32)
        labels, mask = np.zeros((num, 1, room), np.int32), np.zeros((num, 1, room), bool)
        source, lost = np.zeros((num, 1, 2), np.int32), 0
        for lane, position in enumerate(self._lanes):
            index, rows = self._sample(pixels[lane], step, position)
            count = min(len(rows), room)
            lost += len(rows) - count
            centre, extent = rows[:count, 1:3], rows[:count, 3:]
            boxes[lane, 0, :count] = np.concatenate([centre - extent / 2, centre + extent / 2], 1)
            labels[lane, 0, :count], mask[lane, 0, :count] = rows[:count, 0], True
            source[lane, 0, 0] = index
        target = self._shape_at(step)
        if target != shape:
            # Parity: the finished batch is resized bilinearly.
            pixels = np.stack([cv2.resize(image, target[::-1]) for image in pixels])
        boxes *= np.array([target[::-1] * 2], np.float32)
        slots = np.ones((num, 1), bool)
        at_step = np.zeros((num, 1), np.int32)
        targets = Targets(boxes, labels, mask, np.zeros_like(mask), at_step, slots)
        return Batch(Images(pixels), targets, np.ones(num, bool), source), DroppedBoxes(lost)

    def _shape_at(self, step: int) -> tuple[int, int]:
        """Height and width of a step's input, the same in all processes."""
        if not self._sizes:
            return self._shape
        choice = np.random.default_rng([self._seed, 2, step]).integers(len(self._sizes))
        return self._shape_of(self._sizes[int(choice)])

    def _sample(self, out: np.ndarray, step: int, lane: int) -> tuple[int, np.ndarray]:
        """Write the pixels of a lane of a step into `out`; return the image's index and its labels."""
        num, position = len(self._set.items), step * self.batch_size + lane
        settings = PLAIN if 0 < self._plain_from <= step else self._settings
        if self._overfit:
            position %= min(self._overfit, num)
            index = position
        else:
            epoch, place = divmod(position, num - num % self.batch_size)
            index = int(pipeline.permutation(self._seed, epoch, num)[place])
        rng = np.random.default_rng([self._seed, 1, position])
        drawn = augment.draw(rng, index, min(num, self._overfit or num), settings)
        image, rows = augment.apply(drawn, self._shape, self._load)
        if image.ndim == 2:
            cv2.cvtColor(image, cv2.COLOR_GRAY2BGR, dst=out)
        elif self._rgb:
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=out)
        else:
            out[:] = image
        return index, rows

    def _load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = self._cache.get(index)
        if image is None:
            image = _one_channel(decoding.read(self._set.items[index].path, True, self._radiometric))
            if len(self._cache) < self._room:
                self._cache[index] = image
        return image, self._set.labels[index]


def _one_channel(image: np.ndarray) -> np.ndarray:
    """Reduce an image of three equal channels to [H, W]; leave a coloured one as it is."""
    if image.ndim == 2:
        return image
    blue, green, red = (image[..., i] for i in range(3))
    grey = np.array_equal(blue, green) and np.array_equal(green, red)
    return np.ascontiguousarray(blue) if grey else image
