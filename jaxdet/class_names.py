"""Class names of the data sets, in the order of their labels, and the category ids of COCO."""

from collections.abc import Sequence

GEN1 = ("car", "pedestrian")
ONEMPX = ("pedestrian", "two wheeler", "car", "truck", "bus", "traffic sign", "traffic light")
ETRAM = ("pedestrian", "car", "bicycle", "bus", "motorbike", "truck", "tram", "wheelchair")
DSEC_DET = ("pedestrian", "rider", "car", "bus", "truck", "bicycle", "motorcycle", "train")
LTD = ("human", "bicycle", "motorcycle", "vehicle")
LTDV2 = ("person", "bicycle", "motorcycle", "vehicle")  # numbered from 1 in its files
HIT_UAV = ("Person", "Car", "Bicycle", "OtherVehicle")
LLVIP = ("person",)
# FLIR ADAS v2: the 15 classes that are labelled, by their number in its files.
FLIR_IDS = {
    1: "person", 2: "bike", 3: "car", 4: "motor", 6: "bus", 7: "train", 8: "truck", 10: "light",
    11: "hydrant", 12: "sign",
    17: "dog", 37: "skateboard", 73: "stroller", 77: "scooter", 79: "other vehicle",
}  # fmt: skip
FLIR = tuple(FLIR_IDS.values())
COCO = tuple(
    """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop
    sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe,
    backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat,
    baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon,
    bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch,
    potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave,
    oven, toaster, sink, refrigerator, book, clock, vase, scissors,
    teddy bear, hair drier, toothbrush""".replace("\n    ", " ").split(", ")
)
# COCO numbers its 80 categories from 1 to 90; these numbers name nothing.
_COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(number for number in range(1, 91) if number not in _COCO_GAPS)


def coco_ids(class_names: Sequence[str]) -> tuple[int, ...]:
    """COCO's category ids if all classes are COCO's, else 1, 2, ... in the order of the classes."""
    known: dict[str, int] = dict(zip(COCO, COCO_IDS, strict=True))
    if all(name in known for name in class_names):
        return tuple(known[name] for name in class_names)
    return tuple(range(1, len(class_names) + 1))


def numbered(count: int) -> tuple[str, ...]:
    """Names for classes that nobody named: class_0, class_1, ..."""
    return tuple(f"class_{index}" for index in range(count))
