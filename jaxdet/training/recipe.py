"""The training recipe of a config: optimiser, learning rate schedule, averaging."""

from typing import NamedTuple

import optax

from jaxdet.errors import InputError
from jaxdet.training import optim, sgd
from jaxdet.training.average import Averaging
from jaxdet.training.teacher import Teacher


class TrainingRecipe(NamedTuple):
    """Optimiser and what goes with it."""

    optimizer: optax.GradientTransformation
    schedule: optax.Schedule  # rate of a step, for logs
    averaging: Averaging | None = None
    due: sgd.UpdateSteps | None = None  # which steps move the parameters; None: all
    sum_images: bool = False  # the loss is summed over images
    teacher: Teacher | None = None  # labels steps without a label, by the average
    l1_from: int = 0  # step from which the head's L1 term counts; 0: it has none


def make(cfg, segments: int = 1) -> TrainingRecipe:
    """The recipe of a config's `optim` block; `segments` optimiser steps make an iteration."""
    block = cfg.optim
    if block.name == "adamw":
        schedule = _schedule(block, cfg.train.num_iterations, segments)
        b2 = block.get("b2", 0.999)
        if not 0 <= b2 < 1:
            raise InputError(f"optim.b2 is {b2}, expected 0 or more and less than 1")
        optimizer = optim.adamw(schedule, block.weight_decay, b2=b2)
        return TrainingRecipe(optimizer, schedule, _averaging(block), teacher=_teacher(cfg))
    if block.name != "sgd":
        raise InputError(f"optim.name={block.name!r}, expected adamw or sgd")
    if block.schedule == "yolov4":
        return _yolov4(cfg)
    if block.schedule == "yolox":
        return _yolox(cfg)
    raise InputError(f"optim.schedule={block.schedule!r}, expected yolov4 or yolox")


def _schedule(block, num_iterations: int, segments: int) -> optax.Schedule:
    if block.schedule == "cosine":
        schedule = optim.cosine(block.lr, block.final_lr, num_iterations)
    elif block.schedule == "constant":
        schedule = optim.constant(block.lr)
    else:
        raise InputError(f"optim.schedule={block.schedule!r}, expected cosine or constant")
    return optim.lagged(schedule, segments)


def _yolov4(cfg) -> TrainingRecipe:
    block, epoch, batch = cfg.optim, cfg.train.iterations_per_epoch, cfg.data.batch_size
    warm_up = sgd.WarmUp(
        max(block.warmup_epochs * epoch, block.warmup_steps, 1), block.warmup_bias_lr, block.warmup_momentum
    )
    rates = sgd.yolov4_rates(block.lr, block.final, block.momentum, warm_up, epoch, cfg.train.num_iterations)
    due = sgd.accumulation(batch, block.nominal_batch, warm_up.num_steps)
    reached = batch * sgd.full_accumulation(batch, block.nominal_batch)
    optimizer = sgd.sgd(rates, block.weight_decay * reached / block.nominal_batch, due)
    return TrainingRecipe(
        optimizer, lambda step: rates(step).weights, _averaging(block), due, sum_images=True
    )


def _yolox(cfg) -> TrainingRecipe:
    block, train = cfg.optim, cfg.train
    # Single images, the L1 term and the constant rate come together.
    plain_from = cfg.data.plain_from
    rates = sgd.yolox_rates(
        block.lr * cfg.data.batch_size / block.nominal_batch,
        block.final,
        block.momentum,
        block.warmup_epochs * train.iterations_per_epoch,
        train.num_iterations,
        train.num_iterations - plain_from if plain_from else 0,
    )
    optimizer = sgd.sgd(rates, block.weight_decay)
    return TrainingRecipe(optimizer, lambda step: rates(step).weights, _averaging(block), l1_from=plain_from)


def _teacher(cfg) -> Teacher | None:
    slots, block = cfg.optim.get("teacher_slots", 0), cfg.optim
    if not slots:
        return None
    if cfg.data.kind != "events" or not block.ema_decay:
        raise InputError(
            f"optim.teacher_slots is {slots}, data.kind {cfg.data.kind}, optim.ema_decay {block.ema_decay}: "
            "a teacher labels recordings by averaged weights; set optim.ema_decay, or teacher_slots to 0"
        )
    if slots < 0 or not 0 <= block.teacher_score <= 1:
        raise InputError(
            f"optim.teacher_slots is {slots}, teacher_score {block.teacher_score}; expected a number of "
            "steps and a score from 0 to 1"
        )
    return Teacher(int(slots), float(block.teacher_score))


def _averaging(block) -> Averaging | None:
    # Runs that were begun before AdamW had an average have no key for it.
    if not block.get("ema_decay"):
        return None
    if not 0 < block.ema_decay < 1 or not block.ema_ramp > 0:
        raise InputError(
            f"optim.ema_decay is {block.ema_decay}, ema_ramp {block.ema_ramp}; expected a decay from 0 to "
            "below 1 and a ramp above 0"
        )
    return Averaging(block.ema_decay, block.ema_ramp)
