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

from fxgrow.rewrite.product import Form

aten = torch.ops.aten


class Call(NamedTuple):
    """The arguments of a call by their meaning; ``swapped``: its weight argument is ``[in, out, ...]``."""

    input: Any
    weight: Any
    bias: Any
    form: Form
    swapped: bool = False


def _transposed(x: Tensor, weight: Tensor, bias: Tensor | None, function: Callable[..., Tensor], *rest: Any) -> Tensor:
    return function(x, weight.transpose(0, 1), bias, *rest)


def _looked_up(x: Tensor, weight: Tensor, _: Tensor | None) -> Tensor:
    return F.embedding(x, weight.t())


LINEAR = Form(F.linear, last=True)
LOOK_UP = Form(_looked_up, last=True)


def _linear(input: Any, weight: Any, bias: Any = None) -> Call | None:  # noqa: A002 - the names are torch's
    return Call(input, weight, bias, LINEAR)


def _matmul(input: Any, other: Any) -> Call | None:  # noqa: A002
    return Call(input, other, None, LINEAR, swapped=True)


def _addmm(input: Any, mat1: Any, mat2: Any) -> Call | None:  # noqa: A002
    return Call(mat1, mat2, input, LINEAR, swapped=True)


def _embedding(
    input: Any,  # noqa: A002
    weight: Any,
    padding_idx: Any = None,  # noqa: ARG001 - this and the others concern gradients only
    max_norm: Any = None,
    norm_type: Any = 2.0,  # noqa: ARG001
    scale_grad_by_freq: Any = False,  # noqa: ARG001
    sparse: Any = False,  # noqa: ARG001
) -> Call | None:
    if max_norm is not None:  # it rewrites the table as it reads it
        return None
    return Call(input, weight, None, LOOK_UP, swapped=True)


def _aten_embedding(weight: Any, indices: Any, *_: Any, **__: Any) -> Call | None:
    return Call(indices, weight, None, LOOK_UP, swapped=True)


def _convolve(
    function: Callable[..., Tensor],
    input: Any,  # noqa: A002
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Call | None:
    return Call(input, weight, bias, Form(function, (stride, padding, dilation, groups), groups))


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
) -> Call | None:
    settings = (function, stride, padding, output_padding, groups, dilation)
    return Call(input, weight, bias, Form(_transposed, settings, groups), swapped=True)


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
) -> Call | None:
    settings = (stride, padding, dilation, transposed, output_padding, groups)
    if transposed:
        return Call(input, weight, bias, Form(_transposed, (torch.convolution, *settings), groups), swapped=True)
    return Call(input, weight, bias, Form(torch.convolution, settings, groups))


TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
ATEN_TRANSPOSED = (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)


def _of_transposed(module: Any) -> Form:
    function = TRANSPOSED[module.weight.dim() - 3]
    settings = (module.stride, module.padding, module.output_padding, module.groups, module.dilation)
    return Form(_transposed, (function, *settings), module.groups)


def _of_convolution(module: Any) -> Form:
    return Form(module._conv_forward, groups=module.groups)


MODULES: dict[type[nn.Module], tuple[Callable[[Any], Form], bool]] = {
    nn.Linear: (lambda _: LINEAR, False),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), (_of_convolution, False)),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), (_of_transposed, True)),
    nn.Embedding: (lambda _: LOOK_UP, True),
}
"""How modules apply their ``weight`` and ``bias``, and whether the weight is ``[in, out, ...]``."""

FUNCTIONS: dict[Any, Callable[..., Call | None]] = {
    **dict.fromkeys((F.linear, aten.linear.default), _linear),
    **dict.fromkeys((torch.matmul, operator.matmul, torch.mm, "matmul", "mm"), _matmul),
    **dict.fromkeys((aten.matmul.default, aten.mm.default), _matmul),
    **dict.fromkeys((torch.addmm, aten.addmm.default), _addmm),
    F.embedding: _embedding,
    aten.embedding.default: _aten_embedding,
    aten.convolution.default: _aten_convolution,
    **{
        target: partial(_convolve, function)
        for function, operators in ((F.conv1d, aten.conv1d), (F.conv2d, aten.conv2d), (F.conv3d, aten.conv3d))
        for target in (function, operators.default, operators.padding)
    },
    **{
        target: partial(_convolve_transposed, function)
        for function, operator_ in zip(TRANSPOSED, ATEN_TRANSPOSED, strict=True)
        for target in (function, operator_)
    },
}
"""What the arguments of functions, methods and operators mean."""

TRANSPOSES = (
    *(torch.t, torch.transpose, "t", "transpose"),
    *(aten.t.default, aten.numpy_T.default, aten.mT.default, aten.transpose.int, aten.permute.default),
)
"""What swaps the axes of a weight on its way to a call, if no other axes are named."""
