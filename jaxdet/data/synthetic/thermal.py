"""Simulated thermal surveillance: a fixed camera, four classes, contrast that drifts with the months.

Frames are grey levels [288, 384]. A scene (buildings, ground, poles, warm clutter that is not an object)
belongs to the camera and stays; weather and contrast belong to the month; traffic belongs to the clip. Seeds
determine everything.
"""

from typing import NamedTuple

import cv2
import numpy as np

from jaxdet.data.datasets.ltd import CLASSES, HEIGHT, WIDTH

_NOISE = 3.0  # grey levels, standard deviation
_LEAST_CONTRAST = 8.0
_LONGEST, _SHORTEST = 60, 8  # pixels, the larger side of an object
OUTLINE = 0.05  # heat from which a pixel belongs to an object
_VISIBLE = 0.35  # an object hidden more than this leaves no label
# Longer side relative to a human's height at equal distance, aspect (w / h), pixels per second at full size.
_SHAPES = {
    "human": (1.0, 0.42, 9.0),
    "bicycle": (1.05, 0.85, 24.0),
    "motorcycle": (1.05, 1.25, 36.0),
    "vehicle": (1.9, 2.1, 44.0),
}


class ThermalCamera(NamedTuple):
    """Scene of the fixed camera."""

    background: np.ndarray  # float32 [288, 384], relative grey levels around 0
    clutter: np.ndarray  # float32 [288, 384], warm spots, 0 to 1
    occluder: np.ndarray  # bool [288, 384], in front of the traffic
    horizon: int  # row


class Weather(NamedTuple):
    """Weather of a month."""

    level: float  # mean grey level
    background_gain: float
    contrast: float  # grey levels between an object and its surroundings; negative in hot months
    clutter_gain: float


class Mover(NamedTuple):
    """One object of a clip."""

    label: int
    start: tuple[float, float]  # x of the centre, y of the foot, pixels, in frame 0
    velocity: tuple[float, float]  # pixels per frame
    height: float  # pixels
    contrast: float  # grey levels, signed, the mean over the object
    seed: int


def camera(seed: int) -> ThermalCamera:
    """Draw the scene of the camera."""
    rng = np.random.default_rng([seed, 1])
    horizon = int(rng.integers(70, 110))
    # Ground varies slowly, as asphalt and water do: at the scale of objects less than the faintest of them.
    background = _texture(rng, (96, 48, 12), (1.0, 0.4, 0.12))
    for _ in range(6):  # kerbs, rails and ropes
        start, end = ((int(rng.integers(0, WIDTH)), int(rng.integers(horizon, HEIGHT))) for _ in range(2))
        cv2.line(background, start, end, (float(rng.normal()),), int(rng.integers(1, 3)), cv2.LINE_AA)
    for _ in range(8):  # buildings along the horizon
        x, width, height = rng.integers(0, WIDTH), rng.integers(20, 90), rng.integers(20, horizon)
        background[horizon - height : horizon + 4, x : x + width] += rng.normal(0, 1.2)
    background[horizon:] += np.linspace(-0.5, 0.5, HEIGHT - horizon, dtype=np.float32)[:, None]
    clutter = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(14):
        centre = (int(rng.integers(0, WIDTH)), int(rng.integers(30, HEIGHT)))
        axes = (int(rng.integers(2, 16)), int(rng.integers(2, 16)))
        cv2.ellipse(
            clutter, centre, axes, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(0.4, 1.3)), -1
        )
    occluder = np.zeros((HEIGHT, WIDTH), bool)
    for _ in range(5):
        x, width = rng.integers(10, WIDTH - 20), rng.integers(3, 9)
        occluder[rng.integers(20, horizon) : rng.integers(horizon + 20, HEIGHT), x : x + width] = True
    return ThermalCamera(background, cv2.GaussianBlur(clutter, (0, 0), 0.8), occluder, horizon)


def weather(month: int, seed: int) -> Weather:
    """Draw the weather of a month, 0 for January: in summer the contrast shrinks and may change its sign."""
    rng = np.random.default_rng([seed, 2, month])
    warmth = 0.5 - 0.5 * np.cos(2 * np.pi * (month - 0.5) / 12)
    contrast = 55 - 38 * warmth + rng.normal(0, 3)
    return Weather(
        level=90 + 60 * warmth + rng.normal(0, 5),
        background_gain=8 + 14 * warmth,
        contrast=float(contrast),
        clutter_gain=float(25 + 15 * warmth + rng.normal(0, 4)),
    )


def traffic(
    num_frames: int, scene: ThermalCamera, conditions: Weather, rng: np.random.Generator
) -> list[Mover]:
    """Draw the objects of a clip; about a quarter are of each class."""
    movers = []
    for _ in range(int(rng.integers(8, 14)) * max(1, num_frames // 30)):
        label = int(rng.integers(0, len(CLASSES)))
        relative, _, speed = _SHAPES[CLASSES[label]]
        foot = rng.uniform(scene.horizon + 4, HEIGHT - 4)
        nearness = (foot - scene.horizon) / (HEIGHT - scene.horizon)
        longer = float(np.clip((8 + 34 * nearness) * relative * rng.uniform(0.85, 1.15), _SHORTEST, _LONGEST))
        aspect = _SHAPES[CLASSES[label]][1]
        height = longer if aspect < 1 else longer / aspect
        direction = rng.choice([-1.0, 1.0])
        vx = direction * speed * (0.25 + 0.75 * nearness) * rng.uniform(0.6, 1.2)
        crossing = rng.uniform(-0.1, 1.1) * num_frames  # the frame in which it passes the middle
        start_x = WIDTH / 2 - vx * crossing + rng.uniform(-100, 100)
        vy = rng.normal(0, 0.3) * nearness
        strength = max(_LEAST_CONTRAST, abs(conditions.contrast) * rng.uniform(0.35, 1.15))
        colder = rng.random() < (0.5 if abs(conditions.contrast) < 25 else 0.1)
        contrast = -strength if colder else strength
        movers.append(Mover(label, (start_x, foot), (vx, vy), height, contrast, int(rng.integers(1 << 31))))
    return sorted(movers, key=lambda m: m.start[1])  # the near ones are drawn last


def frame(
    index: int, scene: ThermalCamera, conditions: Weather, movers: list[Mover], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Frame `index` of a clip: uint8 [288, 384], and labels int [M, 5] as class, x1, y1, x2, y2 (pixels)."""
    flicker = 1 + 0.1 * np.sin(index / 7)
    picture = conditions.level + conditions.background_gain * scene.background
    picture = picture + conditions.clutter_gain * flicker * scene.clutter
    boxes, owner = [], np.full((HEIGHT, WIDTH), -1, np.int16)
    for number, mover in enumerate(movers):
        placed = _placed(mover, index)
        if placed is None:
            continue
        (y, x), heat, box = placed
        shape = heat > OUTLINE
        rows, columns = slice(y, y + heat.shape[0]), slice(x, x + heat.shape[1])
        under = picture[rows, columns]
        picture[rows, columns] = np.where(shape, under[shape].mean() + mover.contrast * heat, under)
        owner[rows, columns][shape] = number
        boxes.append((number, mover.label, *box, int(shape.sum())))
    hidden = scene.occluder
    cover = conditions.level - 0.6 * conditions.background_gain
    picture[hidden] = cover
    owner[hidden] = -1
    picture = cv2.GaussianBlur(picture, (0, 0), 0.7) + rng.normal(0, _NOISE, picture.shape)
    labels = [row[1:6] for row in boxes if (owner == row[0]).sum() >= _VISIBLE * row[6]]
    return np.clip(picture, 0, 255).astype(np.uint8), np.asarray(labels, int).reshape(-1, 5)


def _placed(mover: Mover, index: int):
    """Corner (y, x), heat and box of the part of a mover inside the picture; None if it is too small."""
    heat = sprite(mover, index)
    h, w = heat.shape
    left = round(mover.start[0] + mover.velocity[0] * index - w / 2)
    top = round(mover.start[1] + mover.velocity[1] * index - h)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, WIDTH), min(top + h, HEIGHT)
    if x2 - x1 < max(3, 0.4 * w) or y2 - y1 < max(3, 0.4 * h):
        return None
    part = heat[y1 - top : y2 - top, x1 - left : x2 - left]
    return (y1, x1), part, (x1, y1, x2, y2)


def sprite(mover: Mover, index: int) -> np.ndarray:
    """Heat of an object, float32 [h, w], drawn at four times its size averaged; mean 1 over its shape."""
    name = CLASSES[mover.label]
    height = max(_SHORTEST if name == "human" else 5, round(mover.height))
    width = min(max(4, round(height * _SHAPES[name][1])), _LONGEST)
    scale = 4
    canvas = np.zeros((height * scale, width * scale), np.float32)
    _DRAW[name](canvas, index, np.random.default_rng(mover.seed))
    if mover.velocity[0] < 0:
        canvas = canvas[:, ::-1]
    heat = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    # A part may be fainter than the contrast of a mover, the mover as a whole is not.
    return heat / heat[heat > OUTLINE].mean()


def _draw_human(canvas, index, rng) -> None:
    h, w = canvas.shape
    cv2.ellipse(canvas, (w // 2, int(h * 0.1)), (int(w * 0.2), int(h * 0.1)), 0, 0, 360, 1.0, -1)
    cv2.ellipse(canvas, (w // 2, int(h * 0.38)), (int(w * 0.38), int(h * 0.22)), 0, 0, 360, 0.85, -1)
    swing = 0.3 * np.sin(index * 2.1 + rng.uniform(0, 6))
    for side in (-1, 1):
        foot = (int(w * (0.5 + side * (0.15 + swing))), h - 1)
        cv2.line(canvas, (w // 2, int(h * 0.55)), foot, 0.7, max(1, int(w * 0.2)))


def _draw_bicycle(canvas, index, rng) -> None:
    h, w = canvas.shape
    radius = int(min(h * 0.24, w * 0.24))
    for x in (radius, w - radius - 1):
        cv2.circle(canvas, (x, h - radius - 1), radius, 0.35, max(1, radius // 4))
    cv2.line(canvas, (radius, h - radius), (w - radius, h - radius), 0.3, max(1, h // 24))
    cv2.ellipse(canvas, (w // 2, int(h * 0.4)), (int(w * 0.2), int(h * 0.26)), 15, 0, 360, 0.9, -1)
    cv2.circle(canvas, (int(w * 0.56), int(h * 0.09)), int(h * 0.09), 1.0, -1)


def _draw_motorcycle(canvas, index, rng) -> None:
    h, w = canvas.shape
    radius = int(h * 0.24)
    for x in (radius, w - radius - 1):
        cv2.circle(canvas, (x, h - radius - 1), radius, 0.6, -1)
    cv2.rectangle(canvas, (int(w * 0.2), int(h * 0.55)), (int(w * 0.8), int(h * 0.78)), 0.75, -1)
    cv2.circle(canvas, (int(w * 0.5), int(h * 0.75)), int(h * 0.14), 1.0, -1)
    cv2.ellipse(canvas, (int(w * 0.45), int(h * 0.35)), (int(w * 0.17), int(h * 0.26)), 20, 0, 360, 0.8, -1)
    cv2.circle(canvas, (int(w * 0.52), int(h * 0.09)), int(h * 0.09), 0.7, -1)


def _draw_vehicle(canvas, index, rng) -> None:
    h, w = canvas.shape
    cv2.rectangle(canvas, (0, int(h * 0.38)), (w - 1, int(h * 0.86)), 0.6, -1)
    roof = np.array([[0.18, 0.4], [0.3, 0.02], [0.72, 0.02], [0.86, 0.4]]) * [w, h]
    cv2.fillPoly(canvas, [roof.astype(np.int32)], 0.45)
    cv2.rectangle(canvas, (int(w * 0.3), int(h * 0.1)), (int(w * 0.7), int(h * 0.34)), 0.12, -1)
    cv2.rectangle(canvas, (int(w * 0.78), int(h * 0.42)), (w - 1, int(h * 0.7)), 1.0, -1)
    for x in (0.2, 0.8):
        cv2.circle(canvas, (int(w * x), int(h * 0.86)), int(h * 0.13), 0.9, -1)


_DRAW = {
    "human": _draw_human,
    "bicycle": _draw_bicycle,
    "motorcycle": _draw_motorcycle,
    "vehicle": _draw_vehicle,
}


def _texture(rng, cells, amplitudes) -> np.ndarray:
    """Smooth noise at several scales, float32 [288, 384]."""
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for cell, amplitude in zip(cells, amplitudes):
        grid = rng.normal(0, amplitude, (HEIGHT // cell + 2, WIDTH // cell + 2)).astype(np.float32)
        total += cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return total
