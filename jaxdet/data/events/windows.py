"""Batches of training windows, a pure function of the step number.

Step `i` of a stage whose windows have S segments is segment `i % S` of window group `i // S`. Order, draws
and array shapes depend on the seed and the step alone, so any process or worker can make any step, and a
resumed run only needs the number. A group of B windows is B consecutive entries of the epoch's permutation;
windows that do not fill a group at the end of an epoch are left out, and the next epoch permutes anew.
"""

import logging
from typing import Any, NamedTuple

import numpy as np

from jaxdet.data import pipeline
from jaxdet.data.events import affine, balance, erasing, packing, samples
from jaxdet.data.events import augment as events
from jaxdet.data.events.cache import Recordings, Unreadable
from jaxdet.data.events.recordings import LABEL_DTYPE
from jaxdet.errors import InputError
from jaxdet.structs import Batch

logger = logging.getLogger(__name__)

_LOOKED_AT = 100  # recordings, to say which events will not fit


class DroppedEvents(NamedTuple):
    """Counts of the events and lanes that a batch had to leave out; the iterator adds them up."""

    events: int = 0  # that did not fit the largest bucket
    boxes: int = 0  # that an affine augmentation took off the sensor
    lanes: int = 0  # recordings that could not be read, with data.skip_corrupt


class Windows:
    """Training windows of the prepared recordings of a split.

    Fields read from `config` (any object with these attributes): root, seed, height, width (input pixels),
    step_us, window_ms, segment_ms, batch_size (over all processes), event_buckets (ascending), max_slots,
    max_boxes, augment (bool), erase (regions a window, see `erasing`; 0 if it is not there), warmup (labels
    count only from step `warmup_steps` + 1 on, of every segment if "segment", as released, of the window if
    "recording"), overfit (N > 0: only the first N windows of the shuffled list, always with the same draws),
    skip_corrupt (an unreadable recording gives an empty lane, counted, instead of an error),
    label_every (keep one of so many labelled times; 1 if it is not there), affine (see `affine.Ranges`; none
    if it is not there), balance (the classes take turns, see `balance`; false if it is not there).

    `process` is this process's index and the number of processes: it gets lanes `index * B / count` onwards.
    """

    def __init__(self, config: Any, split: str, process: tuple[int, int] = (0, 1), warmup_steps: int = 20):
        every = int(getattr(config, "label_every", 1))
        self._recordings = Recordings(config.root, split, config.height, config.width, every)
        self._layout = _Layout.of(config, warmup_steps)
        self._seed, self._overfit = int(config.seed), int(config.overfit)
        self._skip = bool(config.skip_corrupt)
        self.batch_size = int(config.batch_size)
        self._lanes = pipeline.lanes_of(self.batch_size, process)
        self._say_what_will_not_fit()
        tables = self._label_tables(int(config.max_boxes))
        self._samples = samples.sample_list([rows["t"] for rows in tables])
        num = len(self._samples.recording)
        self._turns = balance.class_turns(self._samples, tables) if self._layout.balance else None
        if self._turns is not None:
            never = self._turns.num_never(num)
            logger.info(
                "training: classes take turns; %d of %d labelled times hold no scored box", never, num
            )
        if num < self.batch_size and not self._overfit:
            raise InputError(
                f"{config.root}: split {split} has {num} labelled times, fewer than the batch size "
                f"{self.batch_size}; lower data.batch_size"
            )

    def _say_what_will_not_fit(self) -> None:
        """Log which events the largest bucket cannot hold, by the first recordings' own index."""
        span_ms, counts = self._layout.segment_ms, [np.zeros(0, np.int64)]
        for index in range(min(len(self._recordings), _LOOKED_AT)):
            try:
                edges = np.arange(0, self._recordings.duration_ms(index) + span_ms, span_ms)
                counts.append(self._recordings.count(index, edges))
            except Unreadable:  # said where its labels are read, or skipped
                continue
        if line := packing.overflow(np.concatenate(counts), self._layout.event_buckets, span_ms):
            logger.info("training, first %d recordings, before augmentation: %s", len(counts) - 1, line)

    def _label_tables(self, max_boxes: int) -> list[np.ndarray]:
        tables, left_out = [], 0
        for index in range(len(self._recordings)):
            try:
                labels = self._recordings.labels(index)[0]
                left_out += self._recordings.label_times_left_out(index)
            except Unreadable:
                if not self._skip:
                    raise
                labels = np.zeros(0, LABEL_DTYPE)
            most = np.unique(labels["t"], return_counts=True)[1].max(initial=0)
            if most > max_boxes:
                raise InputError(
                    f"{self._recordings.name(index)}: {most} boxes at one time, room for {max_boxes}; "
                    "raise data.max_boxes"
                )
            tables.append(labels)
        if left_out:
            kept = sum(len(np.unique(rows["t"])) for rows in tables)
            logger.info(
                "training: left out %d of %d labelled times (data.label_every)", left_out, left_out + kept
            )
        return tables

    @property
    def num_segments(self) -> int:
        """Segments of a window: consecutive steps of the same lanes."""
        return self._layout.num_segments

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch, in which every window is seen once; incomplete groups are left out."""
        num = self._overfit or len(self._samples.recording)
        return max(1, num // self.batch_size) * self.num_segments

    def batch(self, step: int) -> tuple[Batch, DroppedEvents]:
        """This process's lanes of step `step`, and the counts of what was dropped."""
        group, segment = divmod(step, self.num_segments)
        lay = self._layout
        counts = self._num_events(group)[:, segment]
        out = packing.empty(
            len(self._lanes),
            packing.bucket(int(counts.max()), lay.event_buckets),
            lay.segment_steps,
            lay.max_slots,
            lay.max_boxes,
        )
        out.reset[:] = segment == 0
        lost = DroppedEvents()
        for lane, position in enumerate(self._lanes):
            place = group * self.batch_size + position
            try:
                found = self._fill(out, lane, place, segment)
            except Unreadable:
                if not self._skip:
                    raise
                found = DroppedEvents(lanes=1)
            lost = DroppedEvents(*(a + b for a, b in zip(lost, found, strict=True)))
        return out, lost

    def _fill(self, out: Batch, lane: int, position: int, segment: int) -> DroppedEvents:
        sample, draws = self._window(position)
        lay, index = self._layout, int(self._samples.recording[sample])
        start = draws.start_ms + segment * lay.segment_ms
        raw = self._recordings.events(index, start, start + lay.segment_ms)
        raw = erasing.erase(raw, self._erased(position), 1000 * draws.start_ms)
        table, interval_us = self._recordings.labels(index)
        view = events.view(draws, lay.height, lay.width) if lay.augment else None
        whole, warp = view or events.identity(lay.height, lay.width), self._warp(position)
        pixels = events.pixel_map(whole) if warp is None else affine.pixel_map(warp, whole)
        labels = samples.window_labels(
            table, interval_us, draws.start_ms, lay.window_ms, lay.step_us, view, warp
        )
        outside = 0 if segment else labels.num_outside  # counted once a window
        first = segment * lay.segment_steps
        min_step = lay.warmup_steps + 1 + (first if lay.warmup == "segment" else 0)
        labels = labels.between(max(first, min_step), first + lay.segment_steps)
        origin = packing.Origin(self._recordings.name(index), index, 1000 * draws.start_ms, lay.step_us)
        packing.put_labels(out, lane, labels, first, origin)
        return DroppedEvents(
            packing.put_events(out, lane, raw, 1000 * start, pixels, lay.step_us), boxes=outside
        )

    def _window(self, position: int) -> tuple[int, events.Draws]:
        """Sample and draws of entry `position` of the endless list of windows."""
        num = len(self._samples.recording)
        if self._overfit:
            position %= min(self._overfit, num)
        per_epoch = max(num - num % self.batch_size, 1) if not self._overfit else num
        epoch, place = divmod(position, per_epoch)
        if self._turns is not None:
            sample = self._turns.sample(self._seed, position)
        else:
            sample = int(pipeline.permutation(self._seed, epoch, num)[place])
        index, label_ms = int(self._samples.recording[sample]), int(self._samples.label_ms[sample])
        try:
            duration = self._recordings.duration_ms(index)
        except Unreadable:
            if not self._skip:
                raise
            duration = self._layout.window_ms
        starts = samples.window_starts(label_ms, self._layout.window_ms, duration)
        rng = np.random.default_rng([self._seed, 1, position])
        lay = self._layout
        return sample, events.draw(rng, starts, lay.height, lay.width, lay.augment)

    def _erased(self, position: int) -> list[erasing.Region]:
        """Erased regions of a window; they have random numbers of their own, so that other draws stay."""
        lay = self._layout
        rng = np.random.default_rng([self._seed, 2, position])
        return erasing.draw(rng, lay.erase, lay.height, lay.width, 1000 * lay.window_ms)

    def _warp(self, position: int) -> affine.AffineMap | None:
        """Affine map of a window, by random numbers of its own."""
        lay = self._layout
        return affine.draw(
            np.random.default_rng([self._seed, 3, position]), lay.affine, lay.height, lay.width
        )

    def _num_events(self, group: int) -> np.ndarray:
        """Number of events per lane of a group, also of other processes, and segment: int64 [B, S]."""
        lay = self._layout
        edges = lay.segment_ms * np.arange(lay.num_segments + 1)
        counts = np.zeros((self.batch_size, lay.num_segments), np.int64)
        for lane in range(self.batch_size):
            sample, draws = self._window(group * self.batch_size + lane)
            try:
                counts[lane] = self._recordings.count(
                    int(self._samples.recording[sample]), draws.start_ms + edges
                )
            except Unreadable:
                if not self._skip:
                    raise
        return counts


class _Layout(NamedTuple):
    """The numbers of the config that shape a batch."""

    height: int
    width: int
    step_us: int
    window_ms: int
    segment_ms: int
    num_segments: int
    segment_steps: int
    event_buckets: tuple[int, ...]
    max_slots: int
    max_boxes: int
    augment: bool
    erase: int
    affine: affine.Ranges
    balance: bool
    warmup: str
    warmup_steps: int

    @classmethod
    def of(cls, config: Any, warmup_steps: int) -> "_Layout":
        window, segment, step = int(config.window_ms), int(config.segment_ms), int(config.step_us)
        if not 0 < step <= np.iinfo(np.int16).max:
            raise InputError(f"step of {step} us, expected 1 to 32767; change data.step_us")
        if window % segment or 1000 * segment % step:
            raise InputError(
                f"window of {window} ms, segments of {segment} ms, steps of {step} us: expected each to be a "
                "multiple of the next; change data.window_ms, segment_ms or step_us"
            )
        if config.warmup not in ("segment", "recording"):
            raise InputError(f"data.warmup is {config.warmup!r}, expected 'segment' or 'recording'")
        erase = int(getattr(config, "erase", 0))
        if erase < 0:
            raise InputError(f"data.erase is {erase}, expected a number of regions, 0 or more")
        return cls(
            int(config.height),
            int(config.width),
            step,
            window,
            segment,
            window // segment,
            1000 * segment // step,
            tuple(sorted(int(b) for b in config.event_buckets)),
            int(config.max_slots),
            int(config.max_boxes),
            bool(config.augment),
            erase,
            affine.Ranges.of(config.affine) if hasattr(config, "affine") else affine.Ranges(),
            bool(getattr(config, "balance", False)),
            config.warmup,
            warmup_steps,
        )
