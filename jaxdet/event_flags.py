"""Flags of commands that read recordings of events: the part that is used, its place, and filters."""

import re

from jaxdet import cli
from jaxdet.data.events import fit as fits
from jaxdet.data.events.conversion import ConversionOptions
from jaxdet.data.events.filters import Filters, parse_hot_pixels
from jaxdet.data.events.mounting import FLIPS, TURNS, Mounting
from jaxdet.errors import InputError


def view_flags(flags: cli.Flags) -> None:
    """Flags for the part of a recording that a model of events sees, and how."""
    flags.choice("fit", None, list(fits.FITS), "how a camera of another size lies on the model's sensor")
    flags.integer("start_us", None, "first time that is used, in the clock of the camera, microseconds")
    flags.integer("end_us", None, "time before which the last event lies, in the clock of the camera")
    flags.number("max_gap", None, "skip silences longer than this, with a fresh memory, seconds")
    flags.string("sensor", None, "WIDTHxHEIGHT of the camera, in place of what the recording states")
    place_flags(flags)


def place_flags(flags: cli.Flags) -> None:
    """Flags for the part of a camera that is used, its mounting and its noise."""
    flags.string("region", None, "x,y,width,height of the part of the camera that is used, pixels")
    flags.choice(
        "flip", None, list(filter(None, FLIPS)), "mirror the camera: left and right, up and down, or both"
    )
    flags.choice("rotate", "0", list(map(str, TURNS)), "then turn its picture clockwise, degrees")
    filter_flags(flags)


def filter_flags(flags: cli.Flags) -> None:
    """Flags for events that are left out before anything sees them."""
    flags.string("hot_pixels", None, "x:y,x:y,... of the camera whose events are left out; find: looked for")
    flags.integer("activity_us", None, "leave out events that none of the 8 pixels around had for so long")


def conversion_of(flags: cli.Flags) -> ConversionOptions:
    """The values of `place_flags`, --sensor and --half."""
    return ConversionOptions(
        sensor=None if flags.sensor is None else size_of(flags.sensor),
        half=flags.half,
        region=None if flags.region is None else fits.parse_region(flags.region),
        mounting=Mounting(flags.flip, int(flags.rotate)),
        filters=filters_of(flags),
    )


def view_of(flags: cli.Flags) -> fits.View:
    """The values of `view_flags`."""
    return fits.view(
        sensor=None if flags.sensor is None else size_of(flags.sensor),
        fit=flags.fit,
        region=None if flags.region is None else fits.parse_region(flags.region),
        start_us=flags.start_us,
        end_us=flags.end_us,
        max_gap_s=flags.max_gap,
        flip=flags.flip,
        rotate=int(flags.rotate),
        **filters_of(flags)._asdict(),
    )


def filters_of(flags: cli.Flags) -> Filters:
    """The values of `filter_flags`."""
    pixels = () if flags.hot_pixels is None else parse_hot_pixels(flags.hot_pixels)
    return Filters(pixels, flags.activity_us).check()


def size_of(text: str) -> tuple[int, int]:
    """Height and width of a camera from "WIDTHxHEIGHT"; InputError for another text."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None or not (0 < int(match[1]) <= 1 << 14 and 0 < int(match[2]) <= 1 << 14):
        raise InputError(f"--sensor={text}: expected WIDTHxHEIGHT in pixels, such as 1280x720")
    return int(match[2]), int(match[1])
