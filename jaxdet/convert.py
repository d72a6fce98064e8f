"""Convert released weights, and write weights back for torch.

    python -m jaxdet.convert --config=configs/gen1_hmnet.py:b3 --torch=gen1_hmnet_B3_tbptt.pth --out=b3
    python -m jaxdet.convert --config=configs/gen1_hmnet.py:b3 --weights=runs/b3 --to_torch=b3.pth

Every tensor of the file must find its place in the model of --config, and every part of the model its tensor;
--report prints the pairing. Nothing in the file is run, and torch is not needed. A run is written with its
optimiser's state, in the layout of the released training checkpoints.
"""

import logging
import sys
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxdet import cli
from jaxdet.errors import InputError
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.training import recipe
from jaxdet.training import setup as runs
from jaxdet.weights import checkpoint, families, optimizer, rules
from jaxdet.weights.load import load, load_folder, run_of
from jaxdet.weights.torch import file, state_dict


def _flags(flags: cli.Flags) -> None:
    flags.config_file("config of the model")
    flags.string("torch", None, "released .pth, .pt or .ckpt file to convert")
    flags.string("out", None, "folder for the converted weights")
    flags.boolean("report", False, "print the parameter that every tensor became")
    flags.string("weights", None, "weights to write for torch: a converted folder or a run")
    flags.string("to_torch", None, "torch file to write")


def _run(flags: cli.Flags) -> None:
    if flags.config is None:
        raise InputError("missing --config; --help lists the flags")
    forward, backward = flags.torch and flags.out, flags.weights and flags.to_torch
    if bool(forward) == bool(backward):
        raise InputError("give --torch and --out to convert, or --weights and --to_torch to write for torch")
    cfg = flags.config
    family = families.of_config(cfg.model)
    _, target = functional.abstract(lambda: from_config.build(cfg, 0))
    if forward:
        contents = state_dict.find(file.load(flags.torch))
        try:
            variables, report = rules.from_torch(contents.state_dict, family, target)
        except InputError as error:
            raise InputError(f"{flags.torch}: {error}") from error
        checkpoint.save_weights(flags.out, variables, runs.as_json(cfg))
        logging.info("%s: %s, %d entries", flags.torch, contents.layout, len(contents.state_dict))
        written = flags.out
    else:
        variables, report = load(flags.weights, family, target)
        beside = _training_state(flags.weights, family)
        file.save(flags.to_torch, {family.wrapped_in: rules.to_torch(variables, family), **beside})
        written = flags.to_torch
    if flags.report:
        print(report.text())
    logging.info("%s written; %s", written, report.summary())


def _training_state(weights: str, family: rules.Rules) -> dict[str, Any]:
    """Epoch and AdamW state of a run, as the released checkpoints hold them; nothing for weights alone."""
    run = run_of(weights)
    moments = checkpoint.load_moments(*run) if run is not None else None
    if moments is None:
        return {}
    cfg: Any = ConfigDict(load_folder(weights)[1])
    segments = runs.num_segments(cfg.data)
    rate = float(np.asarray(recipe.make(cfg, segments).schedule(moments.count)))  # that of the step to come
    return {
        "epoch": moments.count // (segments * cfg.train.iterations_per_epoch),
        "optimizer": optimizer.to_torch(moments, family, rate, cfg.optim.weight_decay),
        "scaler": {},  # as released without CUDA: there is no loss scale
    }


main = cli.Command(_flags, _run, __doc__)

if __name__ == "__main__":
    sys.exit(main())
