"""Kernels for operators on the meta device that give the strides which the CPU gives.

A model may call ``view`` on what an operator gave, and whether that is possible depends on the
strides. On the meta device torch computes results in Python, at places with other strides than its
CPU kernels, so that a model that runs would seem not to. Some kernels are here for their speed:
torch would decompose the operator, which takes half the time of a run, or refuses it.

Convolutions in three dimensions are not among them: torch lays out their results by the number of
threads of the machine.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

Kernel = Callable[..., Any]

_DIMS_WITH_STRIDES = 2
"""Tensors of fewer dimensions are laid out in one way only."""

aten = torch.ops.aten

_ACTIVATIONS = (
    "relu hardtanh hardswish hardsigmoid silu gelu elu leaky_relu sigmoid tanh mish softplus"
)
"""Operators whose result has the shape and the strides of their first argument."""

_CONTIGUOUS = "_softmax _safe_softmax log_sigmoid_forward"
"""Operators whose results have the shape of their first argument and are contiguous."""

_FORMATTED = (
    "_native_batch_norm_legit _native_batch_norm_legit.no_stats"
    " _native_batch_norm_legit_no_training _batch_norm_with_update native_group_norm"
    " reflection_pad2d replication_pad2d max_unpool2d pixel_shuffle native_channel_shuffle"
    " channel_shuffle"
)
"""Operators that choose between contiguous and channels last by their first argument alone."""

_ITERATED = (
    "div.Tensor_mode floor_divide copysign.Tensor logical_and logical_or logical_xor logaddexp"
    " heaviside xlogy.Tensor"
)
"""Operators of two tensors whose strides torch's iterator chooses, as it does those of a sum."""


def _batch_norm(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The results of a batch norm; its statistics are read by the backward pass only."""
    out = torch.empty_like(x, memory_format=suggest_memory_format(x))
    return out, x.new_empty(0), x.new_empty(0)


def _layer_norm(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return out, x.new_empty(0), x.new_empty(0)


def _grouped_mm(a: Tensor, b: Tensor, *_: Any, **__: Any) -> Tensor:
    return a.new_empty((*a.shape[:-1], b.shape[-1]))


def _weight_norm(v: Tensor, g: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(v), torch.empty_like(g)


def _like_first(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return torch.empty_like(x)


def _first(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _contiguous(func: Any) -> Kernel:
    count = len(func._schema.returns)

    def kernel(x: Tensor, *_: Any, **__: Any) -> Any:
        outs = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(count)]
        return outs[0] if count == 1 else tuple(outs)

    return kernel


def _formatted(func: Any) -> Kernel:
    def kernel(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        chosen = suggest_memory_format(x)

        def with_strides(out: Any) -> Any:
            if not isinstance(out, Tensor) or out.dim() != x.dim():
                return out  # the statistics of a batch norm
            return torch.empty_like(out, memory_format=chosen)

        return tree_map(with_strides, func(x, *args, **kwargs))

    return kernel


def _iterated(func: Any) -> Kernel:
    def kernel(a: Tensor, b: Any, *args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = func(a, b, *args, **kwargs)
        return torch.empty_like(aten.add.Tensor(a, b), dtype=out.dtype)

    return kernel


def _convolution(x: Tensor, weight: Tensor, *args: Any) -> Tensor:
    """A convolution is channels last if its input or its weight is.

    In one dimension torch makes the input contiguous and adds a dimension before the last.
    """
    out: Tensor = aten.convolution.default(x, weight, *args)
    if x.dim() == 4:
        candidates = [x, weight]
    elif x.dim() == 3:
        candidates = [weight.unsqueeze(2)]
    else:
        return out
    formats = [suggest_memory_format(tensor) for tensor in candidates]
    if torch.channels_last not in formats:
        return torch.empty_like(out, memory_format=torch.contiguous_format)
    as_image = out if x.dim() == 4 else out.unsqueeze(2)
    laid_out = torch.empty_like(as_image, memory_format=torch.channels_last)
    return laid_out if x.dim() == 4 else laid_out.squeeze(2)


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(aten, packet), overload or "default")


def _shape_kernels() -> dict[Any, Kernel]:
    kernels: dict[Any, Kernel] = {
        aten.native_batch_norm.default: _batch_norm,
        aten.native_layer_norm.default: _layer_norm,
        aten.convolution.default: _convolution,
        aten._grouped_mm.default: _grouped_mm,
        aten._weight_norm_interface.default: _weight_norm,
    }
    for name in _ACTIVATIONS.split():
        kernels[getattr(aten, name).default] = _like_first
        if hasattr(aten, name + "_"):  # the operator in place gives back what it wrote to
            kernels[getattr(aten, name + "_").default] = _first
    for make_kernel, names in (
        (_contiguous, _CONTIGUOUS),
        (_formatted, _FORMATTED),
        (_iterated, _ITERATED),
    ):
        for name in names.split():
            kernels[_overload(name)] = make_kernel(_overload(name))
    return kernels


_SHAPE_KERNELS = _shape_kernels()


def shape_kernel(func: Any, args: Any) -> Kernel | None:
    """What to call instead of an operator where tensors have no values.

    Args:
        func: an operator overload of torch.
        args: its positional arguments.

    Returns:
        A function of the same arguments; None for the operator itself, as if a tensor that it
        takes first has values (a constant of the model), or no strides that matter.
    """
    kernel = _SHAPE_KERNELS.get(func)
    if kernel is None:
        return None
    x = args[0]
    if not isinstance(x, Tensor):  # torch passes on whole numbers that stand for tensors
        return None
    has_values = not (x.is_meta or isinstance(x, FakeTensor))
    return None if has_values or x.dim() < _DIMS_WITH_STRIDES else kernel


class CpuStrides(TorchDispatchMode):
    """Gives the results of operators on fake or meta tensors the strides that the CPU gives.

    Example:
        >>> x = torch.empty(2, 4, 3, device="meta").transpose(1, 2)
        >>> with CpuStrides():
        ...     torch.softmax(x, -1).is_contiguous()
        True
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kernel = shape_kernel(func, args) or func
        return kernel(*args, **(kwargs or {}))
