"""Figure 4a of the paper: VGG-19 grown from 16 channels, against everything else that could be done with the FLOPs.

    python -m tools.experiments.width --data-root DIR      # DIR holds cifar-10-batches-py; 6 CPU-core hours
    python -m tools.experiments.width --jobs 2             # two seeds at a time; what is done is not done again
    python -m tools.experiments.width --epochs 0.05 --seeds 1 --rate 0.05 --parts /tmp/parts --out /tmp/out     # does it run?

A VGG-19 with 16 channels per layer grows three times by 30 % of its neurons, after equal shares of the FLOPs; half a
cosine of the learning rate between growths, SGD with Nesterov momentum that begins anew after each. Arms: firefly as
fxgrow has it and with the paper's settings, splitting exact and fast, Net2Net, zero-outgoing (uniform, and in
firefly's allocation), random split + new, GradMax and NASH; the structures that firefly passes from scratch;
the 16 channels ungrown; and the full network, a VGG-19 of a quarter of the widths (the paper: of all).

How we differ from the paper: images of 16x16 pixels, a quarter of the full widths, tens of epochs for its hundreds, and
everything that a method computes is taken off what it may train. The protocol is that of ``tools/experiments/pays``.
"""

import argparse
from functools import partial

import torch
from torch import nn

from tools.experiments.pays.arms import PAPER
from tools.experiments.pays.pictures import BATCH, HELD_OUT, classification
from tools.experiments.pays.sizes import command
from tools.experiments.pays.task import Problem, Task, cosine_of_stage
from tools.networks import vgg19

CHANNELS = (16, 21, 27, 35)
"""30 % more at each growth."""
RATES = (0.02, 0.05, 0.1)
FULL = 0.25
"""Of the widths of VGG-19."""
IMAGES = 50_000 - HELD_OUT
TUNING_SEED = 900
TUNING_SHARE = 0.25
"""Of the FLOPs of a run, for those that choose learning rates."""
ARMS = (*PAPER, "zero", "scratch", "scratch 1", "scratch 2", "narrow", "full")

NESTEROV = partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-4)


def draw(seed: int, size: int) -> Problem:
    """The problem of a seed."""
    return classification(seed, size, is_tuning=seed == TUNING_SEED)


def steps_of(epochs: float) -> int:
    """Training steps of so many epochs."""
    return max(1, round(epochs * IMAGES / BATCH))


def make_task(chosen: argparse.Namespace) -> Task:
    """The task, from the options."""

    def network(channels: int) -> nn.Module:
        return vgg19(channels, size=chosen.size)

    return Task(
        "width",
        network,
        partial(draw, size=chosen.size),
        widths=CHANNELS,
        steps=steps_of(chosen.epochs),
        rates=(chosen.rate,) if chosen.rate else RATES,
        optimizer=NESTEROV,
        growth_ends=(len(CHANNELS) - 1) / len(CHANNELS),
        arms=tuple(chosen.arms or ARMS),
        rate_at=cosine_of_stage,
        full=lambda: vgg19(None, size=chosen.size, scale=FULL),
        tuning_steps=steps_of(TUNING_SHARE * chosen.epochs),
        tuning_seeds=(TUNING_SEED,),
    )


if __name__ == "__main__":
    command("tools.experiments.width", __doc__, make_task, epochs=6)
