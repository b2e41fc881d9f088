"""MobileNets grown from a quarter of their widths: depthwise layers follow the neurons that they carry.

    python -m tools.experiments.mobile --data-root DIR                 # MobileNet-V1; DIR holds cifar-10-batches-py
    python -m tools.experiments.mobile --data-root DIR --model v2      # MobileNet-V2

For small images (fewer halvings, fewer blocks: ``tools/networks.py``). Widths grow from 0.25 by 30 % of their neurons, twice;
``scratch`` are firefly's structures and ``full`` is the network of half the widths. Protocol and analysis are those of
``width``. That every depthwise convolution has as many groups as channels after growth is a test (``tests/tools``).
"""

import argparse
from collections.abc import Callable, Mapping

import torch
from torch import nn

from fxgrow.coupling import couple
from tools.experiments.pays.pictures import picture_task
from tools.experiments.pays.sizes import command
from tools.experiments.pays.task import Task
from tools.networks import mobilenet_v1, mobilenet_v2

PERCENT = (25, 33, 43)
"""Of the full widths, if all grew alike."""
FULL = 0.5
MODELS: Mapping[str, Callable[[float], nn.Module]] = {"v1": mobilenet_v1, "v2": mobilenet_v2}
ARMS = (
    "firefly default",
    "zero uniform",
    "net2net uniform",
    "random default",
    "zero",
    "scratch",
    "scratch 1",
    "narrow",
    "full",
)


def neurons(model: nn.Module, size: int) -> int:
    """Neurons of all widths that may grow."""
    widths = couple(model.eval(), torch.zeros(2, 3, size, size)).widths
    return sum(width.size for width in widths if width.growable)


def make_task(chosen: argparse.Namespace) -> Task:
    """The task, from the options."""
    build = MODELS[chosen.model]

    def network(percent: int) -> nn.Module:
        return build(percent / 100)

    per_percent = round(neurons(network(PERCENT[0]), chosen.size) / PERCENT[0])
    return picture_task(
        f"mobile_{chosen.model}",
        network,
        chosen,
        PERCENT,
        ARMS,
        full=lambda: build(FULL),
        neurons_per_unit=per_percent,
    )


if __name__ == "__main__":
    command("tools.experiments.mobile", __doc__, make_task, epochs=6, models=tuple(MODELS))
