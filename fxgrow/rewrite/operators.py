"""Kinds of readers and writers: which arguments of a call are input, weight and bias, and how a weight is applied.

A row in ``MODULES`` or ``FUNCTIONS``, and a test, is all that a new kind takes.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow.rewrite.linear_op import LinearForm

aten = torch.ops.aten


class LinearCall(NamedTuple):
    """The arguments of a call by their meaning; ``swapped``: its weight argument is ``[in, out, ...]``."""

    input: Any
    weight: Any
    bias: Any
    form: LinearForm
    swapped: bool = False


def _transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None, function: Callable[..., Tensor], *rest: Any
) -> Tensor:
    return function(x, weight.transpose(0, 1), bias, *rest)


def _looked_up(x: Tensor, weight: Tensor, _: Tensor | None) -> Tensor:
    return F.embedding(x, weight.t())


LINEAR_FORM = LinearForm(F.linear, last=True)
EMBEDDING_FORM = LinearForm(_looked_up, last=True)


def _linear(input: Any, weight: Any, bias: Any = None) -> LinearCall | None:  # noqa: A002 - the names are torch's
    return LinearCall(input, weight, bias, LINEAR_FORM)


def _matmul(input: Any, other: Any) -> LinearCall | None:  # noqa: A002
    return LinearCall(input, other, None, LINEAR_FORM, swapped=True)


def _addmm(input: Any, mat1: Any, mat2: Any) -> LinearCall | None:  # noqa: A002
    return LinearCall(mat1, mat2, input, LINEAR_FORM, swapped=True)


def _embedding(
    input: Any,  # noqa: A002
    weight: Any,
    padding_idx: Any = None,  # noqa: ARG001 - this and the others concern gradients only
    max_norm: Any = None,
    norm_type: Any = 2.0,  # noqa: ARG001
    scale_grad_by_freq: Any = False,  # noqa: ARG001
    sparse: Any = False,  # noqa: ARG001
) -> LinearCall | None:
    if max_norm is not None:  # it rewrites the table as it reads it
        return None
    return LinearCall(input, weight, None, EMBEDDING_FORM, swapped=True)


def _aten_embedding(weight: Any, indices: Any, *_: Any, **__: Any) -> LinearCall | None:
    return LinearCall(indices, weight, None, EMBEDDING_FORM, swapped=True)


def _convolve(
    function: Callable[..., Tensor],
    input: Any,  # noqa: A002
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> LinearCall | None:
    return LinearCall(
        input, weight, bias, LinearForm(function, (stride, padding, dilation, groups), groups)
    )


def _convolve_transposed(
    function: Callable[..., Tensor],
    input: Any,  # noqa: A002
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> LinearCall | None:
    settings = (function, stride, padding, output_padding, groups, dilation)
    return LinearCall(input, weight, bias, LinearForm(_transposed, settings, groups), swapped=True)


def _aten_convolution(
    input: Any,  # noqa: A002
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> LinearCall | None:
    settings = (stride, padding, dilation, transposed, output_padding, groups)
    if transposed:
        return LinearCall(
            input,
            weight,
            bias,
            LinearForm(_transposed, (torch.convolution, *settings), groups),
            swapped=True,
        )
    return LinearCall(input, weight, bias, LinearForm(torch.convolution, settings, groups))


TRANSPOSED_CONVOLUTIONS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
ATEN_TRANSPOSED = (
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
)


def _of_transposed(module: Any) -> LinearForm:
    function = TRANSPOSED_CONVOLUTIONS[module.weight.dim() - 3]
    settings = (
        module.stride,
        module.padding,
        module.output_padding,
        module.groups,
        module.dilation,
    )
    return LinearForm(_transposed, (function, *settings), module.groups)


def _of_convolution(module: Any) -> LinearForm:
    return LinearForm(module._conv_forward, groups=module.groups)


LINEAR_MODULES: dict[type[nn.Module], tuple[Callable[[Any], LinearForm], bool]] = {
    nn.Linear: (lambda _: LINEAR_FORM, False),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), (_of_convolution, False)),
    **dict.fromkeys(
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), (_of_transposed, True)
    ),
    nn.Embedding: (lambda _: EMBEDDING_FORM, True),
}
"""How modules apply their ``weight`` and ``bias``, and whether the weight is ``[in, out, ...]``."""

LINEAR_FUNCTIONS: dict[Any, Callable[..., LinearCall | None]] = {
    **dict.fromkeys((F.linear, aten.linear.default), _linear),
    **dict.fromkeys((torch.matmul, operator.matmul, torch.mm, "matmul", "mm"), _matmul),
    **dict.fromkeys((aten.matmul.default, aten.mm.default), _matmul),
    **dict.fromkeys((torch.addmm, aten.addmm.default), _addmm),
    F.embedding: _embedding,
    aten.embedding.default: _aten_embedding,
    aten.convolution.default: _aten_convolution,
    **{
        target: partial(_convolve, function)
        for function, operators in (
            (F.conv1d, aten.conv1d),
            (F.conv2d, aten.conv2d),
            (F.conv3d, aten.conv3d),
        )
        for target in (function, operators.default, operators.padding)
    },
    **{
        target: partial(_convolve_transposed, function)
        for function, operator_ in zip(TRANSPOSED_CONVOLUTIONS, ATEN_TRANSPOSED, strict=True)
        for target in (function, operator_)
    },
}
"""What the arguments of functions, methods and operators mean."""

TRANSPOSES = (
    *(torch.t, torch.transpose, "t", "transpose"),
    *(
        aten.t.default,
        aten.numpy_T.default,
        aten.mT.default,
        aten.transpose.int,
        aten.permute.default,
    ),
)
"""What swaps the axes of a weight on its way to a call, if no other axes are named."""
