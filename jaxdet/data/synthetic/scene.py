"""A street seen by a moving camera: positions of all objects at each frame, and the rendered picture.

Camera and traffic stop and go together, as at a crossing. While an object and the camera stand still the
object makes no events, and only a detector with memory can report it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxdet.data.synthetic.textures import HORIZON, POSES, Sprite, car, cyclist, pedestrian, street, uniform

WIDTH, HEIGHT = 304, 240
FRAME_US = 10_000
MARGIN = 170  # world pixels beyond the view that the camera may pan to, each side
RAMP_FRAMES = 4  # a stop takes 40 ms
CAR, PEDESTRIAN, CYCLIST = 0, 1, 2
CLASSES = (CAR, PEDESTRIAN)
# A label needs this side and diagonal, a little above the protocol's 10 and 30 pixels, and visible share.
MIN_SIDE, MIN_DIAGONAL, MIN_VISIBLE = 12, 32, 0.35


class CameraPath(NamedTuple):
    """Pose of the camera at each frame, float64 [F]: world point at the middle of the view, magnification."""

    x: np.ndarray
    y: np.ndarray
    zoom: np.ndarray


@dataclass
class Actor:
    """One object from the frame it enters to the frame it has left. Coordinates are the world's."""

    track_id: int
    class_id: int
    sprite: Sprite
    base_y: float  # row of the feet or wheels; a larger one is nearer and hides what is behind
    speed: float  # pixels per second, positive to the right
    first: int
    x: list[float]  # middle, per frame from `first`
    pose: list[int]


class Pole(NamedTuple):
    """A vertical pole that hides objects behind it. Coordinates are the world's."""

    x: float
    width: float
    base_y: float
    level: float


class Scene:
    """A simulated street of `num_frames` pictures, FRAME_US apart. Equal generators give equal scenes.

    Objects of `classes` go in turn along the lanes of the street.
    """

    def __init__(self, rng: np.random.Generator, num_frames: int, classes: tuple[int, ...] = CLASSES):
        self.num_frames = num_frames
        self._pad_x, self._pad_y = MARGIN, 48
        self._street = street(rng, HEIGHT + 2 * self._pad_y, WIDTH + 2 * self._pad_x)
        stops = _stops(rng, num_frames)
        self.camera = _drive(rng, stops, num_frames)
        self.actors = _traffic(rng, stops, self.camera, num_frames, classes)
        self.poles = _poles(rng)
        self._background: tuple[tuple, np.ndarray] | None = None

    def log_intensity(self, frame: int) -> np.ndarray:
        """The picture, float32 [HEIGHT, WIDTH]."""
        image = self._background_at(frame).copy()
        for thing in self._back_to_front(frame):
            if isinstance(thing, Pole):
                self._draw_pole(image, thing, frame)
            else:
                rows, columns, layers = self._patch(thing, frame)
                if layers.size:
                    target = image[rows, columns]
                    target *= 1 - layers[1]
                    target += layers[0]
        return image

    def pose(self, frame: int) -> tuple:
        """State of camera and objects: two frames of equal pose have equal pictures."""
        actors = tuple(
            (a.track_id, a.x[frame - a.first], a.pose[frame - a.first]) for a in self._present(frame)
        )
        return self._view(frame), actors

    def labels(self, frame: int) -> list[tuple[float, float, float, float, int, int]]:
        """Boxes (x, y, w, h, class_id, track_id) of large and visible objects, clipped to the view."""
        owner = np.full((HEIGHT, WIDTH), -1, np.int16)
        areas, boxes = {}, {}
        for thing in self._back_to_front(frame):
            if isinstance(thing, Pole):
                columns, _, rows = self._pole_columns(thing, frame)
                owner[:rows, columns] = -1
                continue
            rows, columns, layers = self._patch(thing, frame)
            if layers.size:
                owner[rows, columns] = np.where(layers[1] > 0.5, thing.track_id, owner[rows, columns])
            zoom = self.camera.zoom[frame]
            opaque = np.count_nonzero(thing.sprite.layers[thing.pose[frame - thing.first], 1] > 0.5)
            areas[thing.track_id] = opaque * zoom * zoom
            boxes[thing.track_id] = self._box(thing, frame), thing.class_id
        rows = []
        for track_id, (box, class_id) in boxes.items():
            left, top = max(round(box[0]), 0), max(round(box[1]), 0)
            w, h = min(round(box[2]), WIDTH) - left, min(round(box[3]), HEIGHT) - top
            visible = np.count_nonzero(owner == track_id)
            large = min(w, h) >= MIN_SIDE and w * w + h * h >= MIN_DIAGONAL * MIN_DIAGONAL
            if large and visible >= MIN_VISIBLE * areas[track_id]:
                rows.append((left, top, w, h, class_id, track_id))
        return rows

    def _view(self, frame):
        return self.camera.x[frame], self.camera.y[frame], self.camera.zoom[frame]

    def _present(self, frame):
        return [a for a in self.actors if a.first <= frame < a.first + len(a.x)]

    def _back_to_front(self, frame):
        reach = WIDTH / 2 / self.camera.zoom[frame] + 10
        poles = [pole for pole in self.poles if abs(pole.x - self.camera.x[frame]) < reach]
        return sorted([*self._present(frame), *poles], key=lambda thing: thing.base_y)

    def _to_view(self, x, y, frame):
        camera_x, camera_y, zoom = self._view(frame)
        return (x - camera_x) * zoom + WIDTH / 2, (y - camera_y) * zoom + HEIGHT / 2

    def _box(self, actor, frame):
        half, top = actor.sprite.width / 2, actor.base_y - actor.sprite.height
        x = actor.x[frame - actor.first]
        return (*self._to_view(x - half, top, frame), *self._to_view(x + half, actor.base_y, frame))

    def _background_at(self, frame):
        view = self._view(frame)
        if self._background is None or self._background[0] != view:
            x, y, zoom = view
            rows = (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / zoom + y + self._pad_y - 0.5
            columns = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / zoom + x + self._pad_x - 0.5
            self._background = view, _sample(self._street, rows, columns)
        return self._background[1]

    def _patch(self, actor, frame):
        """Row slice, column slice and layers float32 [2, h, w] of an actor, empty when out of view."""
        x1, y1, x2, y2 = self._box(actor, frame)
        left, top = max(int(np.floor(x1)), 0), max(int(np.floor(y1)), 0)
        right, bottom = min(int(np.ceil(x2)), WIDTH), min(int(np.ceil(y2)), HEIGHT)
        if right <= left or bottom <= top:
            return slice(0), slice(0), np.zeros((2, 0, 0), np.float32)
        zoom = self.camera.zoom[frame]
        # The sprite's border of one transparent pixel shifts its pixel centres by one.
        rows = (np.arange(top, bottom) + 0.5 - y1) / zoom + 0.5
        columns = (np.arange(left, right) + 0.5 - x1) / zoom + 0.5
        picture = actor.sprite.layers[actor.pose[frame - actor.first]]
        return slice(top, bottom), slice(left, right), _sample(picture, rows, columns)

    def _pole_columns(self, pole, frame):
        """Columns, their coverage in 0..1, and the number of rows a pole covers."""
        left, bottom = self._to_view(pole.x - pole.width / 2, pole.base_y, frame)
        right, _ = self._to_view(pole.x + pole.width / 2, pole.base_y, frame)
        first, last = max(int(np.floor(left)), 0), min(int(np.ceil(right)), WIDTH)
        columns = np.arange(first, max(first, last))
        coverage = np.minimum(columns + 1, right) - np.maximum(columns, left)
        return columns, coverage.astype(np.float32), min(max(int(bottom), 0), HEIGHT)

    def _draw_pole(self, image, pole, frame):
        columns, coverage, rows = self._pole_columns(pole, frame)
        if len(columns):
            covered = slice(columns[0], columns[-1] + 1)
            image[:rows, covered] *= 1 - coverage
            image[:rows, covered] += coverage * np.float32(pole.level)


def _sample(picture, rows, columns):
    """Bilinear samples of `picture` [..., H, W] on the grid rows x columns (clamped): float32 [..., h, w]."""
    first = min(max(int(columns[0]), 0), picture.shape[-1] - 2)
    last = max(int(columns[-1]) + 2, first + 2)
    picture = _interpolate(picture[..., first:last], rows, axis=-2)
    return _interpolate(picture, columns - first, axis=-1)


def _interpolate(picture, where, axis):
    where = np.clip(where, 0, picture.shape[axis] - 1.001)
    low = np.floor(where)
    weight = (where - low).astype(np.float32)
    weight = weight if axis == -1 else weight[:, None]
    low = low.astype(np.intp)
    below, above = picture.take(low, axis=axis), picture.take(low + 1, axis=axis)
    above -= below
    above *= weight
    above += below
    return above


def _stops(rng, num_frames):
    """Alternating go and stop phases as (first frame, end frame, stopped)."""
    phases, frame, stopped = [], 0, False
    while frame < num_frames:
        length = int(rng.integers(22, 45)) if stopped else int(rng.integers(30, 60))
        phases.append((frame, min(frame + length, num_frames), stopped))
        frame, stopped = frame + length, not stopped
    return phases


def _ramped(active):
    """Moving average float64 [F] over RAMP_FRAMES frames, because halts and starts are not instantaneous."""
    total = np.cumsum(np.concatenate([np.repeat(active[:1], RAMP_FRAMES), active]))
    return (total[RAMP_FRAMES:] - total[:-RAMP_FRAMES]) / RAMP_FRAMES


def _drive(rng, phases, num_frames):
    """The camera pans and zooms during go phases and rests during stops."""
    active = np.zeros(num_frames)
    velocity = np.zeros((3, num_frames))
    x = y = log_zoom = 0.0
    seconds = FRAME_US / 1e6
    for first, end, stopped in phases:
        # Away from the middle of its range the camera turns back.
        v = (
            uniform(rng, 12, 45) * _turn(rng, x, 90),
            uniform(rng, 0, 10) * _turn(rng, y, 8),
            uniform(rng, 0, 0.06) * _turn(rng, log_zoom, 0.05),
        )
        velocity[:, first:] = np.array(v)[:, None]  # a stop rolls out with the velocity before it
        if not stopped:
            active[first:end] = 1
            x, y, log_zoom = (p + w * (end - first) * seconds for p, w in zip((x, y, log_zoom), v))
        elif first:
            velocity[:, first:end] = velocity[:, first - 1 : first]
    moved = np.cumsum(velocity * _ramped(active) * seconds, axis=1)
    limit = MARGIN - 24
    return CameraPath(np.clip(moved[0], -limit, limit) + WIDTH / 2, moved[1] + HEIGHT / 2, 1 + moved[2])


def _turn(rng, position, free):
    """Direction +1 or -1: random within `free` of the middle, back towards it outside."""
    if abs(position) > free:
        return -1 if position > 0 else 1
    return 1 if rng.random() < 0.5 else -1


def _traffic(rng, phases, camera, num_frames, classes):
    """Actors of six slots, each replaced by a newcomer when it has left the view."""
    lanes = rng.permutation(6)
    classes = (classes * 6)[:6]
    actors: list[Actor] = []
    for slot, class_id in enumerate(classes):
        moving = _slot_activity(rng, phases, class_id, num_frames)
        lane = int(lanes[slot])
        actor = _newcomer(rng, len(actors), class_id, lane, 0)
        places = (WIDTH - 60) / len(classes)
        actor.x.append(30 + places * (slot + rng.random()))
        actor.pose.append(0)
        actors.append(actor)
        walked = 0.0
        for frame in range(1, num_frames):
            step = actor.speed * moving[frame] * FRAME_US / 1e6
            walked += abs(step)
            half_view = WIDTH / 2 / camera.zoom[frame] + actor.sprite.width / 2 + 2
            x = actor.x[-1] + step
            if abs(x - camera.x[frame]) > half_view + 4:
                drift = (camera.x[frame] - camera.x[frame - 1]) * 1e6 / FRAME_US
                actor = _newcomer(rng, len(actors), class_id, lane, frame)
                half_view = WIDTH / 2 / camera.zoom[frame] + actor.sprite.width / 2 + 2
                x = camera.x[frame] - half_view * (1 if actor.speed > drift else -1)
                walked = 0.0
                actors.append(actor)
            actor.x.append(x)
            stride = 0.55 * actor.sprite.height
            actor.pose.append(int(walked / stride * POSES) % len(actor.sprite.layers))
    return actors


def _slot_activity(rng, phases, class_id, num_frames):
    """Fraction of its speed that an object has at each frame, float64 [F]."""
    active = np.ones(num_frames)
    for first, end, stopped in phases:
        pause = 0.88 if stopped else (0.15 if class_id == PEDESTRIAN else 0.0)
        if rng.random() < pause:
            active[first:end] = 0
    return _ramped(active)


def _newcomer(rng, track_id, class_id, lane, frame):
    base_y = HORIZON + 40 + 17 * lane + uniform(rng, 0, 8)
    size = 0.66 + 0.34 * (base_y - HORIZON - 40) / 92
    facing = 1 if rng.random() < 0.5 else -1
    if class_id == CAR:
        sprite = car(rng, int(100 * size * uniform(rng, 0.9, 1.1)), facing)
        speed = uniform(rng, 45, 110)
    elif class_id == PEDESTRIAN:
        sprite = pedestrian(rng, int(96 * size * uniform(rng, 0.9, 1.1)), facing)
        speed = uniform(rng, 10, 28)
    else:
        sprite = cyclist(rng, int(88 * size * uniform(rng, 0.9, 1.1)), facing)
        speed = uniform(rng, 35, 80)
    return Actor(track_id, class_id, sprite, base_y, facing * size * speed, frame, [], [])


def _poles(rng):
    poles, x = [], -MARGIN + uniform(rng, 0, 120)
    while x < WIDTH + MARGIN:
        level = uniform(rng, 0.4, 0.7) * (1 if rng.random() < 0.4 else -1)
        poles.append(Pole(x, uniform(rng, 4, 8), HORIZON + uniform(rng, 60, 130), level))
        x += uniform(rng, 110, 220)
    return poles
