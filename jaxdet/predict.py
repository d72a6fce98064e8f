"""Find boxes in recordings, images and videos.

    python -m jaxdet.predict --config=configs/gen1_hmnet.py:b3 --weights=gen1_hmnet_B3_tbptt.pth \\
        --input=mine.raw --out=mine.npy --render=mine.mp4
    python -m jaxdet.predict --config=configs/gen1_hmnet.py:b3 --weights=runs/b3 --split=test --out=predictions
    python -m jaxdet.predict --config=configs/coco_yolox.py:nano --weights=yolox_nano.pth \\
        --images=pictures --out=boxes.json --render=drawn

For a model of images `--input` is an image, a folder of images, a .txt with a path a line, or a video. Boxes go to --out
as .h5, .json (COCO results), .pkl (as released), .npz, .csv, .txt (MOT) or into a folder as YOLO text, pictures to
--render: a folder, a film, or the image with the most boxes. What cannot be read is named and left out, the rest is
done, and the exit status is 1.

For a model of events `--input` is one recording: a DAT or RAW (EVT2, EVT3) file or a prepared folder. Without it every recording of the
split of the config's data set is predicted; `--chunk=1/4` takes the second quarter of them. Boxes come after every
step, as `.npy` in the released layout and, for a split, also as detections.h5.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import jaxdet
from jaxdet import cli
from jaxdet.data.events import recordings
from jaxdet.data.images import sets
from jaxdet.detections import files
from jaxdet.detections import recordings as split_files
from jaxdet.errors import InputError
from jaxdet.formats import npy
from jaxdet.inference import folded, restore
from jaxdet.inference import recordings as on_recordings
from jaxdet.inference.events import Predictor, StepBoxes
from jaxdet.inference.images import VIEWS, ImagePredictor, ItemPredictor
from jaxdet.inference.streaming import StreamDetector, latency
from jaxdet.training import setup as runs
from jaxdet.viewing import films

logger = logging.getLogger(__name__)

Write = Callable[[StepBoxes], None]

_PICTURES_PER_S = 5  # of a film made of single images


def _flags(flags: cli.Flags) -> None:
    flags.config_file("config of the model; default: the one stored with --weights", stored=True)
    flags.string("weights", None, "a run, a converted folder, or a released .pth file", required=True)
    flags.string("input", None, "recording (DAT, RAW or prepared folder), image, folder, .txt list or video")
    flags.string("images", None, "folder of images; the same as --input")
    flags.choice("tta", "none", list(VIEWS), "views of an image that are joined: mirrored, or scaled as well")
    flags.string("annotations", None, "COCO annotations whose ids a .json of --out takes")
    flags.string("split", None, "split of the data set; default: the config's test split")
    flags.string("chunk", "0/1", "i/n: part number i of n of the split")
    flags.string("out", None, "boxes of --input: .npy, .h5, .json, .pkl, .npz, .csv, .txt, or a folder")
    flags.string(
        "render", None, "boxes drawn over --input: .mp4, .webm, .avi, one picture as .png, images: a folder"
    )
    flags.integer("render_stride", 10, "steps a picture")
    flags.number("render_score", 0.3, "boxes below this score are not drawn")
    flags.integer("lanes", 1, "recordings of a split side by side")
    flags.boolean("fast", False, "Winograd convolutions, for CPU: faster, boxes move slightly")
    flags.boolean("speed_test", False, "time every step of --input or of the split's part; writes nothing")


def _run(flags: cli.Flags) -> None:
    _check(flags)
    cfg, skeleton, variables = restore.load_model(flags.config, flags.weights, flags.override)
    metadata = {"model": runs.as_json(cfg)["model"], "weights": flags.weights, "version": jaxdet.__version__}
    if cfg.data.kind == "images":
        predictor = ItemPredictor(cfg.data, ImagePredictor(skeleton, variables, VIEWS[flags.tta], flags.fast))
        _images(flags, predictor, tuple(cfg.data.classes), metadata)
        return
    if flags.images:
        raise InputError(f"--images needs a model of images; data.kind of this one is {cfg.data.kind!r}")
    skeleton, variables = folded.prepare(skeleton, variables, flags.fast)
    names = tuple(cfg.data.classes)
    if flags.speed_test:
        _speed_test(flags, cfg, StreamDetector(skeleton, variables, class_names=names))
        return
    lanes = 1 if flags.input else flags.lanes
    predictor = Predictor(skeleton, variables, lanes, flags.lanes, class_names=names)
    if flags.input:
        _one(flags, cfg, predictor, metadata)
    else:
        _split(flags, cfg, predictor, metadata)


def _check(flags) -> None:
    """What can be said before anything is loaded."""
    source = flags.input or flags.images
    if source:
        if not (flags.out or flags.render or flags.speed_test):
            raise InputError("nothing to write: give --out, --render or both")
        if not Path(source).exists():
            raise InputError(f"{source}: no such file; expected a recording, an image, a folder or a video")
    elif not flags.speed_test and (not flags.out or flags.render):
        raise InputError("a split is written to the folder --out; --render needs --input")
    _chunk(flags.chunk)


def _images(flags, predictor: ItemPredictor, names, metadata) -> None:
    """Predict and draw what --input names; InputError at the end if part of it could not be read."""
    source = flags.input or flags.images
    if source is None:
        raise InputError("missing --input; a model of images predicts an image, a folder, a list or a video")
    video = sets.VideoFile(source) if sets.is_video(source) else None
    items = [] if video else sets.open_input(source)
    with ExitStack() as stack:
        write = draw = None
        if flags.out:
            key, sources = (
                ("frame", [video.path.stem]) if video else ("name", [item.source for item in items])
            )
            opened = files.writer(
                flags.out, names, metadata, key=key, sources=sources, annotations=flags.annotations
            )
            write = stack.enter_context(opened)
        if flags.render:
            fps = video.frame_rate if video else _PICTURES_PER_S
            draw = stack.enter_context(films.of_images(flags.render, names, fps, flags.render_score))
        found = predictor.video(video) if video else predictor.items(items, keep=bool(flags.render))
        num_images = num_boxes = 0
        for result in found:
            if write is not None:
                write(result.boxes)
            if draw is not None and result.image is not None:
                draw(result.image, result.boxes)
            num_images, num_boxes = num_images + 1, num_boxes + len(result.boxes)
    logger.info("%d boxes in %d images", num_boxes, num_images)
    if predictor.num_skipped:
        raise InputError(
            f"{predictor.num_skipped} of {len(items)} images could not be read, named above; the rest is done"
        )
    if video and video.cut_short:
        raise InputError(
            f"{source}: cut short, {num_images} frames of {video.num_frames} could be decoded and are done"
        )


def _one(flags, cfg, predictor: Predictor, metadata) -> None:
    path, names, geometry = Path(flags.input), predictor.class_names, predictor.geometry
    source = npy.recording_name(path)
    with ExitStack() as stack:
        writers: list[Write] = []
        if flags.out:
            opened = files.writer(flags.out, names, metadata, key="t_us", sources=[source])
            write = stack.enter_context(opened)
            writers.append(lambda step: write(step.boxes))
        if flags.render:
            film = films.of_events(
                flags.render, geometry.size, names, geometry.step_us, flags.render_stride, flags.render_score
            )
            draw = stack.enter_context(film)
            writers.append(lambda step: draw(step.events, step.boxes))
        _deliver(_steps(path, predictor, tuple(cfg.data.event_buckets)), writers)


def _steps(path: Path, predictor: Predictor, event_buckets: Sequence[int]) -> Iterator[StepBoxes]:
    size = predictor.geometry.size
    if path.is_dir():
        recording = recordings.open_recording(path)
        _check_size(path, recording.height, recording.width, size)
        return on_recordings.predict(predictor, [recording], event_buckets)
    stream = recordings.open_events(path)
    _check_size(path, stream.height, stream.width, size)
    chunks = _inside(path, stream.ordered(), size)
    return on_recordings.predict_stream(predictor, chunks, event_buckets, source=npy.recording_name(path))


def _check_size(path, height, width, size: tuple[int, int]) -> None:
    if None not in (height, width) and (height, width) != size:
        raise InputError(
            f"{path}: a recording of {width}x{height} pixels, the model sees {size[1]}x{size[0]}; "
            "crop the recording or train a model of its size"
        )


def _inside(path, chunks: Iterable[Any], size: tuple[int, int]) -> Iterator[Any]:
    """The chunks, once their coordinates are known to lie on the sensor."""
    for chunk in chunks:
        if len(chunk.x) and (chunk.x.max() >= size[1] or chunk.y.max() >= size[0]):
            _check_size(path, int(chunk.y.max()) + 1, int(chunk.x.max()) + 1, size)
        yield chunk


def _speed_test(flags, cfg, detector: StreamDetector) -> None:
    """Time from a step's events on the host to its boxes, one step after the other, as a live camera gives them."""
    paths = [Path(flags.input)] if flags.input else _part(flags, cfg)[0]
    size = detector.geometry.size
    detector.compile()
    for path in paths:
        stream = recordings.open_events(path)
        _check_size(path, stream.height, stream.width, size)
        detector.reset(source=npy.recording_name(path))
        chunks = _inside(path, stream.ordered(), size)
        seconds = [step.seconds or 0.0 for chunk in chunks for step in detector.feed(*chunk)]
        numbers = "  ".join(f"{name} {value:.2f}" for name, value in latency(seconds).items())
        print(f"{path.name}: {len(seconds)} steps, ms a step: {numbers}")


def _split(flags, cfg, predictor: Predictor, metadata) -> None:
    paths, num_all = _part(flags, cfg)
    chosen = [recordings.open_recording(path) for path in paths]
    index, count = _chunk(flags.chunk)
    name = "detections.h5" if count == 1 else f"detections_{index}of{count}.h5"
    step_us = predictor.geometry.step_us
    ends_us = [(r.name, -(-1000 * r.duration_ms // step_us) * step_us) for r in chosen]
    with split_files.writer(flags.out, ends_us, name, predictor.class_names, metadata) as write:
        steps = on_recordings.predict(predictor, chosen, tuple(cfg.data.event_buckets))
        _deliver(steps, [lambda step: write(step.boxes)])
    logger.info("%d of %d recordings -> %s", len(chosen), num_all, flags.out)


def _part(flags, cfg) -> tuple[list[Path], int]:
    """The recordings of this part of the split, and how many the split has."""
    index, count = _chunk(flags.chunk)
    paths = recordings.find(cfg.data.root, flags.split or cfg.data.test_split)
    # Parity: earlier parts are one longer where the division leaves a rest.
    return [paths[i] for i in np.array_split(np.arange(len(paths)), count)[index]], len(paths)


def _chunk(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise InputError(f"--chunk={text}, expected i/n with 0 <= i < n, for example 0/4")
    return int(index), int(count)


def _deliver(steps: Iterable[StepBoxes], writers: Sequence[Write]) -> None:
    """Hand every step to `writers`."""
    began = reported = time.perf_counter()
    num_steps = num_boxes = 0
    for step in steps:
        for write in writers:
            write(step)
        num_steps, num_boxes = num_steps + 1, num_boxes + len(step.boxes)
        if time.perf_counter() - reported > 30:
            reported = time.perf_counter()
            logger.info("%d steps, %.0f steps/s", num_steps, num_steps / (reported - began))
    rate = num_steps / (time.perf_counter() - began)
    logger.info("%d steps, %d boxes, %.0f steps/s (compilation included)", num_steps, num_boxes, rate)


main = cli.command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
