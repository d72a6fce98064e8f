"""Sizes of the released models, as keyword arguments of `models.build`."""

from typing import Any

# Keyword arguments of models.build("hmnet", ...): l3 differs from b3 in two numbers, l1 from b1 in two.
HMNET_SIZES: dict[str, dict[str, Any]] = {
    "b1": {"widths": (128,), "num_heads": (4,), "depths": (1,), "periods": (1,)},
    "l1": {"widths": (256,), "num_heads": (8,), "depths": (1,), "periods": (1,)},
    "b3": {"widths": (128, 256, 256), "num_heads": (4, 8, 8), "depths": (1, 3, 9), "periods": (1, 3, 9)},
    "l3": {"widths": (256, 256, 256), "num_heads": (8, 8, 8), "depths": (1, 3, 9), "periods": (1, 3, 9)},
}

# Keyword arguments of models.build("yolov4", ...): stages (channels, depth), channels of the neck's levels,
# anchors (width, height in pixels) of each level from the finest.
_STAGES = ((64, 1), (128, 3), (256, 15), (512, 15), (1024, 7), (1024, 7), (1024, 7))
_NECK = (128, 256, 512, 512, 512)
YOLOV4_SIZES: dict[str, dict[str, Any]] = {
    "csp": {
        "stages": ((64, 0), (128, 2), (256, 8), (512, 8), (1024, 4)),
        "neck": _NECK[:3],
        "neck_depths": (2, 2),
        "anchors": (
            ((12, 16), (19, 36), (40, 28)),
            ((36, 75), (76, 55), (72, 146)),
            ((142, 110), (192, 243), (459, 401)),
        ),
    },
    "p5": {
        "stages": _STAGES[:5],
        "neck": _NECK[:3],
        "anchors": (
            ((13, 17), (31, 25), (24, 51), (61, 45)),
            ((48, 102), (119, 96), (97, 189), (217, 184)),
            ((171, 384), (324, 451), (616, 618), (800, 800)),
        ),
    },
    "p6": {
        "stages": _STAGES[:6],
        "neck": _NECK[:4],
        "anchors": (
            ((13, 17), (31, 25), (24, 51), (61, 45)),
            ((61, 45), (48, 102), (119, 96), (97, 189)),
            ((97, 189), (217, 184), (171, 384), (324, 451)),
            ((324, 451), (545, 357), (616, 618), (1024, 1024)),
        ),
    },
    "p7": {
        "stages": _STAGES,
        "neck": _NECK,
        "width": 1.25,
        "anchors": (
            ((13, 17), (22, 25), (27, 66), (55, 41)),
            ((57, 88), (112, 69), (69, 177), (136, 138)),
            ((136, 138), (287, 114), (134, 275), (268, 248)),
            ((268, 248), (232, 504), (445, 416), (640, 640)),
            ((812, 393), (477, 808), (1070, 908), (1408, 1408)),
        ),
    },
}

# Keyword arguments of models.build("yolox", ...).
YOLOX_SIZES: dict[str, dict[str, Any]] = {
    "nano": {"width": 0.25, "depth": 0.33, "depthwise": True},
    "tiny": {"width": 0.375, "depth": 0.33},
    "s": {"width": 0.5, "depth": 0.33},
    "m": {"width": 0.75, "depth": 0.67},
    "l": {"width": 1.0, "depth": 1.0},
    "x": {"width": 1.25, "depth": 1.33},
}
