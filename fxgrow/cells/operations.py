"""The operations on the edges of a cell, as modules.

Reference: Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 3.1: every convolution is ReLU, convolution, batch norm, and
none has a bias. How we differ: a separable convolution may have any number of channels between its two halves, and a
dilated one gets channels inside at all, if ``hidden`` says so: growth needs some that no other operation reads. In both
they are the rows of ``inner``. FactorizedReduce takes maps of odd size and numbers of channels, too.

Everything takes and gives images, batch x channels x height x width.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
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
    """Halves an image without a pooling: two 1x1 convolutions of stride 2, one on the pixels that the other leaves.

    Every second pixel is taken first and convolved at stride 1, which is the same: a 1 x 1 convolution with a stride
    of few channels is not safe in the fast layout of cells (``fxgrow.kernel_guard``).
    """

    def __init__(self, inputs: int, outputs: int, affine: bool = True) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, images: Tensor) -> Tensor:
        """Batch x inputs x n x n to batch x outputs x n/2 x n/2, rounded up."""
        images = self.relu(images)
        shifted = F.pad(images, (-1, 1, -1, 1))  # one pixel up and left, zeros come in
        even, odd = self.even(images[:, :, ::2, ::2]), self.odd(shifted[:, :, ::2, ::2])
        result: Tensor = self.norm(torch.cat([even, odd], 1))
        return result


class SeparableConvolution(nn.Sequential):
    """A depthwise and a pointwise convolution, twice; ``hidden`` channels between them (default: ``inputs``)."""

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

    With ``hidden``, which the literature's has not: two pointwise ones, and so many channels between them.
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
        inside: dict[str, nn.Module] = {}
        if hidden is not None:
            inside = {
                "inner": _pointwise(inputs, hidden),
                "inner_norm": nn.BatchNorm2d(hidden, affine=affine),
                "inner_relu": nn.ReLU(),
            }
        super().__init__(
            _named(
                relu=nn.ReLU(),
                depthwise=_depthwise(inputs, kernel, stride, DILATION),
                **inside,
                pointwise=_pointwise(inputs if hidden is None else hidden, outputs),
                norm=nn.BatchNorm2d(outputs, affine=affine),
            )
        )


class CrossedConvolution(nn.Sequential):
    """A convolution along rows and one along columns (1 x n, n x 1), without anything between them."""

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
    """Keeps the size of an image, but for ``stride``."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
    )


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


Build = Callable[[int, int, bool], nn.Module]
"""From the number of channels, the stride and whether batch norm is affine to an operation that keeps the channels."""


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
