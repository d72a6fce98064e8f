"""The tables of `rules`, one per model family."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxdet.errors import InputError
from jaxdet.weights import yolov4
from jaxdet.weights.rules import Rules, StateDict, in_order


def relative_position_indices(window: int) -> np.ndarray:
    """int64 [2, window^4]: row and column in the bias table for every (query, key), key varying fastest."""
    y, x = np.divmod(np.arange(window * window), window)
    rows = y[None, :] - y[:, None] + window - 1
    columns = x[None, :] - x[:, None] + window - 1
    return np.stack([rows.ravel(), columns.ravel()]).astype(np.int64)


def _hmnet_derived(state_dict: StateDict) -> StateDict:
    suffix = ".relative_position_bias.position_embedding_table"
    tables = {key.removesuffix(suffix): a for key, a in state_dict.items() if key.endswith(suffix)}
    # A table has 2 * window - 1 rows.
    return {
        f"{k}.relative_position_indices": relative_position_indices((len(a) + 1) // 2)
        for k, a in tables.items()
    }


HMNET = Rules(
    name="HMNet",
    keys=((r"^bbox_head\.", "head."), (r"\.bn\.", ".norm.")),
    inverse=((r"^head\.(.*)\.norm\.", r"bbox_head.\1.bn."), (r"^head\.", "bbox_head.")),
    ignored=((r".*\.relative_position_indices", "an index table that follows from the window size"),),
    derived=_hmnet_derived,
    order=in_order(
        """
        backbone neck bbox_head memory1 memory2 memory3 init_latent embed xy time pol
        write_bottom_up write_top_down update_norm update message_gen norm_out proj_out
        message_gen.input_resize norm_latent norm_input memory1.write_bottom_up.attn norm_mlp mlp
        input_resize downsample dustbin_weights relative_position_indices q kv qkv fc1 fc2 attn
        out_proj proj relative_position_bias position_embedding_table residual conv1 conv2 conv
        reductions linear norm proj.linear out_proj.linear pyramid_fuse extra_convs fuse out_conv
        levels cls_conv reg_conv cls_pred reg_pred obj_pred bn
        """
    ),
)

YOLOX = Rules(
    name="YOLOX",
    wrapped_in="model",
    keys=(
        (r"^backbone\.(?!backbone\.)", "neck."),
        (r"^backbone\.backbone\.", "backbone."),
        (r"^head\.(cls|reg)_convs\.(\d+)\.", r"head.levels.\2.\1_conv."),
        (r"^head\.(cls|reg|obj)_preds\.(\d+)\.", r"head.levels.\2.\1_pred."),
        (r"^head\.stems\.(\d+)\.", r"head.levels.\1.stem."),
        (r"\.bn\.", ".norm."),
    ),
    inverse=(
        (r"^backbone\.", "backbone.backbone."),
        (r"^neck\.", "backbone."),
        (r"^head\.levels\.(\d+)\.(cls|reg)_conv\.", r"head.\2_convs.\1."),
        (r"^head\.levels\.(\d+)\.(cls|reg|obj)_pred\.", r"head.\2_preds.\1."),
        (r"^head\.levels\.(\d+)\.stem\.", r"head.stems.\1."),
        (r"\.norm\.", ".bn."),
    ),
    order=in_order(
        """
        backbone head stem dark2 dark3 dark4 dark5 lateral_conv0 C3_p4 reduce_conv1 C3_p3 bu_conv2
        C3_n3 bu_conv1 C3_n4 cls_convs reg_convs cls_preds reg_preds obj_preds stems dconv pconv
        conv conv1 conv2 conv3 m bn
        """
    ),
)


def _yolov4(model: Mapping[str, Any]) -> Rules:
    return yolov4.rules(model["num_classes"], len(model["stages"]), model["anchors"], bool(model["stem"]))


# Name of the model -> its rules, or what makes them of a config's `model` block.
RULES: dict[str, Rules | Callable[[Mapping[str, Any]], Rules]] = {
    "hmnet": HMNET,
    "yolox": YOLOX,
    "yolov4": _yolov4,
}


def of_config(model: Mapping[str, Any]) -> Rules:
    """Rules of the model that a config's `model` block describes; InputError if `RULES` has none."""
    if model["name"] not in RULES:
        raise InputError(
            f"no rules for released weights of {model['name']!r}; there are some for {', '.join(RULES)}"
        )
    found = RULES[model["name"]]
    return found if isinstance(found, Rules) else found(model)
