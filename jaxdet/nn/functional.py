"""Modules as plain pytrees: NNX gives the layers and the tree, and is used for nothing else.

`split` happens once, at build. From there parameters and statistics are nested dicts with string keys
(`params["backbone"]["memory3"]["update"]["0"]["residual"]["conv1"]["conv"]["kernel"]`), and a jitted function
merges them at trace time, where it is free.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
from flax import nnx

Tree = dict[str, Any]


class Variables(NamedTuple):
    """The arrays of a module: what is trained and what is tracked."""

    params: Tree
    batch_stats: Tree


class Skeleton(NamedTuple):
    """A module without its arrays, closed over by jitted functions; equal for modules built alike."""

    graphdef: Any
    params: Any
    batch_stats: Any

    def _identity(self) -> tuple[Any, ...]:
        leaves, structure = jax.tree.flatten((self.params, self.batch_stats))
        return self.graphdef, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Skeleton) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())


def split(model: nnx.Module) -> tuple[Skeleton, Variables]:
    """Take a module apart into its skeleton and its arrays."""
    graphdef, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (params, stats))
    return Skeleton(graphdef, *shapes), Variables(_plain(params), _plain(stats))


def shapes(skeleton: Skeleton) -> Variables:
    """Shapes of the arrays that `split` took out of a module."""
    return Variables(_plain(skeleton.params), _plain(skeleton.batch_stats))


def merge(skeleton: Skeleton, variables: Variables) -> Any:
    """The module that `split` took apart, with these arrays. Inside a trace this costs nothing."""
    params = _filled(skeleton.params, variables.params)
    stats = _filled(skeleton.batch_stats, variables.batch_stats)
    return nnx.merge(skeleton.graphdef, params, stats)


def batch_stats(model: nnx.Module) -> Tree:
    """Statistics of a merged module after a call that may have moved them."""
    return _plain(nnx.state(model, nnx.BatchStat))


@lru_cache(maxsize=64)
def compiled(
    function: Callable[..., Any], skeleton: Skeleton, *static: Any, donate: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """`function(skeleton, *static, ...)` jitted over its other arguments, of which `donate` are given away.

    Detectors of equal skeletons share the result, so that a second one of a process compiles nothing.
    """
    return jax.jit(partial(function, skeleton, *static), donate_argnums=donate)


def replace_layers(model: nnx.Module, kind: type, make: Callable[[Any], nnx.Module]) -> None:
    """Put `make(layer)` in the place of each of a merged model's layers of a kind."""
    for _, module in list(nnx.iter_modules(model)):
        for name, child in list(vars(module).items()):
            if isinstance(child, kind):
                setattr(module, name, make(child))
            elif isinstance(child, nnx.List):
                for index, item in enumerate(child):
                    if isinstance(item, kind):
                        child[index] = make(item)


def replaced(
    skeleton: Skeleton, variables: Variables, kind: type, make: Callable[[Any], nnx.Module]
) -> tuple[Skeleton, Variables]:
    """The same model with `make(layer)` for each of its layers of a kind; nothing is changed in place."""
    model = merge(skeleton, variables)
    replace_layers(model, kind, make)
    return split(model)


def abstract(make: Callable[[], nnx.Module]) -> tuple[Skeleton, Variables]:
    """`split(make())` with shapes in place of arrays: no memory, no compilation."""
    model = nnx.eval_shape(make)
    return split(model)


def next_key(rngs: nnx.Rngs) -> jax.Array:
    """The next key of `rngs.params()`, drawn in a fraction of the time while a whole model is traced."""
    stream = rngs.params
    key = jax.random.fold_in(stream.key[...], stream.count[...])
    # Not `count[...] += 1`: it compares shardings, which takes time in proportion to the program traced so
    # far.
    stream.count.set_value(stream.count[...] + 1)
    return key


def _plain(state: Any) -> Tree:
    return _string_keys(nnx.to_pure_dict(state))


def _string_keys(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {str(k): _string_keys(v) for k, v in tree.items()}
    return tree


def _filled(state: Any, tree: Tree) -> Any:
    state = jax.tree.map(lambda a: a, state)  # a copy: replace_by_pure_dict writes in place
    nnx.replace_by_pure_dict(state, nnx.restore_int_paths(tree))
    return state
