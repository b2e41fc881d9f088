"""Networks of the paper's experiments, written with torchvision's parts, and of the tools."""

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers


def vgg19(
    channels: int | None = 16, num_classes: int = 10, size: int = 32, scale: float = 1.0
) -> nn.Module:
    """VGG-19 with batch norm for small images and one linear classifier (Wu et al. 2020, Fig. 4).

    Args:
        channels: all convolutions get that many; None: the full widths 64 ... 512, times ``scale``.
        num_classes: outputs.
        size: height and width of the images. Each pooling halves them; those that come when one
            position is left do not take part.
        scale: of the full widths.
    """
    plan: list[str | int] = []
    for item in cfgs["E"]:
        if item == "M":
            if size > 1:
                plan.append(item)
            size //= 2
        else:
            plan.append(channels or round(scale * int(item)))
    features, last = make_layers(plan, batch_norm=True), channels or round(scale * 512)
    return nn.Sequential(features, nn.Flatten(), nn.Linear(last, num_classes))


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
