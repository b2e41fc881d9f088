"""The operations on the edges of a cell, as modules.

Reference: Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 3.1: every convolution is ReLU,
convolution, batch norm, and none has a bias. How we differ: a separable convolution may have any
number of channels between its two halves, and a dilated one has channels inside if ``hidden`` is
given: growth needs channels that no other operation reads. In both they are the rows of ``inner``.
FactorizedReduce also takes maps of odd size and odd numbers of channels.

Inputs and outputs are images: [batch, channels, height, width].
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow.cells.genotype import Operation

DILATION = 2


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution, batch norm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, affine: bool = True
    ) -> None:
        super().__init__(
            _named(
                relu=nn.ReLU(),
                convolution=nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
                norm=nn.BatchNorm2d(outputs, affine=affine),
            )
        )


class FactorizedReduce(nn.Module):
    """Halve an image without a pooling: two 1 x 1 convolutions of stride 2 on different pixels.

    Every second pixel is taken first and convolved at stride 1, which is the same: a 1 x 1
    convolution with a stride and few channels is not safe in the memory layout of cells
    (``fxgrow.kernel_guard``).
    """

    def __init__(self, inputs: int, outputs: int, affine: bool = True) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        # Each gives half of the channels; the second one more if their number is odd.
        self.even = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, images: Tensor) -> Tensor:
        """From [batch, inputs, n, n] to [batch, outputs, n / 2, n / 2], rounded up."""
        images = self.relu(images)
        # Negative padding cuts: the image moves by one pixel up and left, and zeros come in at the
        # other side, so that its pixels with odd coordinates now have even ones.
        shifted = F.pad(images, (-1, 1, -1, 1))
        even, odd = self.even(images[:, :, ::2, ::2]), self.odd(shifted[:, :, ::2, ::2])
        result: Tensor = self.norm(torch.cat([even, odd], 1))
        return result


class SeparableConvolution(nn.Sequential):
    """A depthwise and a pointwise convolution, twice; ``hidden`` channels between them.

    ``hidden`` is the number of input channels by default, as in the literature.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        affine: bool = True,
        hidden: int | None = None,
    ) -> None:
        hidden = inputs if hidden is None else hidden
        super().__init__(
            _named(
                relu=nn.ReLU(),
                depthwise=_depthwise(inputs, kernel, stride),
                inner=_pointwise(inputs, hidden),
                inner_norm=nn.BatchNorm2d(hidden, affine=affine),
                inner_relu=nn.ReLU(),
                inner_depthwise=_depthwise(hidden, kernel),
                pointwise=_pointwise(hidden, outputs),
                norm=nn.BatchNorm2d(outputs, affine=affine),
            )
        )


class DilatedConvolution(nn.Sequential):
    """A depthwise convolution of dilation 2 and a pointwise one.

    With ``hidden``, unlike in the literature, two pointwise ones with so many channels between.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        affine: bool = True,
        hidden: int | None = None,
    ) -> None:
        inner: dict[str, nn.Module] = {}
        if hidden is not None:
            inner = {
                "inner": _pointwise(inputs, hidden),
                "inner_norm": nn.BatchNorm2d(hidden, affine=affine),
                "inner_relu": nn.ReLU(),
            }
        # The modules are made in the order in which their weights are drawn: keep it.
        super().__init__(
            _named(
                relu=nn.ReLU(),
                depthwise=_depthwise(inputs, kernel, stride, DILATION),
                **inner,
                pointwise=_pointwise(inputs if hidden is None else hidden, outputs),
                norm=nn.BatchNorm2d(outputs, affine=affine),
            )
        )


class CrossedConvolution(nn.Sequential):
    """A convolution along rows and one along columns (1 x n, n x 1), with nothing between them."""

    def __init__(
        self, inputs: int, outputs: int, length: int, stride: int, affine: bool = True
    ) -> None:
        half = length // 2
        super().__init__(
            _named(
                relu=nn.ReLU(),
                row=nn.Conv2d(inputs, outputs, (1, length), (1, stride), (0, half), bias=False),
                column=nn.Conv2d(outputs, outputs, (length, 1), (stride, 1), (half, 0), bias=False),
                norm=nn.BatchNorm2d(outputs, affine=affine),
            )
        )


def _named(**modules: nn.Module) -> OrderedDict[str, nn.Module]:
    return OrderedDict(modules)


def _depthwise(channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """One filter per channel. Keeps the size of an image, except for ``stride``."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
    )


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def add_all(terms: Iterable[Tensor]) -> Tensor:
    """The sum of one or more tensors, from the first to the last.

    ``torch.add`` and not ``+``, which a traced graph would hold as another operator.
    """
    first, *others = terms
    total = first
    for term in others:
        total = torch.add(total, term)
    return total


Build = Callable[[int, int, bool], nn.Module]
"""From channels, stride, and whether batch norm is affine, to an operation of as many channels."""


def _separable(kernel: int) -> Build:
    return lambda channels, stride, affine: SeparableConvolution(
        channels, channels, kernel, stride, affine
    )


def _dilated(kernel: int) -> Build:
    return lambda channels, stride, affine: DilatedConvolution(
        channels, channels, kernel, stride, affine
    )


def _crossed(length: int) -> Build:
    return lambda channels, stride, affine: CrossedConvolution(
        channels, channels, length, stride, affine
    )


def _skip(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


OPERATIONS: Mapping[Operation, Build] = MappingProxyType(
    {
        "max_pool_3x3": lambda _, stride, __: nn.MaxPool2d(3, stride, 1),
        # Padding does not count, so that the mean at the border is one of pixels.
        "avg_pool_3x3": lambda _, stride, __: nn.AvgPool2d(3, stride, 1, count_include_pad=False),
        "skip_connect": _skip,
        "sep_conv_3x3": _separable(3),
        "sep_conv_5x5": _separable(5),
        "sep_conv_7x7": _separable(7),
        "dil_conv_3x3": _dilated(3),
        "dil_conv_5x5": _dilated(5),
        "conv_7x1_1x7": _crossed(7),
    }
)
"""A module for every operation of a genotype. At stride 2 the identity is a FactorizedReduce."""
