"""Show a recording, a video, images or boxes over time, with labels, as one page for a browser.

    python -m jaxdet.view mine.raw --detections=b3.npy,b1.npy --labels=mine_bbox.npy --out=mine.html
    python -m jaxdet.view data/gen1/test/17-03-30_12-53-58_1037500000_1097500000 --weights=runs/b3
    python -m jaxdet.view clip.mp4 --detections=clip.json --labels=annotations.json
    python -m jaxdet.view boxes.npz

The page is one file and needs no network: a time line with the scores of all boxes, which is clicked to go
there, boxes of every detector and labels to switch on and off, a limit for the score, and jumps to the next
miss and the next false alarm at that limit (IoU 0.5). Events are shown as accumulated over --every_ms or as
decaying with their age. A prepared recording shows its labels. --weights runs a detector of events as it
goes, and shows its boxes and, as maps, how large the latents of its memories are. --most pictures are shown
at most, from --start_us on.
"""

import sys
from pathlib import Path

from jaxdet import api, cli, event_flags, views
from jaxdet.errors import InputError
from jaxdet.inference import folded
from jaxdet.inference.streaming import StreamDetector


def _flags(flags: cli.Flags) -> None:
    flags.string("input", None, "recording, prepared folder, video, image, folder or file of boxes", True)
    flags.strings("detections", [], "files of boxes, one for each detector that is compared")
    flags.string(
        "labels", None, "labels: of recordings as `prepare events` takes them, of images COCO annotations"
    )
    flags.string("weights", None, "a detector of events, whose boxes and latents are shown")
    flags.string("out", None, "the page; default: the name of --input with the suffix .html, here")
    flags.config_file("config of the model of --weights; default: the one stored with it", stored=True)
    cli.model_flags(flags)
    flags.integer("every_ms", views.Options().every_ms, "of a recording: milliseconds a picture")
    flags.integer("most", views.Options().most, "pictures of the page; each takes 10 to 100 kB")
    flags.number("score", views.Options().score, "boxes below are hidden until the page's limit is moved")
    event_flags.view_flags(flags)


def _run(flags: cli.Flags) -> None:
    out = Path(flags.out or f"{Path(flags.input).stem}.html")
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out={out}: expected a page, .html")
    detector = None
    if flags.weights:
        cfg, skeleton, variables = api.open_weights_of(flags)
        if cfg.data.kind == "images":
            raise InputError(
                f"{flags.weights}: a model of images; run `predict --out`, and give its file as --detections"
            )
        prepared = folded.prepare(skeleton, variables)
        detector = StreamDetector(*prepared, start_us=None, class_names=tuple(cfg.data.classes))
    options = views.Options(
        flags.detections,
        flags.labels,
        tuple(flags.classes),
        flags.every_ms,
        flags.most,
        flags.score,
        Path(flags.weights or "").name,
        event_flags.view_of(flags),
    )
    count = views.write(out, flags.input, options, detector)
    print(f"{out}: {count} pictures, {out.stat().st_size / 1e6:.1f} MB; open it in a browser")


main = cli.Command(_flags, _run, __doc__, first="input")

if __name__ == "__main__":
    sys.exit(main())
