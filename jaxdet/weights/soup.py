"""Model soups: one set of weights as the mean of several (Wortsman et al. 2022, arXiv 2203.05482).

Ingredients are loaded one at a time, so a soup of any number needs the memory of a few.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdet.errors import InputError
from jaxdet.nn.functional import Tree, Variables

Load = Callable[[], Variables]
Score = Callable[[Variables], float]


class Mean:
    """Running mean of weights in float32, batch statistics and counters included.

    Parity: sums run from the first ingredient to the last, in float32, and are divided once; counters are
    summed as integers and their quotient is cut to a whole number (10, 11, 13 give 11).
    """

    def __init__(self, total: Variables | None = None, count: int = 0):
        self._total, self.count = total, count

    def plus(self, name: str, ingredient: Variables) -> "Mean":
        """The mean with one more; raises InputError, naming `name`, where parts or shapes differ."""
        wide = _map(_widened, ingredient)
        if self._total is None:
            return Mean(wide, 1)
        _check_alike(name, self._total, wide)
        return Mean(_map(np.add, self._total, wide), self.count + 1)

    def weights(self) -> Variables:
        """The soup: float32, counters int32."""
        if self._total is None:
            raise InputError("a soup needs at least one ingredient")
        return _map(lambda total: _quotient(total, self.count), self._total)


def uniform(ingredients: Iterable[tuple[str, Variables]]) -> Variables:
    """The mean of all ingredients (name, weights)."""
    mean = Mean()
    for name, weights in ingredients:
        mean = mean.plus(name, weights)
    return mean.weights()


class Ingredient(NamedTuple):
    """One ingredient of a greedy soup."""

    name: str
    score: float  # alone
    score_in_soup: float  # of the soup with it
    kept: bool


class Greedy(NamedTuple):
    """A greedy soup, its score and what became of each ingredient, best first."""

    weights: Variables
    score: float
    tried: list[Ingredient]


def greedy(ingredients: Mapping[str, Load], score: Score) -> Greedy:
    """Add ingredients from the best on, keeping each that does not lower the soup's score (paper, recipe 1).

    Ties go to the ingredient named first. InputError for a score that is not a number, as it has no order.
    """
    alone = {name: score(load()) for name, load in ingredients.items()}
    for name, found in alone.items():
        if np.isnan(found):
            raise InputError(
                f"{name} has no score; expected images with labels to tell the ingredients apart"
            )
    mean, best, tried = Mean(), -np.inf, []
    for name in sorted(alone, key=lambda name: -alone[name]):
        candidate = mean.plus(name, ingredients[name]())
        reached = score(candidate.weights()) if candidate.count > 1 else alone[name]
        kept = reached >= best
        if kept:
            mean, best = candidate, reached
        tried.append(Ingredient(name, alone[name], reached, kept))
    return Greedy(mean.weights(), best, tried)


def _widened(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)


def _quotient(total: np.ndarray, count: int) -> np.ndarray:
    mean = total.astype(np.float32) / np.float32(count)
    return np.asarray(mean.astype(np.int32) if total.dtype.kind == "i" else mean)


def _map(function: Callable[..., Any], *trees: Variables) -> Variables:
    return Variables(*(_map_tree(function, *parts) for parts in zip(*trees, strict=True)))


def _map_tree(function: Callable[..., Any], first: Tree, *others: Tree) -> Any:
    if isinstance(first, dict):
        return {name: _map_tree(function, first[name], *(o[name] for o in others)) for name in first}
    return function(first, *others)


def _check_alike(name: str, expected: Variables, found: Variables) -> None:
    wanted, given = (dict(_leaves(tree._asdict())) for tree in (expected, found))
    odd = sorted(set(wanted) ^ set(given))
    if odd:
        side = "lacks" if odd[0] in wanted else "has the additional part"
        raise InputError(f"{name} {side} {odd[0]}; a soup needs ingredients of one model")
    for path, shape in given.items():
        if shape != wanted[path]:
            raise InputError(
                f"{name}: {path} has shape {shape}, the first ingredient {wanted[path]}; "
                "a soup needs ingredients of one model"
            )


def _leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        else:
            yield ".".join((*path, name)), value.shape
