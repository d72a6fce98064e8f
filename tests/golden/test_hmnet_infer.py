"""Streamed inference of the full models against the released implementation: 40 steps, three of them empty.

Tolerance: 1e-4 of an array's largest entry for features, latents, messages and raw outputs (float32, CPU).
"""

from functools import partial

import golden_data as gd
import hmnet_golden as hg
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from xla_flags import OPTIMISED

from jaxdet.inference import folded
from jaxdet.nn import functional
from jaxdet.ops import boxes as box_ops
from jaxdet.ops.select import Candidates


class Run:
    """All steps of one golden stream; states and features are kept where the golden file has them."""

    def __init__(self, size, last=None, fast=False):
        # Only what runs 40 times runs longer than it takes to optimise.
        options = OPTIMISED if size == "B1" and last is None else None
        self.step = jax.jit(self._step, static_argnums=3, compiler_options=options)
        self.g = g = gd.load(f"hmnet/infer_{size}")
        self.skeleton, self.weights = hg.build(size)
        if fast:
            self.skeleton, self.weights = folded.prepare(self.skeleton, self.weights, fast=True)
        self.model = functional.merge(self.skeleton, self.weights)
        carry = self.model.init_carry(1)
        offsets = g["step_offsets"]
        self.valid, self.norms, self.means, self.carry, self.features = [], [], [], {}, {}
        kept = {*g["feature_steps"].tolist(), *g["det_steps"].tolist()}
        longest = np.diff(offsets).max()
        for k in range(len(offsets) - 1 if last is None else last + 1):
            rows = slice(offsets[k], offsets[k + 1])
            columns = (g["events_t"][rows] - k * 5000, *(g[f"events_{c}"][rows] for c in "xyp"))
            events = hg.pack([[np.stack(columns, -1)]], longest)
            phase = self.model.backbone.pattern(k % self.model.backbone.cycle)
            out = self.step(self.weights, events, carry, phase)
            carry = out.carry
            self.valid.append(bool(out.valid[0, 0]))
            self.norms.append([float(jnp.linalg.norm(f)) for f in out.features])
            self.means.append([np.asarray(f.mean((0, 1, 2))) for f in out.features])
            if k in kept:
                self.carry[k], self.features[k] = carry, out.features

    def _step(self, weights, events, carry, phase):
        model = functional.merge(self.skeleton, weights)
        at_step, reset = jnp.zeros((1, 1), jnp.int32), jnp.zeros(1, bool)
        return model.backbone(events, at_step, reset, carry, start_phase=phase)

    @partial(jax.jit, static_argnums=0)
    def raw(self, weights, features):
        model = functional.merge(self.skeleton, weights)
        levels = model.neck(features)
        return levels, model.head(levels)

    @partial(jax.jit, static_argnums=0)
    def detect(self, weights, features):
        return functional.merge(self.skeleton, weights).detect(features, jnp.ones((1, 1), bool))


# All 40 steps of B3 take minutes on two cores; the first 19 hold every kind of step, both messages included.
@pytest.fixture(
    scope="module", params=[("B1", None), ("B3", 18), pytest.param(("B3", None), marks=pytest.mark.slow)]
)
def run(request):
    return Run(*request.param)


def test_features_of_every_step(run):
    g = run.g
    np.testing.assert_array_equal(run.valid, g["valid"][: len(run.valid)])
    for k, valid in enumerate(run.valid):
        if valid:
            # A norm over 10^6 numbers: 1e-4 is the tolerance of its entries.
            np.testing.assert_allclose(run.norms[k], g["feat_l2"][k], rtol=1e-4)
            for i, mean in enumerate(run.means[k], 1):
                hg.close(mean, g[f"feat{i}_channel_mean"][k], err_msg=f"step {k} level {i}")


def test_latents_messages_and_features_where_stored(run):
    g, checked = run.g, 0
    for k in run.carry.keys() & set(g["feature_steps"].tolist()):
        carry = run.carry[k]
        for i, z in enumerate(carry.latent, 1):
            stride = int(g["latent_channel_stride"][i - 1])
            hg.close(
                np.asarray(z).reshape(-1, z.shape[-1])[:, ::stride], g[f"latent{i}_s{k}"], err_msg=f"{i} {k}"
            )
            feature = np.asarray(run.features[k][i - 1])[0].transpose(2, 0, 1)
            hg.close(
                feature[:: int(g["feature_channel_stride"][i - 1])], g[f"feat{i}_s{k}"], err_msg=f"{i} {k}"
            )
            checked += 1
        for i, message in enumerate(carry.message, 2):
            if f"message{i}_s{k}" in g:
                tokens = np.asarray(message).reshape(-1, message.shape[-1])
                hg.close(
                    tokens[:, :: int(g["message_channel_stride"])], g[f"message{i}_s{k}"], err_msg=f"{i} {k}"
                )
    assert checked >= 2 * run.model.backbone.num_memories


def test_neck_and_head(run):
    g = run.g
    for k in run.features.keys() & set(g["head_steps"].tolist()):
        levels, raw = run.raw(run.weights, run.features[k])
        for i, level in enumerate(levels, 1):
            stride = int(g["neck_channel_stride"][i - 1])
            hg.close(np.asarray(level)[0].transpose(2, 0, 1)[::stride], g[f"neck{i}_s{k}"])
        hg.close(raw[0], g[f"head_raw_s{k}"])
        if f"head_decoded_s{k}" in g:
            decoded = run.model.head.decode(raw, [level.shape[1:3] for level in levels])[0]
            hg.close(decoded, box_ops.cxcywh_to_xyxy(jnp.asarray(g[f"head_decoded_s{k}"][:, :4])))


def test_suppression_of_stored_outputs_gives_the_same_boxes(run):
    g = run.g
    rows = jnp.asarray(g["head_decoded_s39"])[None]
    boxes, classes = box_ops.cxcywh_to_xyxy(rows[..., :4]), rows[..., 5:]
    found = run.model.select(Candidates(boxes, rows[..., 4], classes), jnp.ones((1, 1), bool))
    mask = np.asarray(found.det_mask)[0, 0]
    expected = g["final_s39"]
    assert mask.sum() == len(expected)
    np.testing.assert_array_equal(np.asarray(found.labels)[0, 0][mask], expected[:, 5])
    np.testing.assert_allclose(np.asarray(found.boxes)[0, 0][mask], expected[:, :4], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(np.asarray(found.scores)[0, 0][mask], expected[:, 4], rtol=1e-6)


def test_detections_end_to_end(run):
    g = run.g
    for k in run.features.keys() & set(g["det_steps"].tolist()):
        found = run.detect(run.weights, run.features[k])
        mask = np.asarray(found.det_mask)[0, 0]
        columns = (found.boxes[0, 0], found.scores[0, 0, :, None], found.labels[0, 0, :, None])
        ours = np.concatenate([np.asarray(c)[mask] for c in columns], -1)
        theirs = g[f"final_s{k}"]
        # One to one: same class, 0.02 px, 1e-4 of score; the rest lie near a threshold.
        far = np.abs(ours[:, None, :4] - theirs[None, :, :4]).max(-1)
        other = np.abs(ours[:, None, 4:] - theirs[None, :, 4:])
        fits = (far < 0.02) & (other[..., 0] < 1e-4) & (other[..., 1] == 0)
        matched = fits[optimize.linear_sum_assignment(fits, maximize=True)]
        assert matched.sum() >= 0.99 * max(len(ours), len(theirs)), (k, matched.sum(), len(ours), len(theirs))


@pytest.mark.parametrize(("size", "last"), [("B1", 12), pytest.param("B3", None, marks=pytest.mark.slow)])
def test_fast_inference_stays_close(size, last):
    run = Run(size, last, fast=True)
    g = run.g
    for k in run.features.keys() & set(g["head_steps"].tolist()):
        hg.close(run.raw(run.weights, run.features[k])[1][0], g[f"head_raw_s{k}"], 2e-3)
    for k in run.features.keys() & set(g["det_steps"].tolist()):
        found = run.detect(run.weights, run.features[k])
        mask = np.asarray(found.det_mask)[0, 0]
        theirs = g[f"final_s{k}"]
        boxes = found.boxes[0, 0][mask]
        iou = np.asarray(box_ops.pairwise_iou(boxes, jnp.asarray(theirs[:, :4])))
        fits = iou >= 0.95
        fits &= np.asarray(found.labels)[0, 0][mask][:, None] == theirs[None, :, 5]
        fits &= np.abs(np.asarray(found.scores)[0, 0][mask][:, None] - theirs[None, :, 4]) <= 0.02
        matched = fits[optimize.linear_sum_assignment(fits, maximize=True)].sum()
        assert matched >= 0.98 * max(fits.shape), (k, matched, fits.shape)
