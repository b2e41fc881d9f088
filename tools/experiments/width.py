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

from torch import nn

from tools.experiments.pays.arms import PAPER
from tools.experiments.pays.pictures import picture_task
from tools.experiments.pays.sizes import command
from tools.experiments.pays.task import Task
from tools.networks import vgg19

CHANNELS = (16, 21, 27, 35)
"""30 % more at each growth."""
FULL = 0.25
"""Of the widths of VGG-19."""
ARMS = (*PAPER, "zero", "scratch", "scratch 1", "scratch 2", "narrow", "full")


def make_task(chosen: argparse.Namespace) -> Task:
    """The task, from the options."""

    def network(channels: int) -> nn.Module:
        return vgg19(channels, size=chosen.size)

    return picture_task(
        "width",
        network,
        chosen,
        widths=CHANNELS,
        arms=ARMS,
        full=lambda: vgg19(None, size=chosen.size, scale=FULL),
    )


if __name__ == "__main__":
    command("tools.experiments.width", __doc__, make_task, epochs=6)
