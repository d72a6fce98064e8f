"""The recursion of Seq-NMS.

It takes the best path of linked boxes, rescores it, suppresses the boxes that overlap it, and repeats.

Han et al., "Seq-NMS for Video Object Detection" (arXiv 1602.08465), in the order of the released Seq-YOLO:
paths by falling sum of scores, ties by the earlier first box, then by the lower index; the loop ends as soon
as the best path is a single box. One path at a time would cost a pass over the video each. Here a round takes
every path that the one-by-one loop is bound to take later as it stands:

* no box that the path would suppress (a symmetric relation) lies on a better path, so nothing can touch it;
* its sum exceeds every single score, so the loop cannot have stopped before it.

The best path always qualifies, hence every round makes progress; three to five rounds are typical.

Sums are compared as integers in units of half a millionth. Whole scores are even, so a mean that is no
multiple of a millionth can stand as the odd number between its neighbours and still compare exactly with
every sum. `keys` put the sum above the rank of the path's first box: `sum * C + (C - 1 - id)` for boxes
`0 <= id < C`. All functions expect 64-bit mode (`jax.enable_x64`).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

UNITS_PER_SCORE = 2_000_000

Arrays = tuple[Array, ...]


class Masks(NamedTuple):
    """Relations between the boxes of F frames with N boxes each."""

    arrive: Bool[Array, "F N N"]  # [t, i, j]: box i of frame t - 1 links to box j of frame t
    leave: Bool[Array, "F N N"]  # [t, i, j]: box j of frame t links to box i of frame t + 1
    # [t, i, j]: boxes i and j of frame t suppress each other; true on the diagonal
    overlap: Bool[Array, "F N N"]


class State(NamedTuple):
    """Decisions of the rounds so far."""

    alive: Bool[Array, "F N"]  # may be part of a path
    value: Int[Array, "F N"]  # score to compare with; of a taken path, its new score at its first box, else 0
    taken: Bool[Array, "F N"]  # rescored
    start: Bool[Array, "F N"]  # first box of a taken path
    follower: Int[Array, "F N"]  # next box of a taken path, -1 at its end


class Survey(NamedTuple):
    """Findings of one look at all paths."""

    key: Int[Array, "F N"]  # of the best path through each box
    root: Bool[Array, "F N"]  # first box of a path of two boxes or more
    free: Bool[Array, "F N"]  # first box of a path that no better path touches
    follower: Int[Array, "F N"]  # next box of the best path from here, -1 without
    length: Int[Array, "F N"]  # of the best path from here
    best: Int[Array, ""]  # the best key of all, a single box included
    best_is_path: Bool[Array, ""]  # it belongs to a path of two boxes or more
    single: Int[Array, ""]  # the greatest value of any box


def begin(units: Int[Array, "F N"]) -> State:
    """The state before the first round. `units` are scores in half millionths, even, -1 for padding."""
    none = jnp.zeros(units.shape, bool)
    return State(units >= 0, units, none, none, jnp.full(units.shape, -1, jnp.int32))


def survey(
    masks: Masks, state: State, first_id: Int[Array, ""] | int, num_ids: Int[Array, ""] | int
) -> Survey:
    """Find the best path through every box.

    `first_id` is the number of this segment's first box and `num_ids` the number of all, so that keys of
    different segments of a video compare.
    """
    num_frames, width = state.value.shape
    rank = num_ids - 1 - first_id - jnp.arange(num_frames * width).reshape(state.value.shape)
    head, root = _from_start(masks.arrive, state, rank, num_ids)
    key, worst, follower, length = _from_end(masks, state, head, num_ids)
    root &= follower >= 0
    key = jnp.where(state.alive, key, jnp.where(state.value > 0, state.value * num_ids + rank, -1))
    best = key.max()
    return Survey(
        key=key,
        root=root,
        free=root & (worst <= key),
        follower=follower,
        length=length,
        best=best,
        best_is_path=jnp.any(root & (key == best)) & (best >= num_ids),
        single=state.value.max(),
    )


def take(
    masks: Masks,
    state: State,
    found: Survey,
    best: Int[Array, ""],
    single: Int[Array, ""],
    num_ids: Int[Array, ""] | int,
    use_max: bool,
) -> State:
    """Take the free paths that beat the best `single` box, and the `best` path of all.

    Boxes that overlap them are suppressed.
    If a single box is best, nothing is taken.
    """
    start = found.free & (found.key >= (single + 1) * num_ids)
    start |= found.root & (found.key == best) & (best >= num_ids)
    member = _follow(start, found.follower)
    gone = jnp.any(masks.overlap & member[:, :, None], axis=1) & state.alive
    if use_max:
        new = _path_maximum(start, member, found.follower, state.value)
    else:
        new = _half_units(found.key // num_ids, found.length)
    value = jnp.where(gone, jnp.where(start, new, 0), state.value)
    return State(
        alive=state.alive & ~gone,
        value=value,
        taken=state.taken | member,
        start=state.start | start,
        follower=jnp.where(member, found.follower, state.follower),
    )


def rescored(state: State, scores: Float[Array, "F N"], use_max: bool) -> Float[Array, "F N"]:
    """Scores after all rounds: a path's mean (or maximum), 0 where suppressed, unchanged elsewhere.

    Sums run from the end of a path to its start in floating point, as released, so thresholds see the same
    bits.
    """

    def back(carry: Arrays, row: Arrays) -> tuple[Arrays, Array]:
        total, length, top = carry
        score, follower = row
        has_next = follower >= 0
        following = jnp.maximum(follower, 0)
        total = score + jnp.where(has_next, total[following], 0)
        length = 1 + jnp.where(has_next, length[following], 0)
        top = jnp.maximum(score, jnp.where(has_next, top[following], 0))
        return (total, length, top), (top if use_max else total / length)

    zero = jnp.zeros_like(scores[0])
    _, result = lax.scan(
        back, (zero, jnp.zeros_like(state.follower[0]), zero), (scores, state.follower), reverse=True
    )

    def spread(carry: Arrays, row: Arrays) -> tuple[Arrays, Array]:
        last, link = carry
        start, own, follower = row
        value = jnp.where(start, own, _arrive(last, link, 0))
        return (value, follower), value

    none = jnp.full_like(state.follower[0], -1)
    _, spread_scores = lax.scan(spread, (zero, none), (state.start, result, state.follower))
    kept = jnp.where(state.alive, scores, 0)
    return jnp.where(state.taken, spread_scores, kept)


@partial(jax.jit, static_argnames="use_max")
def run(
    masks: Masks, units: Int[Array, "F N"], scores: Float[Array, "F N"], use_max: bool
) -> tuple[Float[Array, "F N"], Int[Array, ""]]:
    """All rounds over one segment -> (new scores, number of rounds)."""
    num_ids = units.size

    def body(carry: tuple[State, Array, Array]) -> tuple[State, Array, Array]:
        state, _, rounds = carry
        found = survey(masks, state, 0, num_ids)
        state = take(masks, state, found, found.best, found.single, num_ids, use_max)
        return state, found.best_is_path, rounds + found.best_is_path

    carry = (begin(units), jnp.array(True), jnp.zeros((), jnp.int32))
    state, _, rounds = lax.while_loop(lambda carry: carry[1], body, carry)
    return rescored(state, scores, use_max), rounds


survey_segment = jax.jit(survey)
take_segment = jax.jit(take, static_argnames="use_max")
rescored_segment = jax.jit(rescored, static_argnames="use_max")


def _from_start(
    links: Bool[Array, "F N N"], state: State, rank: Int[Array, "F N"], num_ids: Int[Array, ""] | int
) -> tuple[Int[Array, "F N"], Bool[Array, "F N"]]:
    """(key of the best path that ends at each box [F, N], box starts a path [F, N])."""

    def step(before: Array, row: Arrays) -> tuple[Array, tuple[Array, Array]]:
        link, alive, value, own_rank = row
        arriving = jnp.max(jnp.where(link, before[:, None], -1), axis=0)
        key = value * num_ids + jnp.where(arriving >= 0, arriving, own_rank)
        return jnp.where(alive, key, -1), (key, alive & (arriving < 0))

    rows = (links, state.alive, state.value, rank)
    return lax.scan(step, jnp.full_like(state.value[0], -1), rows)[1]


def _from_end(
    masks: Masks, state: State, head: Int[Array, "F N"], num_ids: Int[Array, ""] | int
) -> tuple[Int[Array, "F N"], Int[Array, "F N"], Int[Array, "F N"], Int[Array, "F N"]]:
    """Key of the best path through each box, greatest key near its rest, next box, length; each [F, N]."""
    width = state.value.shape[1]
    bits = max(width - 1, 1).bit_length()
    order = (1 << bits) - 1 - jnp.arange(width)

    def step(carry: Arrays, row: Arrays) -> tuple[Arrays, Arrays]:
        ranked, worst, length = carry
        link, overlap, alive, value, head_key = row
        following = jnp.max(jnp.where(link, ranked[:, None], -1), axis=0)
        has_next = (following >= 0) & alive
        follower = jnp.where(has_next, (1 << bits) - 1 - (following & ((1 << bits) - 1)), 0)
        rest = jnp.where(has_next, following >> bits, 0)
        key = jnp.where(alive, head_key + rest * num_ids, -1)
        near = jnp.max(jnp.where(overlap, key[:, None], -1), axis=0)
        worst = jnp.maximum(near, jnp.where(has_next, worst[follower], -1))
        length = 1 + jnp.where(has_next, length[follower], 0)
        ranked = jnp.where(alive, ((value + rest) << bits) + order, -1)
        return (ranked, worst, length), (key, worst, jnp.where(has_next, follower, -1), length)

    nothing = jnp.full_like(state.value[0], -1)
    start = (nothing, nothing, jnp.zeros(width, jnp.int32))
    rows = (masks.leave, masks.overlap, state.alive, state.value, head)
    _, (key, worst, follower, length) = lax.scan(step, start, rows, reverse=True)
    return key, worst, follower.astype(jnp.int32), length


def _follow(start: Bool[Array, "F N"], follower: Int[Array, "F N"]) -> Bool[Array, "F N"]:
    """Boxes of the paths that begin at `start`, [F, N] bool."""

    def step(carry: Arrays, row: Arrays) -> tuple[Arrays, Array]:
        last, link = carry
        own_start, next_box = row
        member = own_start | _arrive(last, link, False)
        return (member, jnp.where(member, next_box, -1)), member

    nothing = jnp.zeros_like(start[0]), jnp.full_like(follower[0], -1)
    return lax.scan(step, nothing, (start, follower))[1]


def _arrive(values: Shaped[Array, "N"], follower: Int[Array, "N"], none: int) -> Shaped[Array, "N"]:
    """Values of one frame's boxes moved to the boxes that follow them; `none` where nothing arrives."""
    width = len(values)
    padded = jnp.full(width + 1, none, values.dtype)
    target = jnp.where(follower >= 0, follower, width)
    return padded.at[target].set(values, mode="promise_in_bounds")[:width]


def _half_units(total: Int[Array, "F N"], length: Int[Array, "F N"]) -> Int[Array, "F N"]:
    """Mean of `length` scores of sum `total`: even if whole, else the odd number between the neighbours."""
    whole, rest = jnp.divmod(total // 2, length)
    return 2 * whole + (rest > 0)


def _path_maximum(
    start: Bool[Array, "F N"],
    member: Bool[Array, "F N"],
    follower: Int[Array, "F N"],
    value: Int[Array, "F N"],
) -> Int[Array, "F N"]:
    """Greatest value on the path from each of `start`."""

    def step(top: Array, row: Arrays) -> tuple[Array, Array]:
        own, link, inside = row
        onward = jnp.where(link >= 0, top[jnp.maximum(link, 0)], 0)
        top = jnp.where(inside, jnp.maximum(own, onward), 0)
        return top, top

    rows = (value, follower, member)
    return jnp.where(start, lax.scan(step, jnp.zeros_like(value[0]), rows, reverse=True)[1], 0)
