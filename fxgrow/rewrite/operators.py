"""Kinds of readers and writers: what a call's arguments mean, and how its weight is applied.

To add one: a row in ``LINEAR_MODULES`` or ``LINEAR_FUNCTIONS``, and a test.
"""

import importlib
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow.rewrite.linear_op import LinearForm, swap_axes

aten = torch.ops.aten


class LinearCall(NamedTuple):
    """The arguments of a call by their meaning.

    ``swapped``: its weight is ``[in, out, ...]``. ``more``: what ``form`` takes besides, values
    without neurons, which say where to read or how much to count.
    """

    input: Any
    weight: Any
    bias: Any
    form: LinearForm
    swapped: bool = False
    more: tuple[Any, ...] = ()


# A ``LinearForm`` always gets its weight as [out, in, ...]. These two put it back into the layout
# [in, out, ...] that the function takes.


def _transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    function: Callable[..., Tensor],
    groups: int,
    *rest: Any,
) -> Tensor:
    return function(x, swap_axes(weight, groups), bias, *rest)


def _embed(x: Tensor, weight: Tensor, _: Tensor | None) -> Tensor:
    return F.embedding(x, weight.t())


def _embed_bags(
    x: Tensor,
    weight: Tensor,
    _: Tensor | None,
    settings: tuple[tuple[str, Any], ...],
    offsets: Tensor | None,
    sample_weights: Tensor | None,
) -> Tensor:
    table = weight.t()
    return F.embedding_bag(x, table, offsets, per_sample_weights=sample_weights, **dict(settings))


def _deform(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    settings: tuple[Any, ...],
    offset: Tensor,
    mask: Tensor | None,
) -> Tensor:
    # Imported by the model's own code before, or there would be no such node.
    ops = importlib.import_module("torchvision.ops")
    return ops.deform_conv2d(x, offset, weight, bias, *settings, mask)  # type: ignore[no-any-return]


_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED_CONVOLUTIONS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)

# Counted from the end, as an image may come without a batch.
CHANNELS: dict[Any, int] = {
    **{function: -1 - rank for rank, function in enumerate(_CONVOLUTIONS, start=1)},
    **{function: -1 - rank for rank, function in enumerate(_TRANSPOSED_CONVOLUTIONS, start=1)},
}
"""The dimension of the channels in what a convolution takes and gives."""
_CHANNELS_OF_IMAGES = CHANNELS[F.conv2d]

LINEAR_FORM = LinearForm(F.linear, row_dim=-1)
EMBEDDING_FORM = LinearForm(_embed, row_dim=-1)


# The signatures below are torch's own: arguments are bound to them by position and by name. A call
# with an argument that is not listed matches no signature, so its layer is refused.


def _linear(input: Any, weight: Any, bias: Any = None) -> LinearCall | None:  # noqa: A002
    return LinearCall(input, weight, bias, LINEAR_FORM)


def _inner(input: Any, other: Any) -> LinearCall | None:  # noqa: A002
    return LinearCall(input, other, None, LINEAR_FORM)


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
    form = LinearForm(function, (stride, padding, dilation, groups), groups, CHANNELS[function])
    return LinearCall(input, weight, bias, form)


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
    settings = (function, groups, stride, padding, output_padding, groups, dilation)
    form = LinearForm(_transposed, settings, groups, CHANNELS[function])
    return LinearCall(input, weight, bias, form, swapped=True)


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
    channels = -1 - len(stride)
    if transposed:
        form = LinearForm(_transposed, (torch.convolution, groups, *settings), groups, channels)
    else:
        form = LinearForm(torch.convolution, settings, groups, channels)
    return LinearCall(input, weight, bias, form, swapped=transposed)


def _transposed_form(module: Any) -> LinearForm:
    rank = module.weight.dim() - 2  # [in, out, *kernel]
    function = _TRANSPOSED_CONVOLUTIONS[rank - 1]
    settings = (
        function,
        module.groups,
        module.stride,
        module.padding,
        module.output_padding,
        module.groups,
        module.dilation,
    )
    return LinearForm(_transposed, settings, module.groups, CHANNELS[function])


def _convolution_form(module: Any) -> LinearForm:
    rank = module.weight.dim() - 2  # [out, in / groups, *kernel]
    # The module's own method takes care of padding modes ("reflect"), too.
    return LinearForm(module._conv_forward, (), module.groups, CHANNELS[_CONVOLUTIONS[rank - 1]])


def _embedding_bag(
    input: Any,  # noqa: A002
    weight: Any,
    offsets: Any = None,
    max_norm: Any = None,
    norm_type: Any = 2.0,  # noqa: ARG001 - this and the next concern gradients only
    scale_grad_by_freq: Any = False,  # noqa: ARG001
    mode: str = "mean",
    sparse: Any = False,  # noqa: ARG001
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: Any = None,
) -> LinearCall | None:
    if max_norm is not None:  # it rewrites the table as it reads it
        return None
    settings = (
        ("mode", mode),
        ("include_last_offset", include_last_offset),
        ("padding_idx", padding_idx),
    )
    form = LinearForm(_embed_bags, (settings,), row_dim=-1, additive=mode != "max")
    more = (offsets, per_sample_weights)
    return LinearCall(input, weight, None, form, swapped=True, more=more)


def _embedding_bag_module(module: Any) -> Callable[..., LinearCall | None]:
    def call(
        input: Any,  # noqa: A002
        offsets: Any = None,
        per_sample_weights: Any = None,
    ) -> LinearCall | None:
        settings = {name: getattr(module, name) for name in _BAG_SETTINGS}
        return _embedding_bag(
            input, None, offsets, per_sample_weights=per_sample_weights, **settings
        )

    return call


_BAG_SETTINGS = ("max_norm", "mode", "include_last_offset", "padding_idx")


def _deformable(
    input: Any,  # noqa: A002
    offset: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    mask: Any = None,
) -> LinearCall | None:
    form = LinearForm(_deform, ((stride, padding, dilation),), row_dim=_CHANNELS_OF_IMAGES)
    return LinearCall(input, weight, bias, form, more=(offset, mask))


def _deformable_module(module: Any) -> Callable[..., LinearCall | None]:
    def call(input: Any, offset: Any, mask: Any = None) -> LinearCall | None:  # noqa: A002
        settings = (module.stride, module.padding, module.dilation)
        form = LinearForm(_deform, (settings,), module.groups, _CHANNELS_OF_IMAGES)
        return LinearCall(input, None, None, form, more=(offset, mask))

    return call


LINEAR_MODULES: dict[type[nn.Module], tuple[Callable[[Any], LinearForm], bool]] = {
    nn.Linear: (lambda _: LINEAR_FORM, False),
    nn.Conv1d: (_convolution_form, False),
    nn.Conv2d: (_convolution_form, False),
    nn.Conv3d: (_convolution_form, False),
    nn.ConvTranspose1d: (_transposed_form, True),
    nn.ConvTranspose2d: (_transposed_form, True),
    nn.ConvTranspose3d: (_transposed_form, True),
    nn.Embedding: (lambda _: EMBEDDING_FORM, True),
}
"""How modules apply their ``weight`` and ``bias``, and whether the weight is ``[in, out, ...]``."""

MODULE_CALLS: dict[str, Callable[[Any], Callable[..., LinearCall | None]]] = {
    "torch.nn.modules.sparse.EmbeddingBag": _embedding_bag_module,
    "torchvision.ops.deform_conv.DeformConv2d": _deformable_module,
}
"""Modules that take more than one value, by class: from the module to what its arguments mean."""

_conv1d = partial(_convolve, F.conv1d)
_conv2d = partial(_convolve, F.conv2d)
_conv3d = partial(_convolve, F.conv3d)
_conv_transpose1d = partial(_convolve_transposed, F.conv_transpose1d)
_conv_transpose2d = partial(_convolve_transposed, F.conv_transpose2d)
_conv_transpose3d = partial(_convolve_transposed, F.conv_transpose3d)

LINEAR_FUNCTIONS: dict[Any, Callable[..., LinearCall | None]] = {
    **dict.fromkeys((F.linear, aten.linear.default), _linear),
    **dict.fromkeys((torch.inner, "inner"), _inner),
    **dict.fromkeys((torch.matmul, operator.matmul, torch.mm, "matmul", "mm"), _matmul),
    **dict.fromkeys((aten.matmul.default, aten.mm.default), _matmul),
    **dict.fromkeys((torch.addmm, aten.addmm.default), _addmm),
    F.embedding: _embedding,
    F.embedding_bag: _embedding_bag,
    aten.embedding.default: _aten_embedding,
    aten.convolution.default: _aten_convolution,
    # Padding as numbers, and as a word ("same").
    **dict.fromkeys((F.conv1d, aten.conv1d.default, aten.conv1d.padding), _conv1d),
    **dict.fromkeys((F.conv2d, aten.conv2d.default, aten.conv2d.padding), _conv2d),
    **dict.fromkeys((F.conv3d, aten.conv3d.default, aten.conv3d.padding), _conv3d),
    **dict.fromkeys((F.conv_transpose1d, aten.conv_transpose1d.default), _conv_transpose1d),
    **dict.fromkeys((F.conv_transpose2d, aten.conv_transpose2d.input), _conv_transpose2d),
    **dict.fromkeys((F.conv_transpose3d, aten.conv_transpose3d.input), _conv_transpose3d),
}
"""What the arguments of functions, methods and operators mean."""

NAMED_FUNCTIONS: dict[str, Callable[..., LinearCall | None]] = {
    "torchvision.ops.deform_conv.deform_conv2d": _deformable,
}
"""The same of functions of packages that need not be there, by their qualified name."""

TRANSPOSES = (
    torch.t,
    torch.transpose,
    "t",
    "transpose",
    aten.t.default,
    aten.numpy_T.default,
    aten.mT.default,
    aten.transpose.int,
    aten.permute.default,
)
"""What swaps the axes of a weight on its way to a call, if no other axes are named."""
