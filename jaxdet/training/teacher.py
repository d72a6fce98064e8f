"""A mean teacher: the averaged weights label steps of recordings that have no label.

Mean Teacher (Tarvainen & Valpola, NeurIPS 2017) with boxes as labels, as Unbiased Teacher has them (Liu et
al., ICLR 2021).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdet.errors import InputError
from jaxdet.nn import functional
from jaxdet.nn.functional import Skeleton, Variables
from jaxdet.structs import Batch, Detections, Targets


class Teacher(NamedTuple):
    """`slots` steps of a segment, evenly from the end of the warm-up to the last, get boxes of the teacher.

    A box counts from `min_score` on. A step that has a label, or where the teacher has no box, stays without.
    """

    slots: int
    min_score: float

    def label(self, skeleton: Skeleton, weights: Variables, batch: Batch, carry: Any) -> Batch:
        """The batch with `slots` more slots a lane; the teacher begins from the student's memory `carry`."""
        model, targets = functional.merge(skeleton, weights), batch.targets
        events: Any = batch.inputs
        at_step = self._steps(model.first_loss_step, events.step_start.shape[1] - 2, targets)
        # Augmented events lie between the pixels, so their keys are not those of the table of integers.
        out = model.backbone(events, at_step, batch.reset, carry, False, integer_events=False)
        found = self._targets(model.detect(out.features, out.valid), at_step, targets.labels.shape[2])
        found = jax.tree.map(jax.lax.stop_gradient, found)
        joined = Targets(*(jnp.concatenate(pair, 1) for pair in zip(targets, found, strict=True)))
        nowhere = jnp.full((*at_step.shape, 2), -1, batch.source.dtype)
        return batch._replace(targets=joined, source=jnp.concatenate([batch.source, nowhere], 1))

    def _steps(self, first: int, last: int, targets: Targets) -> jax.Array:
        """Steps [B, slots] that the teacher looks at, -1 where the step has a label.

        InputError if there are fewer steps than slots, which would count some twice.
        """
        if self.slots > last - first + 1:
            raise InputError(
                f"optim.teacher_slots is {self.slots}, a segment has {last - first + 1} steps after its "
                "warm-up; expected at most as many"
            )
        steps = jnp.round(jnp.linspace(first, last, self.slots)).astype(jnp.int32)
        steps = jnp.broadcast_to(steps, (targets.at_step.shape[0], self.slots))
        same = targets.at_step[:, :, None] == steps[:, None, :]
        return jnp.where((same & targets.slot_mask[:, :, None]).any(1), -1, steps)

    def _targets(self, detections: Detections, at_step: jax.Array, max_boxes: int) -> Targets:
        """The best `max_boxes` detections of each slot as labels."""
        sure = detections.det_mask & (detections.scores >= self.min_score)
        rank = jnp.where(sure, detections.scores, -1)
        short = max(0, max_boxes - rank.shape[-1])
        padded = jnp.pad(rank, ((0, 0), (0, 0), (0, short)), constant_values=-1)
        best, rows = jax.lax.top_k(padded, max_boxes)
        mask, rows = best >= 0, jnp.minimum(rows, rank.shape[-1] - 1)
        boxes = jnp.take_along_axis(detections.boxes, rows[..., None], 2)
        labels = jnp.take_along_axis(detections.labels, rows, 2)
        return Targets(boxes, labels, mask, jnp.zeros_like(mask), at_step, mask.any(-1) & (at_step >= 0))
