"""One interface for all detectors: backbone, neck and head."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Int

from jaxdet.ops import boxes as box_ops
from jaxdet.ops.select import BestClass, Candidates, Rule
from jaxdet.structs import Batch, Detections, Events, Images, Targets

Carry = Any
Metrics = dict[str, Array]


class BackboneOutput(NamedTuple):
    """The result of every backbone."""

    features: list[Array]  # [B * K, h, w, C] per level, slots of a lane side by side
    valid: Array  # bool [B, K]   the slot's step lies in the segment and the network has an output there
    carry: Carry  # () for still images


class Detector(nnx.Module):
    """Backbone `(inputs, at_step, reset, carry, train) -> BackboneOutput`, neck `features -> features`, head.

    The head has `loss_names`, the parts of its loss in the order of the logs' columns, the total last.

    `image_size` (height, width) if boxes are to be clipped to the image, those left empty being dropped.
    `first_loss_step`: labels of earlier steps are not trained on, counted from the start of each segment
    (parity with released HMNet); with `warm_up_once`, from the start of the recording.
    `rule` makes detections of candidates: `ops.select.BestClass` or `MultiLabel`.
    """

    def __init__(
        self,
        backbone: nnx.Module,
        neck: nnx.Module,
        head: nnx.Module,
        *,
        image_size: tuple[int, int] | None = None,
        first_loss_step: int = 0,
        warm_up_once: bool = False,
        rule: Rule = BestClass(),  # noqa: B008   (immutable)
    ):
        self.backbone: Any = backbone
        self.neck: Any = neck
        self.head: Any = head
        self.image_size, self.first_loss_step, self.warm_up_once = image_size, first_loss_step, warm_up_once
        self.rule = rule

    def init_carry(self, batch_size: int) -> Carry:
        """State of `batch_size` lanes before their first step; () for still images."""
        return self.backbone.init_carry(batch_size)

    def loss(
        self, batch: Batch, carry: Carry, start_phase: int = 0, **terms: Array
    ) -> tuple[Array, Metrics, Carry]:
        """Scalar loss, its parts, and the carry cut from the gradient; batch statistics move.

        `start_phase`: steps the segment starts after a multiple of the backbone's cycle; images have none.
        `terms` are further arguments of the head's loss. The loss is a mean over `loss_weight` items, or a
        sum where there are none.
        """
        targets = batch.targets
        selected = self._selected(targets, batch.reset, carry)
        # Parity: where no slot is selected the released system still runs neck and head on the last readout
        # of sample 0, with the loss times zero, and its batch statistics move.
        none = ~selected.any()
        used = selected.at[0, 0].set(selected[0, 0] | none)
        at_step = jnp.where(used, targets.at_step, -1)
        at_step = at_step.at[0, 0].set(jnp.where(none, _num_steps(batch.inputs) - 1, at_step[0, 0]))
        out = self._run(batch.inputs, at_step, batch.reset, carry, True, start_phase)
        raw, sizes = self._raw(out.features, True, used.reshape(-1))
        flat = Targets(*(jnp.reshape(a, (-1, *a.shape[2:])) for a in targets))
        total, parts = self.head.loss(raw, sizes, flat, selected.reshape(-1), **terms)
        metrics = {**parts, "num_slots": selected.sum()}
        return total, metrics, lax.stop_gradient(out.carry)

    def predict(
        self,
        inputs: Events | Images,
        at_step: Int[Array, "B K"],
        reset: Bool[Array, " B"],
        carry: Carry,
        start_phase: int = 0,
    ) -> tuple[Detections, Carry]:
        """Boxes after the steps `at_step` (-1: no such slot), best first, and the carry after the segment."""
        out = self._run(inputs, at_step, reset, carry, False, start_phase)
        return self.detect(out.features, out.valid), out.carry

    def detect(self, features: list[Array], valid: Bool[Array, "B K"]) -> Detections:
        """Boxes from the features of all slots; slots that are not valid get none."""
        raw, sizes = self._raw(features, False, None)
        return self.select(self.head.candidates(raw, sizes), valid)

    def candidates(
        self,
        inputs: Events | Images,
        at_step: Int[Array, "B K"],
        reset: Bool[Array, " B"],
        carry: Carry,
    ) -> tuple[Candidates, Bool[Array, "B K"], Carry]:
        """Candidates of S = B * K slots that `predict` selects from, mask of valid slots, and carry."""
        out = self.backbone(inputs, at_step, reset, carry, False)
        raw, sizes = self._raw(out.features, False, None)
        return self.head.candidates(raw, sizes), out.valid, out.carry

    def select(self, candidates: Candidates, valid: Bool[Array, "B K"]) -> Detections:
        """Apply the rule to candidates of S = B * K slots and clip to the image."""
        boxes, scores, labels, keep = self.rule(candidates, valid.reshape(-1))
        if self.image_size is not None:
            height, width = self.image_size
            boxes = box_ops.clip(boxes, float(width), float(height))
            keep = keep & (box_ops.area(boxes) > 0)
        found = Detections(boxes, scores, labels, keep)
        return Detections(*(jnp.reshape(a, (*valid.shape, *a.shape[1:])) for a in found))

    def _run(
        self,
        inputs: Events | Images,
        at_step: Array,
        reset: Array,
        carry: Carry,
        train: bool,
        start_phase: int,
    ) -> BackboneOutput:
        phase = {"start_phase": start_phase} if start_phase else {}
        return self.backbone(inputs, at_step, reset, carry, train, **phase)

    def _raw(self, features: Sequence[Array], train: bool, mask: Array | None):
        features = self.neck(features, train, mask)
        return self.head(features, train, mask), [f.shape[1:3] for f in features]

    def _selected(self, targets: Targets, reset: Array, carry: Carry):
        steps = targets.at_step
        if self.warm_up_once:
            steps = steps + jnp.where(reset, 0, carry.steps)[:, None]
        return targets.slot_mask & (steps >= self.first_loss_step)


def _num_steps(inputs: Events | Images) -> int:
    return inputs.step_start.shape[1] - 1 if isinstance(inputs, Events) else 1
