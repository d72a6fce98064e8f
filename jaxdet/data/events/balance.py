"""Class-balanced order of training windows: the classes take turns, whatever the number of their labels."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxdet.data.events import samples
from jaxdet.data.events.samples import Samples


class ClassTurns(NamedTuple):
    """The samples that hold a scored box of each class, for every class that has any, in order of class."""

    members: tuple[np.ndarray, ...]  # int64, indices of samples, ascending

    def sample(self, seed: int, position: int) -> int:
        """Sample of entry `position` of the endless list: class after class, each by its own permutations."""
        rank, turn = divmod(position, len(self.members))
        members = self.members[turn]
        epoch, place = divmod(rank, len(members))
        return int(members[_order(seed, turn, epoch, len(members))[place]])

    def num_never(self, num_samples: int) -> int:
        """Samples, of `num_samples`, that have no turn: they hold no scored box."""
        return num_samples - len(np.unique(np.concatenate(self.members)))


def class_turns(found: Samples, tables: Sequence[np.ndarray]) -> ClassTurns | None:
    """The turns of the samples `found` in the label rows of all recordings; None without a scored box."""
    sample, classes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number, rows in enumerate(tables):
        first, stop = np.searchsorted(found.recording, (number, number + 1))
        scored = rows[~rows["invalid"]]
        scored = scored[~samples.ignored(samples.integer_boxes(scored))]
        milliseconds = scored["t"].astype(np.int64) // 1000
        sample.append(first + np.searchsorted(found.label_ms[first:stop], milliseconds))
        classes.append(scored["class_id"].astype(np.int64))
    pairs = np.unique(np.stack([np.concatenate(classes), np.concatenate(sample)], 1), axis=0)
    members = tuple(pairs[pairs[:, 0] == one, 1] for one in np.unique(pairs[:, 0]))
    return ClassTurns(members) if members else None


@functools.lru_cache(maxsize=64)
def _order(seed: int, turn: int, epoch: int, num: int) -> np.ndarray:
    return np.random.default_rng([seed, 4, turn, epoch]).permutation(num)
