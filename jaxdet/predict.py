"""Find boxes in recordings, images and videos.

    python -m jaxdet.predict --weights=gen1_hmnet_B3_tbptt.pth --input=mine.raw --out=mine.npy \\
        --render=mine.webm
    python -m jaxdet.predict --weights=yolox_nano.pth --input=photos --out=boxes.json --render=drawn
    python -m jaxdet.predict --weights=yolox_nano.pth --input=clip.mp4 --seqnms --track --out=clip.txt \\
        --render=drawn.webm
    python -m jaxdet.predict --weights=runs/b3 --split=test --out=predictions

Weights say which model they are of; --config, --model_sensor, --classes and --size overrule what they say.

For a model of images `--input` is an image, a folder of images, a .txt with a path a line, or a video. Boxes
go to --out as .h5, .json (COCO results), .pkl (as released), .npz, .csv, .txt (MOT) or into a folder as YOLO
text, pictures to --render: a folder, a film, or the image with the most boxes. An image that cannot be read
is named and left out, the rest is done, and the exit status is 1. --seqnms smooths the boxes of a video or of
numbered images before they are written and drawn. `webcam`, `webcam:1` and addresses such as rtsp:// are read
live, until Ctrl-C or --max_frames. --track gives boxes of images, videos and recordings an identity.

For a model of events `--input` is one recording: a DAT or RAW (EVT2, EVT3) file or a prepared folder. A
camera of another size than the model's sensor is fitted to it, and boxes come back in the camera's pixels:
--fit=none, crop, pad, scale (real coordinates) or bin (whole pixels), of the whole camera or
--region=x,y,w,h; by default pad for a smaller camera, else bin. Steps begin at the first event, rounded down
to a step of the clock, and times are those of the clock; --start_us and --end_us choose a part, --max_gap=S
skips silences longer than S seconds, with a fresh memory. --sensor=WIDTHxHEIGHT overrules the size that the
recording states, --flip and --rotate put a camera upright that hangs otherwise, and --hot_pixels and
--activity_us leave out noise, which is counted. tcp://HOST:PORT, udp://HOST:PORT and - (a pipe) are
live cameras: packets of events, or EVT3 words in a pipe; see docs/live.md. Without --input every recording of
the split of the config's data set is predicted; `--chunk=1/4` takes the second quarter of them. Boxes come
after every step of 5 ms, as `.npy` in the released layout and, for a split, also as detections.h5.
"""

import logging
import sys
from pathlib import Path

import jaxdet
from jaxdet import api, cli, event_flags, predictions
from jaxdet.benchmarks import latency
from jaxdet.data.events import packets, recordings
from jaxdet.data.events.fit import View
from jaxdet.data.images import cameras, decoding
from jaxdet.errors import InputError
from jaxdet.inference import folded
from jaxdet.inference.events import Predictor
from jaxdet.inference.images import VIEWS, ImagePredictor, ItemPredictor
from jaxdet.inference.sources import FittedRecording
from jaxdet.inference.streaming import Limits, StreamDetector
from jaxdet.postprocess.seqnms import SeqNMSOptions
from jaxdet.postprocess.tracking import TrackOptions
from jaxdet.training import setup as runs

logger = logging.getLogger(__name__)

_MAX_EVENTS, _MAX_DELAY_MS = 65_536, 200  # of a live step


def _flags(flags: cli.Flags) -> None:
    flags.config_file("config of the model; default: the one stored with --weights", stored=True)
    flags.string("weights", None, "a run, a weights folder, or a released .pth or .pt file", required=True)
    cli.model_flags(flags)
    flags.string(
        "input",
        None,
        "recording (DAT, RAW or prepared folder), image, folder, .txt list, video, webcam[:N] or rtsp://...",
    )
    event_flags.view_flags(flags)
    flags.integer("max_events", None, "live: newest events that a step keeps; default: 65536")
    flags.integer("max_delay_ms", None, "live: older steps are skipped; default: 200")
    flags.string("images", None, "folder of images; the same as --input")
    flags.choice("tta", "none", list(VIEWS), "views of an image that are joined: mirrored, or scaled as well")
    flags.string("annotations", None, "COCO annotations whose ids a .json of --out takes")
    flags.string("radiometric", None, cli.RADIOMETRIC)
    flags.boolean("strict", False, cli.STRICT)
    flags.string("split", None, "split of the data set; default: the config's test split")
    flags.string("chunk", "0/1", "i/n: part number i of n of the split")
    flags.string("out", None, "boxes of --input: .npy, .h5, .json, .pkl, .npz, .csv, .txt, or a folder")
    flags.string(
        "render", None, "boxes drawn over --input: .mp4, .webm, .avi, one picture as .png, images: a folder"
    )
    flags.boolean("view", False, "show the boxes as they come, on a page of this computer for a browser")
    flags.integer("view_port", 0, "port of that page; 0: any free one")
    flags.boolean("track", False, "give the boxes an identity over time: .txt (MOT), .csv, .json, .npz, .npy")
    flags.number("track_score", 0.3, "boxes from this score on begin tracks")
    flags.number("track_gap", 30, "frames (of recordings: 1/30 s) without a box after which a track ends")
    flags.boolean("seqnms", False, "rescore the boxes of a video or of numbered images with Seq-NMS")
    flags.number("seqnms_score", SeqNMSOptions().min_score, "boxes below this score are dropped by --seqnms")
    flags.integer("max_frames", 0, "frames of a camera or stream; 0: until Ctrl-C")
    flags.integer("render_stride", 10, "steps a picture")
    flags.number("render_score", 0.3, "boxes below this score are not drawn")
    flags.integer("lanes", 1, "recordings of a split side by side")
    flags.boolean("fast", False, "Winograd convolutions, for CPU: faster, boxes move slightly")
    flags.boolean("speed_test", False, "time every step of --input or of the split's part; writes nothing")


def _run(flags: cli.Flags) -> None:
    _check(flags)
    cfg, skeleton, variables = api.open_weights_of(flags)
    metadata = {"model": runs.as_json(cfg)["model"], "weights": flags.weights, "version": jaxdet.__version__}
    of_kind = _of_images if cfg.data.kind == "images" else _of_events
    of_kind(flags, cfg, skeleton, variables, metadata)


def _of_images(flags: cli.Flags, cfg, skeleton, variables, metadata) -> None:
    source = flags.input or flags.images
    if source is None:
        raise InputError("missing --input; a model of images predicts an image, a folder, a list or a video")
    if event_flags.view_of(flags) != View():
        raise InputError("--fit, --region, --sensor, times and filters of events are for models of events")
    detector = ImagePredictor(skeleton, variables, VIEWS[flags.tta], flags.fast)
    predictor = ItemPredictor(cfg.data, detector)
    if flags.radiometric is not None:
        predictor.radiometric = decoding.check_radiometric(flags.radiometric)
    smoothing = predictions.Smoothing(
        SeqNMSOptions(min_score=flags.seqnms_score).check() if flags.seqnms else None, _tracks(flags)
    )
    with _rendering(flags, predictor.class_names) as rendering:
        report = predictions.of_images(
            predictor, source, flags.out, rendering, metadata, flags.annotations, smoothing, flags.max_frames
        )
    cli.check_losses(report, flags.strict)


def _of_events(flags: cli.Flags, cfg, skeleton, variables, metadata) -> None:
    if flags.images:
        raise InputError(f"--images needs a model of images; data.kind of this one is {cfg.data.kind!r}")
    if flags.seqnms:
        raise InputError("--seqnms needs a model of images, with a video or numbered images as --input")
    skeleton, variables = folded.prepare(skeleton, variables, flags.fast)
    names, buckets, view = tuple(cfg.data.classes), tuple(cfg.data.event_buckets), event_flags.view_of(flags)
    split = flags.split or cfg.data.test_split
    if flags.input and packets.is_address(flags.input):
        stream = StreamDetector(skeleton, variables, class_names=names, limits=_limits(flags))
        with _rendering(flags, names) as rendering:
            predictions.of_live(stream, flags.input, view, flags.out, metadata, rendering)
    elif flags.speed_test:
        stream = StreamDetector(skeleton, variables, class_names=names)
        own = [Path(flags.input)] if flags.input else recordings.part(cfg.data.root, split, flags.chunk)[0]
        for path in own:
            print(latency.of_recording(stream, FittedRecording(path, stream.geometry.size, view)))
    elif flags.input:
        predictor = Predictor(skeleton, variables, 1, flags.lanes, class_names=names)
        opened = FittedRecording(Path(flags.input), predictor.geometry.size, view)
        with _rendering(flags, names) as rendering:
            report = predictions.of_recording(
                predictor, opened, buckets, flags.out, rendering, metadata, _tracks(flags)
            )
        cli.check_losses(report, flags.strict)
    else:
        predictor = Predictor(skeleton, variables, flags.lanes, flags.lanes, class_names=names)
        paths, num_all = recordings.part(cfg.data.root, split, flags.chunk)
        index, count = recordings.chunk(flags.chunk)
        name = "detections.h5" if count == 1 else f"detections_{index}of{count}.h5"
        report = predictions.of_split(predictor, paths, buckets, flags.out, name, metadata)
        cli.check_losses(report, flags.strict)
        logger.info("%d of %d recordings -> %s", len(paths), num_all, flags.out)


def _rendering(flags: cli.Flags, class_names: tuple[str, ...]):
    drawn = predictions.Rendering(flags.render, flags.render_score, flags.render_stride)
    port = flags.view_port if flags.view else None
    return predictions.with_page(drawn, Path(flags.input or flags.images).name, class_names, port)


def _limits(flags: cli.Flags) -> Limits:
    gap_us = None if flags.max_gap is None else round(flags.max_gap * 1e6)
    return Limits(flags.max_events or _MAX_EVENTS, 1000 * (flags.max_delay_ms or _MAX_DELAY_MS), gap_us)


def _tracks(flags: cli.Flags) -> TrackOptions | None:
    if not flags.track:
        return None
    score = flags.track_score
    return TrackOptions(score, min(TrackOptions().min_score, score), max_gap=flags.track_gap).check()


def _check(flags: cli.Flags) -> None:
    """Refuse, before anything is loaded, flags that do not go together."""
    source = flags.input or flags.images
    view = event_flags.view_of(flags)
    if not source and view != View():
        raise InputError("--fit, --region, --sensor, times and filters of events are for --input")
    if flags.speed_test and flags.max_gap is not None:
        raise InputError("--max_gap does not go with --speed_test; give --start_us and --end_us")
    if flags.view_port and not flags.view:
        raise InputError("--view_port is for --view")
    live = source and packets.is_address(source)
    if not live and (flags.max_events is not None or flags.max_delay_ms is not None):
        raise InputError("--max_events and --max_delay_ms are for a live --input")
    if live:
        if not (flags.out or flags.view) or flags.render or flags.speed_test or view != view.live():
            raise InputError(
                "a live --input takes --out (- for lines of JSON), --view, --max_gap, --max_events, "
                "--max_delay_ms, --fit, --region, --sensor, --flip, --rotate, --activity_us and --hot_pixels "
                "by their names"
            )
    elif source:
        if not (flags.out or flags.render or flags.view or flags.speed_test):
            raise InputError("nothing to write: give --out, --render or both, or --view")
        if not (cameras.is_live(source) or Path(source).exists()):
            raise InputError(f"{source}: no such file; expected a recording, an image, a folder or a video")
    elif flags.track or flags.seqnms or flags.view:
        raise InputError("--track, --seqnms and --view need --input")
    elif not flags.speed_test and (not flags.out or flags.render):
        raise InputError("a split is written to the folder --out; --render needs --input")
    recordings.chunk(flags.chunk)


main = cli.Command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
