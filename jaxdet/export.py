"""Export a detector for other runtimes: ONNX, or StableHLO for JAX without jaxdet.

    python -m jaxdet.export --weights=yolox_nano.pth --out=nano.onnx --images=photos
    python -m jaxdet.export --weights=runs/b3 --out=b3.stablehlo --input=mine.raw

The file is run beside jaxdet on --images or --input, or on simulated input, and compared box by box. The
table of the comparison and the names, shapes and meaning of all inputs go to --out + ".json". A file that
differs is not kept.
"""

import logging
import sys
from pathlib import Path

import jaxdet
from jaxdet import api, cli
from jaxdet.errors import InputError
from jaxdet.exporting import write

logger = logging.getLogger(__name__)


def _flags(flags: cli.Flags) -> None:
    flags.config_file("config of the model; default: the one stored with --weights", stored=True)
    flags.string("weights", None, "a run, a weights folder, or a released .pth or .pt file", required=True)
    cli.model_flags(flags)
    flags.string("out", None, "file to write: .onnx or .stablehlo", required=True)
    flags.boolean("raw", False, "outputs of the head, without decoding and suppression")
    flags.boolean("check", True, "run the file and compare it with jaxdet")
    flags.string("images", None, "images to compare on: a folder, a .txt list or one image")
    flags.string("input", None, "recording to compare on (DAT or RAW), or images")
    flags.integer("events", write.NUM_EVENTS, "most events in a step of a model of events")
    flags.string("licence", "not stated", "licence of the weights, for the manifest")


def _run(flags: cli.Flags) -> None:
    if flags.images and flags.input:
        raise InputError("--images and --input are two names of one thing; give one")
    source = flags.images or flags.input
    if source and not flags.check:
        raise InputError("--nocheck compares nothing, so it takes neither --images nor --input")
    if flags.events < 1:
        raise InputError(f"--events={flags.events}: expected at least 1")
    found = api.open_weights_of(flags)
    write.export(
        Path(flags.out),
        *found,
        version=jaxdet.__version__,
        raw=flags.raw,
        check=flags.check,
        source=Path(source) if source else None,
        num_events=flags.events,
        licence=flags.licence,
    )
    logger.info("%s written", flags.out)


main = cli.Command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
