"""HMNet (Hamaguchi et al., CVPR 2023): its backbone, a pyramid and the head it shares with YOLOX."""

from collections.abc import Sequence

from flax import nnx
from jax.typing import DTypeLike

from jaxdet.errors import InputError
from jaxdet.models.detector import Detector
from jaxdet.models.heads import DecoupledHead
from jaxdet.models.hmnet_backbone import Hmnet
from jaxdet.models.pyramid import Pyramid, StridedLevels, TopDownLevels
from jaxdet.ops.assign import HMNET_RULE
from jaxdet.ops.select import BestClass
from jaxdet.structs import EventGeometry

_NUM_LEVELS = 3
_NECKS = {"released": StridedLevels, "pyramid": TopDownLevels}  # of a single memory
GEN1 = EventGeometry(240, 304)


def hmnet(
    num_classes: int = 2,
    geometry: EventGeometry = GEN1,
    image_size: tuple[int, int] | None = None,
    widths: Sequence[int] = (128, 256, 256),
    out_features: int = 256,
    warm_up_steps: int = 21,
    warm_up_once: bool = False,
    ignored_as_background: bool = True,
    neck: str = "released",
    min_score: float = 0.01,
    nms_iou: float = 0.65,
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike | None = None,
    **backbone,
) -> Detector:
    """HMNet with one memory per entry of `widths`; `geometry.window` is the stride of the first.

    `image_size` (height, width) of the network's input defaults to the sensor's. Further arguments are those
    of `Hmnet`. `neck` "pyramid" joins the levels of a single memory from the coarsest down; several memories
    always have a pyramid. Labels in the first `warm_up_steps` steps of a segment are not trained on. Raises
    InputError for another neck.
    """
    kwargs = {"rngs": rngs, "dtype": dtype}
    image_size = geometry.size if image_size is None else image_size
    if neck not in _NECKS:
        raise InputError(f"model.neck is {neck!r}; expected one of {', '.join(_NECKS)}")
    if len(widths) == 1:
        num_levels = _NUM_LEVELS
        levels = _NECKS[neck](out_features, _NUM_LEVELS - 1, **kwargs)
    else:
        num_levels = len(widths)
        levels = Pyramid(out_features, num_levels, **kwargs)
    head = DecoupledHead(
        [out_features] * num_levels,
        num_classes,
        out_features,
        [geometry.window << i for i in range(num_levels)],
        stem=False,
        rule=HMNET_RULE,
        integer_boxes=True,
        ignored_as_background=ignored_as_background,
        **kwargs,
    )
    return Detector(
        Hmnet(geometry, image_size, widths, out_features=out_features, **kwargs, **backbone),
        levels,
        head,
        image_size=image_size,
        first_loss_step=warm_up_steps,
        warm_up_once=warm_up_once,
        rule=BestClass(min_score, nms_iou),
    )
