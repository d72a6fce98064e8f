"""AdamW's moments in torch's layout and back.

torch numbers parameters over its groups: the group without weight decay first, in each the order of
registration.
"""

import re
from typing import Any, NamedTuple

import numpy as np

from jaxdet.errors import InputError
from jaxdet.nn.functional import Tree, Variables
from jaxdet.weights import rules as key_rules
from jaxdet.weights.rules import Rules, StateDict

# Released HMNet: vectors, biases, initial latents and relative position tables do not decay.
_NO_DECAY = re.compile(r".*(\.bias|init_latent|position_embedding_table)")


class Moments(NamedTuple):
    """Adam's state: first and second moments, trees like the parameters, and the number of updates."""

    first: Tree
    second: Tree
    count: int


def groups(parameters: StateDict) -> tuple[list[str], list[str]]:
    """Keys of the parameters without and with weight decay, from a state dict in torch's order."""
    plain = [key for key, array in parameters.items() if array.ndim < 2 or _NO_DECAY.fullmatch(key)]
    return plain, [key for key in parameters if key not in set(plain)]


def to_torch(
    moments: Moments,
    rules: Rules,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> dict[str, Any]:
    """`state_dict()` of a torch.optim.AdamW with the same `moments`."""
    first, second = (_parameters(tree, rules) for tree in (moments.first, moments.second))
    plain, decayed = groups(first)
    step = np.asarray(moments.count, np.float32)
    state = {
        i: {"step": step, "exp_avg": first[key], "exp_avg_sq": second[key]}
        for i, key in enumerate(plain + decayed)
    }
    common = {
        "betas": betas,
        "eps": eps,
        "amsgrad": False,
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "differentiable": False,
        "fused": None,
        "decoupled_weight_decay": True,
    }
    indices = list(range(len(plain))), list(range(len(plain), len(state)))
    param_groups = [
        {"lr": lr, "weight_decay": decay, **common, "params": numbers}
        for decay, numbers in zip((0.0, weight_decay), indices)
    ]
    return {"state": state, "param_groups": param_groups}


def from_torch(state: dict[str, Any], rules: Rules, params: Tree) -> Moments:
    """Moments of an AdamW state for the parameters `params` (arrays or shapes).

    Parameters that torch never updated have none and get zeros; the count is the largest of all. InputError
    if the state is not of these parameters.
    """
    shapes = _parameters(params, rules)
    names = [key for group in groups(shapes) for key in group]
    try:
        numbers = [len(group["params"]) for group in state["param_groups"]]
        entries = dict(state["state"])
        count = max((int(entry["step"]) for entry in entries.values()), default=0)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"no AdamW state ({type(error).__name__} {error})") from error
    expected = [len(group) for group in groups(shapes)]
    if numbers != expected:
        raise InputError(f"optimizer with {numbers} parameters in its groups, the model has {expected}")
    trees = [_moment(entries, name, names, shapes, rules) for name in ("exp_avg", "exp_avg_sq")]
    return Moments(trees[0], trees[1], count)


def _parameters(tree: Tree, rules: Rules) -> StateDict:
    whole = key_rules.to_torch(Variables(tree, {}), rules)
    return {key: array for key, array in whole.items() if rules.reason_to_ignore(key) is None}


def _moment(
    entries: dict[int, dict[str, Any]], name: str, names: list[str], shapes: StateDict, rules: Rules
) -> Tree:
    """The moment `name` of the parameters `names`, which torch numbers in this order."""
    arrays = {}
    for i, key in enumerate(names):
        value = entries[i][name] if i in entries else np.zeros(shapes[key].shape, np.float32)
        if not isinstance(value, np.ndarray) or value.shape != shapes[key].shape:
            raise InputError(f"{name} of {key} in the optimizer does not fit shape {list(shapes[key].shape)}")
        arrays[key] = value
    return key_rules.from_torch(arrays, rules)[0].params
