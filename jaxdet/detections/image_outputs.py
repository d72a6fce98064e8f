"""Where the boxes of images go: detections file, COCO results, released pickle, YOLO text, pictures and films."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxdet.data.images.sets import ImageItem
from jaxdet.detections import foreign, store
from jaxdet.errors import InputError
from jaxdet.evaluation import pickles
from jaxdet.files import atomic, safe_name
from jaxdet.inference.images import Found
from jaxdet.viewing import drawing

Output = Callable[[Found], None]
_CLIP = re.compile(r"(.+)_\d+")
_PICTURE_WIDTH = 912  # small images are enlarged to about this, so that names can be read


def entry(found: Found) -> dict[str, list]:
    """Boxes (3 decimals), labels and scores (5 decimals) as the released test writes them."""
    return {
        "boxes": [[round(v, 3) for v in row] for row in found.boxes.tolist()],
        "labels": found.labels.tolist(),
        "scores": [round(v, 5) for v in found.scores.tolist()],
    }


@contextmanager
def boxes(
    path: str | os.PathLike,
    class_names: Sequence[str],
    metadata: dict[str, Any],
    annotations: str | os.PathLike | None = None,
) -> Iterator[Output]:
    """Boxes by the suffix of `path`; the file appears when the block ends.

    `.h5`: the detections file, an image under its name without suffix and its clip (the name up to the last `_NNNN`)
    or folder. `.json`: COCO results with the ids of `annotations`; without, the image's name (a number if it is one)
    and the index of the class. `.pkl`: as the released test writes it, images without boxes left out. No suffix: a
    folder with a YOLO text file an image.
    """
    suffix = Path(path).suffix
    if suffix in (".h5", ".hdf5"):
        with store.create(path, class_names, "name", metadata) as writer:
            yield lambda found: _append(writer, found)
    elif suffix == ".json":
        rows: list[dict] = []
        image_ids, category_ids = _ids(annotations, class_names)
        yield lambda found: rows.extend(_coco_rows(found, image_ids, category_ids))
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(rows))
    elif suffix == ".pkl":
        content: dict[str, dict] = {}
        yield lambda found: content.update({found.item.name: entry(found)} if len(found.scores) else {})
        pickles.dump(path, content)
    elif suffix == "":
        yield lambda found: foreign.write_yolo_text(path, store.clip([_frame(found)]))
    else:
        raise InputError(
            f"{path}: cannot write boxes of images as {suffix}; use .h5, .json, .pkl or a folder for YOLO text"
        )


def check_names(items: Sequence[ImageItem]) -> None:
    """Raises InputError if two images have one name, or one that is none of a file: outputs are filed under it."""
    for item in items:
        safe_name(item.name, f"{str(item.path.parent)!a}: name of an image")
    name, count = Counter(item.name for item in items).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{count} images are called {name}; expected one of each name, predict their folders one by one"
        )


@contextmanager
def pictures(
    path: str | os.PathLike, class_names: Sequence[str], fps: float, min_score: float
) -> Iterator[Output]:
    """Boxes scoring at least `min_score` drawn on the images: a film, one picture, or a folder of pictures."""
    if not Path(path).suffix:
        yield lambda found: drawing.write_picture(
            Path(path) / f"{safe_name(found.item.name, 'name of an image')}.jpg",
            _drawn(found, class_names, min_score)[0],
        )
        return
    sizes: set[tuple[int, int]] = set()
    with drawing.open_sink(path, fps) as sink:

        def take(found: Found) -> None:
            sizes.add(found.placement.size)
            if len(sizes) > 1 and Path(path).suffix.lower() in drawing.CODECS:
                raise InputError(
                    f"{path}: images of different sizes do not make one film; give --render a folder"
                )
            sink(*_drawn(found, class_names, min_score))

        yield take


def _drawn(found: Found, class_names, min_score):
    if found.image is None:
        raise ValueError("nothing to draw on: predict with keep=True")
    rows = found.scores >= min_score
    scale = max(1, round(_PICTURE_WIDTH / found.image.shape[1]))
    drawn = drawing.draw(
        found.image, found.boxes[rows], found.scores[rows], found.labels[rows], class_names, scale
    )
    return drawn, int(rows.sum())


def _frame(found: Found) -> tuple:
    height, width = found.placement.size
    return found.item.name, (width, height), found.boxes, found.scores, found.labels


def _append(writer: store.Writer, found: Found) -> None:
    match = _CLIP.fullmatch(found.item.name)
    writer.append(match[1] if match else found.item.path.parent.name or "images", *_frame(found))


def _ids(annotations, class_names) -> tuple[Mapping[str, int], Sequence[int]]:
    if annotations is None:
        return {}, range(len(class_names))
    known = foreign.read_coco_labels(annotations)
    by_name = dict(zip(known.class_names, known.category_ids.tolist(), strict=True))
    missing = [name for name in class_names if name not in by_name]
    if missing:
        raise InputError(
            f"{annotations}: no category {missing[0]!r}; expected the {len(class_names)} of the model"
        )
    names = (Path(name).stem for name in known.file_names)
    return dict(zip(names, known.image_ids.tolist(), strict=True)), [by_name[name] for name in class_names]


def _coco_rows(found: Found, image_ids, category_ids) -> Iterator[dict]:
    name = found.item.name
    image_id = image_ids.get(name, int(name) if name.isdecimal() else name)
    for (x1, y1, x2, y2), score, label in zip(
        found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
    ):
        yield {
            "image_id": image_id,
            "category_id": int(category_ids[label]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
