"""A kernel of oneDNN that writes beyond its memory, and how it is kept from running.

What was found, with torch 2.14.1 (oneDNN 3.12.0) on a processor with AVX2 and without AVX-512, in processes of their
own, with marked memory around every allocation. The gradient of the *weights* of a convolution (kernel
``jit_1x1:avx2``, backward weights) writes up to some thousand bytes beyond its workspace, and the gradient is sometimes
wrong, if all of this holds:

- two dimensions, kernel 1 x 1, no padding, one group, float32; number of images, dilation and bias do not matter (torch
  has a kernel of its own for a single small image);
- fewer than 8 channels go in (of a transposed convolution: come out), however many there are on the other side;
- a stride above 1 along some axis, and the strides divide height and width (9 x 9 at stride 2 takes another kernel);
- the map lies channels last, or the weight does, as torch tells it (``channels_last``); after
  ``.contiguous(memory_format=torch.channels_last)`` a map of one channel does not, after ``.to`` it does.

Without fault: forward passes and gradients of inputs; 8 channels or more; other kernels, groups, padding, stride 1;
float64, bfloat16, float16; one and three dimensions; ``ONEDNN_MAX_CPU_ISA`` = ``SSE41`` or ``AVX``. ``AVX2``,
``AVX2_VNNI`` and no limit have it. ``tests/test_kernel_guard.py`` keeps the list.
"""

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fxgrow.errors import ModelError

_ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_BELOW_AVX2 = ("SSE41", "AVX")
_AVX2 = ("AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
_LANES = 8
"""Numbers of float32 in a register of AVX2; fewer channels do not fill one."""


def has_unsafe_kernel() -> bool:
    """Whether convolutions here may run the kernel: oneDNN is on, kept to AVX2 by the processor or by a variable."""
    if not (torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)):
        return False
    limit = next((os.environ[name].upper() for name in _ISA_VARIABLES if name in os.environ), "")
    if limit in _AVX2 + _BELOW_AVX2:
        return limit in _AVX2
    # Anything below, too: the variable that lowers torch's own kernels does not lower those of oneDNN.
    return (
        platform.machine() in ("x86_64", "AMD64")
        and torch.backends.cpu.get_cpu_capability() != "AVX512"
    )


@contextmanager
def guard_unsafe_kernel(model: nn.Module) -> Iterator[None]:
    """For a forward pass of ``model`` that a backward pass follows.

    Raises ``ModelError`` (``unsafe-convolution``) when a convolution runs whose gradient would be written beyond its
    memory. Costs nothing on processors without the fault.
    """
    if not has_unsafe_kernel():
        yield
        return
    with _Watch(model):
        yield


class _Watch(TorchDispatchMode):
    """Looks at the arguments of every convolution."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Any = None,
    ) -> Any:
        if func is torch.ops.aten.convolution.default and is_unsafe_convolution(*args):
            raise self._error(args[1], args[3])
        return func(*args, **(kwargs or {}))

    def _error(self, weight: Tensor, stride: Sequence[int]) -> ModelError:
        # Not by identity: autograd hands on another object of the same memory.
        names: Mapping[int, str] = {
            p.data_ptr(): name for name, p in self.model.named_parameters() if p.numel()
        }
        layer = names.get(weight.data_ptr(), "").rpartition(".")[0] or "a function of the model"
        return ModelError(
            "unsafe-convolution",
            f"{layer}, a 1 x 1 convolution of {weight.shape[1]} channels at stride {tuple(stride)}, runs channels "
            "last, and on processors with AVX2 only oneDNN writes the gradient of such weights beyond its memory; move "
            "the model and its inputs with .to(memory_format=torch.contiguous_format), or set "
            "torch.backends.mkldnn.enabled = False",
        )


def is_unsafe_convolution(
    images: Tensor,
    weight: Tensor,
    _bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    _dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> bool:
    """Whether the gradient of the weight would be written beyond its memory; the arguments of ``aten.convolution``."""
    plain = (
        weight.device.type == "cpu"
        and weight.dtype == images.dtype == torch.float32
        and weight.requires_grad
    )
    pointwise = (
        weight.dim() == 4 and tuple(weight.shape[2:]) == (1, 1) and groups == 1 and not any(padding)
    )
    if not (plain and pointwise and weight.shape[1] < _LANES and max(stride) > 1):
        return False
    # How far the last pixel that is used lies from where one more step would end.
    over = (
        [step - 1 - more for step, more in zip(stride, output_padding, strict=True)]
        if transposed
        else [size % step for size, step in zip(images.shape[2:], stride, strict=True)]
    )
    return not any(over) and (is_channels_last(images) or is_channels_last(weight))


def is_channels_last(tensor: Tensor) -> bool:
    """Whether torch takes the tensor, of four dimensions, for one that lies channels last, dense or not."""
    batch, channel, row, column = range(4)
    least = 0
    for axis in (channel, column, row, batch):
        stride, size = tensor.stride(axis), tensor.shape[axis]
        ambiguous = axis == batch and least == tensor.stride(channel)
        if not size or not tensor.stride(channel) or stride < least or ambiguous:
            return False
        least = stride * max(size, 1)
    return True
