"""Networks of the paper's experiments, written with torchvision's parts."""

from torch import nn
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
