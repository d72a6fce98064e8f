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
from jaxdet.evaluation import of_weights
from jaxdet.exporting import write

logger = logging.getLogger(__name__)


def _flags(flags: cli.Flags) -> None:
    flags.config_file("config of the model; default: the one stored with --weights", stored=True)
    flags.string("weights", None, "a run, a weights folder, or a released .pth or .pt file", required=True)
    cli.model_flags(flags)
    flags.string("out", None, "file to write: .onnx or .stablehlo", required=True)
    flags.boolean("raw", False, "outputs of the head, without decoding and suppression")
    flags.string("batch", None, "number of images, or any; default: 1 in .onnx, any in .stablehlo")
    flags.choice("dtype", None, list(write.TYPES), "type of the computation; default: that of the model")
    flags.boolean("int8", False, "quantise the convolutions of an .onnx file by the values on --images")
    flags.boolean("check", True, "run the file and compare it with jaxdet")
    flags.string("images", None, "images to compare on: a folder, a .txt list or one image")
    flags.string("annotations", None, "COCO annotations of --images, by which AP is measured")
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
    if flags.annotations and (flags.raw or not flags.check):
        raise InputError("--annotations measure the boxes of the check; leave --raw and --nocheck out")
    cfg, skeleton, variables = api.open_weights_of(flags)
    write.export(
        Path(flags.out),
        cfg,
        skeleton,
        variables,
        write.Form(flags.raw, flags.batch, flags.dtype, flags.int8, flags.events),
        version=jaxdet.__version__,
        check=flags.check,
        source=Path(source) if source else None,
        licence=flags.licence,
        measure=of_weights.measure(cfg.data, source, flags.annotations) if flags.annotations else None,
    )
    logger.info("%s written", flags.out)


main = cli.Command(_flags, _run, __doc__, cleans_up_when_told=True)

if __name__ == "__main__":
    sys.exit(main())
