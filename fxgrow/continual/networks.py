"""The networks of the continual learning experiments: VGG without fully connected layers.

Simonyan, Zisserman, "Very Deep Convolutional Networks", ICLR 2015, with batch norm; Wu et al. 2020,
Sec. 3, begin with "a thin variant of the original VGG-16 without fully connected layers".
"""

from collections.abc import Sequence

from torch import nn

from fxgrow.documents import limits
from fxgrow.memory import counted_first

VGG16 = (2, 2, 3, 3, 3)
"""How many convolutions VGG-16 has before each pooling."""
_MAX_FACTOR = 8
"""No block is wider than this multiple of the first."""


@counted_first("the first network", limits.ENTRIES)
def vgg(
    width: int, classes: int, *, blocks: Sequence[int] = (1, 1, 2), in_channels: int = 3
) -> nn.Sequential:
    """Build a VGG; every block ends with a pooling that halves the image.

    The mean over what is left of the image goes into a linear layer.

    Args:
        width: the channels of the first block; every later one has twice as many as the one before
            it, up to 8 times ``width``.
        classes: how many classes the linear layer has.
        blocks: how many convolutions each block has.
        in_channels: the channels of the images.

    Returns:
        The network, with torch's own initial weights.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for number, convolutions in enumerate(blocks):
        block_width = width * min(2**number, _MAX_FACTOR)
        for _ in range(convolutions):
            layers += [
                # Without a bias: that of the batch norm takes its place.
                nn.Conv2d(channels, block_width, 3, padding=1, bias=False),
                nn.BatchNorm2d(block_width),
                nn.ReLU(),
            ]
            channels = block_width
        layers.append(nn.MaxPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers)
