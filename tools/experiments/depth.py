"""Growing deeper at equal FLOPs: firefly's layers against AutoGrow, NASH and Net2DeeperNet (section 2.3 of the paper).

    python -m tools.experiments.depth --data-root DIR      # DIR holds cifar-10-batches-py; two CPU-core hours

Four convolutions of 16 channels get a residual layer x + C relu(W x) of up to 8 hidden channels three times. Firefly
proposes one after every activation and keeps that whose scores are largest; AutoGrow and Net2DeeperNet insert one at a
random place; NASH may insert one or widen, and keeps the best of 8 children. ``scratch`` has as many layers, spread evenly,
from the start. All spend the same FLOPs, searches included; protocol and analysis are those of ``width``.
"""

import argparse

from torch import nn

from tools.experiments.pays.arms import DEPTH
from tools.experiments.pays.pictures import picture_task
from tools.experiments.pays.sizes import command
from tools.experiments.pays.task import Task
from tools.networks import shallow

LAYERS = (0, 1, 2, 3)
HIDDEN = 8
ARMS = (*DEPTH, "scratch", "narrow")


def make_task(chosen: argparse.Namespace) -> Task:
    """The task, from the options."""

    def network(layers: int) -> nn.Module:
        return shallow(layers, HIDDEN)

    return picture_task("depth", network, chosen, LAYERS, ARMS, neurons_per_unit=HIDDEN)


if __name__ == "__main__":
    command("tools.experiments.depth", __doc__, make_task, epochs=20)
