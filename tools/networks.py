"""Networks of the paper's experiments, written with torchvision's parts, and of the tools."""

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers


def vgg19(channels: int | None = 16, num_classes: int = 10) -> nn.Module:
    """VGG-19 with batch norm for 3x32x32 images and one linear classifier (Wu et al. 2020, Fig. 4).

    ``channels``: all convolutions get that many (None: the full widths 64 ... 512).
    """
    plan: list[str | int] = [
        item if item == "M" or channels is None else channels for item in cfgs["E"]
    ]
    return nn.Sequential(
        make_layers(plan, batch_norm=True), nn.Flatten(), nn.Linear(channels or 512, num_classes)
    )


def soaked(num_classes: int = 10) -> tuple[nn.Module, tuple[Tensor]]:
    """A small network for 1x8x8 images, with batch norm and dropout (``tools/soak.py``)."""
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(8, num_classes),
    )
    return network, (torch.zeros(2, 1, 8, 8),)


def scarce(hidden: int = 3, num_classes: int = 10) -> tuple[nn.Module, tuple[Tensor]]:
    """One hidden layer for 1x8x8 images, so narrow that each neuron is missed (``make demo``)."""
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
    )
    return network, (torch.zeros(2, 1, 8, 8),)
