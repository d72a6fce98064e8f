import math
import signal
from typing import Any, cast

import pytest

from jaxdet.training import loop
from jaxdet.training.hooks import Every, Preemption


class Told:
    """A number on a device that tells when it is read."""

    def __init__(self, events, step, value):
        self.events, self.step, self.value = events, step, value

    def __float__(self):
        self.events.append(("read", self.step))
        return float(self.value)


def fit(hooks, needs_state, num_steps=6, loss=lambda step: 1.0, events=None):
    events = [] if events is None else events

    def train_step(state, carry, batch):
        events.append(("given", batch))
        return state + 1, carry, {"loss": Told(events, batch, loss(batch))}

    batches = cast(Any, range(num_steps))
    step = cast(Any, train_step)
    result = loop.fit(
        step, cast(Any, 0), None, batches, start=0, stop=num_steps, hooks=hooks, needs_state=needs_state
    )
    return result, events


def test_every_step_waits_where_its_state_is_needed():
    seen = []
    (state, _), events = fit([lambda info: seen.append((info.step, info.state))], lambda step: True)
    assert events == [(what, step) for step in range(6) for what in ("given", "read")]
    assert seen == [(step, step) for step in range(1, 7)]
    assert state == 6


def test_the_next_step_is_given_before_the_numbers_of_this_one_are_read():
    seen = []
    (state, _), events = fit([lambda info: seen.append(info.step)], lambda step: step == 3)
    order = {event: place for place, event in enumerate(events)}
    for step in (0, 1, 3, 4):
        assert order["given", step + 1] < order["read", step]
    assert order["read", 2] < order["given", 3]  # its state is needed
    assert seen == [1, 2, 3, 4, 5, 6]
    assert state == 6
    assert [step for what, step in events if what == "read"] == list(range(6))


def test_at_most_one_step_is_ahead():
    _, events = fit([], lambda step: False, num_steps=20)
    given = read = 0
    for what, _ in events:
        given, read = given + (what == "given"), read + (what == "read")
        assert given - read <= 2


@pytest.mark.parametrize("needed", [True, False])
def test_a_step_that_is_not_finite_is_named_with_its_batch_and_no_hook_sees_it(needed):
    seen = []
    with pytest.raises(loop.NonFiniteLoss) as raised:
        fit(
            [lambda info: seen.append(info.step)],
            lambda step: needed,
            loss=lambda step: math.nan if step == 3 else 1.0,
        )
    assert (raised.value.step, raised.value.batch) == (3, 3)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(("ahead", "told_at", "stopped"), [(True, 2, 3), (False, 2, 2), (True, 9, 9)])
def test_a_signal_is_obeyed_at_the_first_step_whose_state_is_there(ahead, told_at, stopped):
    saved = []
    preemption = Preemption(lambda info: saved.append((info.step, info.state)))
    needs_state = lambda step: preemption.due(step) or not ahead  # noqa: E731
    tell = lambda info: info.step == told_at and signal.raise_signal(signal.SIGTERM)  # noqa: E731
    try:
        (state, _), events = fit([tell, preemption], needs_state, num_steps=9)
    finally:
        preemption.close()
    assert saved == [(stopped, stopped)]
    assert state == stopped
    assert events[-1] == ("read", stopped - 1)
    assert preemption.came


def test_an_action_is_due_at_its_steps_and_at_the_last():
    steps = []
    every = Every(4, 10, lambda info: steps.append(info.step))
    fit([every], every.due, num_steps=10)
    assert steps == [4, 8, 10]
    assert [s for s in range(1, 11) if every.due(s)] == [4, 8, 10]
