"""The networks of the continual learning experiments: VGG without fully connected layers, as thin as one likes.

Simonyan, Zisserman, "Very Deep Convolutional Networks", ICLR 2015, with batch norm; Wu et al. 2020, Sec. 3, begin with
"a thin variant of the original VGG-16 without fully connected layers".
"""

from collections.abc import Sequence

from torch import nn

VGG16 = (2, 2, 3, 3, 3)
"""The convolutions between two poolings."""
_MAX_BLOCKS = 8
"""No width is more than this multiple of the first."""


def vgg(
    width: int, classes: int, *, blocks: Sequence[int] = (1, 1, 2), in_channels: int = 3
) -> nn.Sequential:
    """``width`` channels in the first block, twice as many in every later one up to 8 times ``width``.

    Every block ends with a pooling that halves the image; the mean over what is left of it goes into a linear layer.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for number, convolutions in enumerate(blocks):
        wide = width * min(2**number, _MAX_BLOCKS)
        for _ in range(convolutions):
            layers += [
                nn.Conv2d(channels, wide, 3, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(),
            ]
            channels = wide
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )
