"""Networks of the paper's experiments, written with torchvision's parts, and of the tools."""

import torch
from torch import Tensor, nn
from torchvision.models import MobileNetV2
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


def separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A depthwise convolution and a pointwise one, each with batch norm (Howard et al. 2017)."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


MOBILE_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (1024, 1))
"""Channels and strides of MobileNet-V1 for small images: fewer halvings, and two of six blocks of 512."""
MOBILE_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 2, 2),
    (6, 64, 2, 2),
    (6, 96, 2, 1),
    (6, 160, 2, 2),
)
"""Expansion, channels, blocks and stride of MobileNet-V2 for small images, shorter likewise."""


def mobilenet_v1(scale: float, num_classes: int = 10) -> nn.Module:
    """MobileNet-V1 for small images, its widths times ``scale``."""
    channels = round(32 * scale)
    layers = [
        nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
    ]
    for full, stride in MOBILE_V1:
        layers.append(separable(channels, round(full * scale), stride))
        channels = round(full * scale)
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
    )


def mobilenet_v2(scale: float, num_classes: int = 10) -> nn.Module:
    """torchvision's MobileNet-V2 for small images, its widths times ``scale``."""
    settings = [list(row) for row in MOBILE_V2]
    model: nn.Module = MobileNetV2(
        num_classes, width_mult=scale, inverted_residual_setting=settings, round_nearest=1
    )
    return model


class Residual(nn.Module):
    """``x + C relu(W x)`` with a 3x3 convolution W and a 1x1 convolution C, as fxgrow inserts it."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, hidden, 3, padding=1)
        self.outer = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.outer(self.inner(x).relu())
        return out


def shallow(layers: int, hidden: int = 8, channels: int = 16, num_classes: int = 10) -> nn.Module:
    """Four convolutions, and ``layers`` residual ones after them in turn."""
    inputs, parts = 3, []
    for stage in range(4):
        parts += [
            nn.Conv2d(inputs, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
        # Layer number n comes after convolution n mod 4, so the first ones are spread evenly.
        parts += [Residual(channels, hidden) for number in range(layers) if number % 4 == stage]
        if stage < 3:
            parts.append(nn.MaxPool2d(2))
        inputs = channels
    return nn.Sequential(
        *parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
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
