"""The front door: load a detector, run it on recordings, images, videos or live events, measure it, save
it."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from ml_collections import ConfigDict

import jaxdet
from jaxdet import config_files, released
from jaxdet.data.events import fit as fits
from jaxdet.data.events import tables
from jaxdet.data.events.fit import Fit, View
from jaxdet.data.images import decoding, sets
from jaxdet.errors import InputError
from jaxdet.evaluation import of_weights
from jaxdet.evaluation.metrics import Metrics
from jaxdet.exporting import check as checks
from jaxdet.exporting import write as exporting
from jaxdet.inference import folded, restore, sources
from jaxdet.inference.events import Predictor
from jaxdet.inference.images import VIEWS, ImagePredictor, ItemPredictor
from jaxdet.inference.live import Stream, Streams
from jaxdet.inference.resized import resized
from jaxdet.inference.streaming import Limits, StreamDetector
from jaxdet.models import from_config
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Boxes, EventGeometry, ReadReport
from jaxdet.training import setup
from jaxdet.weights import checkpoint, identify
from jaxdet.weights.load import load_folder
from jaxdet.weights.torch import file, state_dict

logger = logging.getLogger(__name__)


def load(
    weights: str | os.PathLike,
    config: str | ConfigDict | None = None,
    *,
    sensor: str | tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    model_size: str | tuple[int, int] | None = None,
    min_score: float | None = None,
    tta: str = "none",
    fast: bool = False,
) -> "Model":
    """The detector of a released .pth or .pt file, a training run, or a weights folder.

    Family, size, class names and sensor come from the file; what a released file does not say comes from a
    table and is logged in one line. `config` ("gen1_hmnet:b3", a file, or a ConfigDict) overrules all of it.
    `sensor` ("304x240" or (height, width)), `classes` and `size` (pixels of the longer side of images)
    overrule single values. `model_size` ("640x480" or (height, width)) runs HMNet at another size than that
    of its training, with resized initial latents. `min_score` drops boxes below it. `tta` joins views of an
    image: "none", "flip" or "scales". `fast` takes Winograd's algorithm for wide convolutions, for CPU: boxes
    move by fractions of a pixel. Raises InputError if the weights do not fit.
    """
    chosen = config_files.load(config) if isinstance(config, str) else config

    def with_score(cfg: Any) -> Any:
        if min_score is not None:
            with cfg.unlocked():
                cfg.model.min_score = float(min_score)
        return cfg

    described = {"sensor": sensor, "classes": classes, "size": size, "model_size": model_size}
    return Model(*open_weights(weights, chosen, override=with_score, **described), tta=tta, fast=fast)


def open_weights(
    weights: str | os.PathLike,
    config: Any = None,
    *,
    override: Callable[[Any], Any] = lambda cfg: cfg,
    sensor: str | tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    model_size: str | tuple[int, int] | None = None,
) -> tuple[Any, Skeleton, Variables]:
    """Config, skeleton and weights of a detector; see `load`. `override` changes the config before it is
    built."""
    if model_size is not None:
        cfg, _, variables = open_weights(
            weights, config, override=override, sensor=sensor, classes=classes, size=size
        )
        return resized(cfg, variables, released.height_width(model_size))
    path = Path(weights)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a weights folder, a run or a .pth or .pt file")
    if config is None and path.is_file():
        try:
            identity = identify.identify(state_dict.find(file.load(path)))
            found = released.config_of(identity, sensor, classes, size)
        except InputError as error:
            raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
        logger.info("%s: %s", path, found.line())
        return restore.load_model(override(found.config), path)
    if config is None:
        config = ConfigDict(load_folder(path)[1])
    released.overrule(config, sensor, classes, size)
    return restore.load_model(override(config), path)


def open_weights_of(flags: Any) -> tuple[Any, Skeleton, Variables]:
    """`open_weights` with the flags of a command: --weights, --config and those of `cli.model_flags`."""
    return open_weights(
        flags.weights,
        flags.config,
        override=flags.override,
        sensor=flags.model_sensor,
        classes=flags.classes or None,
        size=flags.size,
        model_size=flags.model_size,
    )


class _Form(TypedDict, total=False):
    raw: bool
    batch: int | str | None
    dtype: str | None
    int8: bool
    num_events: int


class Model:
    """A detector with its weights. `config` is the ConfigDict it was built from."""

    def __init__(
        self, config: Any, skeleton: Skeleton, variables: Variables, *, tta: str = "none", fast: bool = False
    ):
        if tta not in VIEWS:
            raise InputError(f"tta {tta!r}; expected one of {', '.join(VIEWS)}")
        self.config = config
        self._skeleton, self._variables, self._tta, self._fast = skeleton, variables, tta, fast
        self._predictor: Any = None  # made at the first prediction

    @property
    def family(self) -> str:
        """ "hmnet", "yolox" or "yolov4"."""
        return self.config.model.name

    @property
    def kind(self) -> str:
        """ "events" or "images"."""
        return self.config.data.kind

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of labels."""
        return tuple(self.config.data.classes)

    def __repr__(self) -> str:
        return f"Model({self.family}, {self.kind}, {len(self.class_names)} classes)"

    @property
    def geometry(self) -> EventGeometry:
        """Sensor, step and cells of a model of events."""
        self._check_kind("events", "geometry")
        return from_config.geometry(self.config)

    def predict(
        self,
        source: Any,
        *,
        bgr: bool = False,
        camera: str | tuple[int, int] | None = None,
        **view: Unpack[fits.ViewOptions],
    ) -> Any:
        """Boxes of `source`, best first.

        A model of images takes one image (a path, an array [H, W] or [H, W, 3], uint8, red first, blue first
        with `bgr`, or an image of Pillow) and gives its `Boxes`. Of a folder, a .txt list, a video, or a list
        or generator of images it gives an iterator of `Boxes`, in order; a path of a list that cannot be read
        is logged and has no boxes.

        A model of events takes a recording (a file of any format, or a prepared folder), a list of them, or
        events: arrays (t_us, x, y, polarity), or a table with fields or columns of these names. It gives an
        iterator of the `Boxes` after every step, in the pixels and the clock of the camera. `fit` ("none",
        "crop", "pad", "scale", "bin") lays a camera of another size, or its `region` (x, y, width, height),
        on the model's sensor; without it one is chosen and logged. `camera` ("640x480" or (height, width)) is
        the size of the camera that arrays come from, and overrules what a file states. `start_us` and
        `end_us` choose a part; silences longer than `max_gap_s` are skipped, with a fresh memory. `flip`
        ("x", "y", "xy") and `rotate` (degrees clockwise) put a camera upright; `hot_pixels` (pairs (x, y), or
        "find") and `activity_us` leave out noise, which is counted.
        """
        chosen = fits.view(None if camera is None else released.height_width(camera), **view)
        if self.kind == "events":
            return self._of_events(source, chosen)
        if chosen != View():
            raise InputError(f"fit, region, camera and times are for models of events; this is {self.family}")
        if isinstance(source, (str, os.PathLike)):
            return self._of_path(Path(source))
        if decoding.is_picture(source) or not isinstance(source, Iterable) or isinstance(source, bytes):
            return next(self._items().of_sources([decoding.picture(source, bgr)]))
        return self._items().of_sources(decoding.picture(item, bgr) for item in source)

    def stream(
        self,
        camera: str | tuple[int, int] | None = None,
        *,
        max_events: int | None = None,
        max_delay_us: int | None = None,
        max_gap_us: int | None = None,
        **place: Unpack[fits.PlaceOptions],
    ) -> Stream:
        """Boxes from events as they come, with a memory of its own.

        `camera` ("640x480" or (height, width)) is by default of the model's size; its place and its filters
        are those of `predict`, with hot pixels by their names. A step keeps its newest `max_events` events,
        and every program is compiled at once; without it no event is left out, and a larger burst than any
        before compiles a program. Steps that are more than `max_delay_us` behind the newest event are
        skipped, and silences longer than `max_gap_us` with a fresh memory; `statistics` counts all that is
        left out. A clock that jumps back by more than a second begins another recording.
        """
        limits = Limits(max_events, max_delay_us, max_gap_us)
        return self._streams([camera], limits, place)[0]

    def streams(
        self,
        cameras: Sequence[str | tuple[int, int] | None],
        *,
        max_events: int | None = None,
        max_delay_us: int | None = None,
        max_gap_us: int | None = None,
        **place: Unpack[fits.PlaceOptions],
    ) -> Streams:
        """A stream for each camera, as by `stream`; their steps run as one batch while they are in step."""
        return self._streams(cameras, Limits(max_events, max_delay_us, max_gap_us), place)

    def _streams(self, cameras: Sequence[Any], limits: Limits, place: Any) -> Streams:
        self._check_kind("events", "stream")
        skeleton, variables = self._folded()
        detectors = []
        for camera in cameras:
            view = fits.view(None if camera is None else released.height_width(camera), **place)
            if view != view.live():
                raise InputError(
                    'hot_pixels="find" needs a recording; name them, as `jaxdet info` lists them'
                )
            one = StreamDetector(
                skeleton, variables, start_us=None, class_names=self.class_names, limits=limits
            )
            one.reset(None, fit=self._fit(view), filters=view.filters)
            detectors.append(one)
        return Streams(detectors, compile_now=limits.max_events is not None)

    def evaluate(
        self, data: str | os.PathLike | None = None, split: str | None = None, protocol: str = "hmnet"
    ) -> Metrics:
        """COCO's average precision on a labelled split: `metrics.ap`, `metrics.table()`, `metrics.per_class`.

        `data` is the root of a prepared data set, by default the config's; `split` is one of its splits, by
        default the test split. `protocol` is for events: one of `evaluation.protocols.NAMES`. Raises
        InputError if part of the split could not be read.
        """
        block = self.config.data.copy_and_resolve_references()
        if data is not None:
            with block.unlocked():
                block.root = str(data)
        if self.kind == "events":
            done = of_weights.of_recordings(
                block, self._skeleton, self._variables, split=split, protocol=protocol, fast=self._fast
            )
        else:
            done = of_weights.of_images(
                block, self._skeleton, self._variables, split=split, tta=self._tta, fast=self._fast
            )
        if done.problems:
            raise InputError("; ".join(done.problems))
        return done.metrics

    def save(self, folder: str | os.PathLike) -> None:
        """Write a weights folder, which `load` reads and which knows its config."""
        checkpoint.save_weights(folder, self._variables, setup.as_json(self.config))

    def export(
        self,
        path: str | os.PathLike,
        *,
        check: bool = True,
        source: str | os.PathLike | None = None,
        annotations: str | os.PathLike | None = None,
        licence: str = "not stated",
        **form: Unpack[_Form],
    ) -> list[checks.Comparison]:
        """Write an .onnx or .stablehlo file, and what there is to know about it to `path` + ".json".

        The file is run beside jaxdet on `source` (images, or a recording), or on simulated input, and the
        comparisons are returned; InputError, and no file, if it differs. COCO `annotations` of `source` add
        the AP of both. `raw` leaves decoding and suppression out. `batch` is the number of images, or "any";
        `dtype` "float16" or "bfloat16" computes in half precision, and `int8` quantises convolutions by the
        images of `source`. A step of a model of events takes up to `num_events`.
        """
        folder = None if source is None else Path(source)
        return exporting.export(
            Path(path),
            self.config,
            self._skeleton,
            self._variables,
            exporting.Form(**form),
            version=jaxdet.__version__,
            check=check,
            source=folder,
            licence=licence,
            measure=of_weights.measure(self.config.data, folder, annotations) if annotations else None,
        )

    def _check_kind(self, kind: str, what: str) -> None:
        if self.kind != kind:
            raise InputError(f"{what} is for models of {kind}; this one is {self.family}, of {self.kind}")

    def _folded(self) -> tuple[Skeleton, Variables]:
        """Skeleton and weights rearranged for inference on events."""
        return folded.prepare(self._skeleton, self._variables, self._fast)

    def _items(self) -> ItemPredictor:
        """The predictor of images; compiled programs are kept between calls."""
        if self._predictor is None:
            detector = ImagePredictor(self._skeleton, self._variables, VIEWS[self._tta], self._fast)
            self._predictor = ItemPredictor(self.config.data, detector)
        return self._predictor

    def _of_path(self, path: Path) -> Boxes | Iterator[Boxes]:
        if sets.is_video(path):
            return (found.boxes for found in self._items().video(sets.VideoFile(path)))
        items = sets.open_input(path)
        found = (result.boxes for result in self._items().items(items))
        if path.is_dir() or path.suffix.lower() == ".txt":
            return found
        boxes = next(found, None)
        if boxes is None:
            raise InputError(f"{path}: not a readable image, as logged above")
        return boxes

    def _fit(self, view: View) -> Fit:
        size = self.geometry.size
        camera = view.sensor or view.mounting.size(size)
        chosen = fits.choose(view.fit, camera, size, view.region, view.mounting)
        if not chosen.is_identity:
            logger.info("events: %s", chosen.line())
        return chosen

    def _of_events(self, source: Any, view: View) -> Iterator[Boxes]:
        if self._predictor is None:
            self._predictor = Predictor(*self._folded(), class_names=self.class_names)
        buckets = tuple(self.config.data.event_buckets)
        paths = [source] if isinstance(source, (str, os.PathLike)) else source
        report = ReadReport()
        events = None if paths is not source else tables.in_memory(source, report)
        if events is not None:
            fitted = sources.FittedArrays(events, self._fit(view), view, report)
            return (step.boxes for step in sources.predict(self._predictor, fitted, buckets))
        size = self.geometry.size
        opened = (sources.FittedRecording(path, size, view) for path in sources.paths(paths))
        return (step.boxes for one in opened for step in sources.predict(self._predictor, one, buckets))
