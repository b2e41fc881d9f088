"""Guards against two faults of oneDNN's convolutions: memory that is not theirs, or not written.

The first: what was found, with torch 2.14.1 (oneDNN 3.12.0) on a processor with AVX2 and without
AVX-512, each case in a process of its own, with marked memory around every allocation. The gradient
of the *weights* of a convolution (kernel ``jit_1x1:avx2``, backward weights) writes up to some
thousand bytes beyond its workspace, and the gradient is sometimes wrong, if all of this holds:

- two dimensions, kernel 1 x 1, no padding, one group, float32; number of images, dilation and bias
  do not matter (torch has a kernel of its own for a single small image);
- fewer than 8 input channels (of a transposed convolution: output channels), with any number on
  the other side;
- a stride above 1 along some axis, and the strides divide height and width (9 x 9 at stride 2
  takes another kernel);
- the images are channels last, or the weight is, by torch's own test (``channels_last``); after
  ``.contiguous(memory_format=torch.channels_last)`` images of one channel are not, after ``.to``
  they are.

Not affected: forward passes and gradients of inputs; 8 channels or more; other kernels, groups,
padding, stride 1; float64, bfloat16, float16; one and three dimensions; ``ONEDNN_MAX_CPU_ISA`` =
``SSE41`` or ``AVX``. Affected are ``AVX2``, ``AVX2_VNNI`` and no limit.
``tests/test_kernel_guard.py`` keeps the list.

The second, with the same torch on a processor with AVX-512: in bfloat16 parts of the gradient of
the weights are never written, and hold whatever was in that memory, often NaN. Of 10,000 random
convolutions in one and two dimensions all that did so have an axis along which the image is smaller
than the stride (3 x 3 at stride 2 on 1 x 1: the last stage of a ResNet on images of 16 x 16). In
three dimensions others do so too, and some write into memory that is not theirs.
"""

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fxgrow.errors import ModelError

# Either variable limits the instruction sets that oneDNN uses; the first one that is set counts.
_ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_BELOW_AVX2 = ("SSE41", "AVX")
_AVX2 = ("AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
# float32 numbers in one register of AVX2; fewer channels do not fill one.
_LANES = 8


def has_unsafe_kernel() -> bool:
    """Whether convolutions on this machine may run the kernel.

    They may if oneDNN is on, and the processor or an environment variable limits it to AVX2.

    Example:
        >>> torch.backends.mkldnn.enabled = False
        >>> has_unsafe_kernel()
        False
    """
    if not (torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)):
        return False
    limit = _isa_limit()
    if limit in _AVX2 + _BELOW_AVX2:
        return limit in _AVX2
    # Torch reports less than AVX2 also if a variable lowers its own kernels, but that variable does
    # not lower those of oneDNN. So everything but AVX-512 counts as AVX2.
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    return is_x86 and torch.backends.cpu.get_cpu_capability() != "AVX512"


def _isa_limit() -> str:
    for name in _ISA_VARIABLES:
        if name in os.environ:
            return os.environ[name].upper()
    return ""


@contextmanager
def guard_unsafe_kernel(model: nn.Module) -> Iterator[None]:
    """Refuse, during a forward pass, convolutions whose weight gradient would run the kernel.

    Use it around every forward pass that a backward pass follows. It costs nothing on processors
    without the fault.

    Args:
        model: the model that is run; the error names its layer.

    Returns:
        A context manager that gives nothing.

    Raises:
        ModelError: ``unsafe-convolution`` when such a convolution runs; no gradient has been taken.

    Example:
        >>> with guard_unsafe_kernel(model):
        ...     loss = loss_fn(model(inputs), target)
        >>> loss.backward()
    """
    # Not on a GPU either, where the watcher would keep a compiled model from running compiled.
    if not has_unsafe_kernel() or not _is_on_cpu(model):
        yield
        return
    with _ConvolutionWatcher(model, _require_within_memory):
        yield


def _is_on_cpu(model: nn.Module) -> bool:
    return any(parameter.device.type == "cpu" for parameter in model.parameters())


class _ConvolutionWatcher(TorchDispatchMode):
    """Checks the arguments of every convolution before it runs; ``torch.cond`` is let through."""

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, require_sound: Callable[..., None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model, self.require_sound = model, require_sound

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Any = None,
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.require_sound(self.model, *args)
        return func(*args, **(kwargs or {}))


def _require_within_memory(model: nn.Module, *args: Any) -> None:
    weight, stride = args[1], args[3]
    if is_unsafe_convolution(*args):
        raise ModelError(
            "unsafe-convolution",
            f"{_layer_of(model, weight)}, a 1 x 1 convolution of {weight.shape[1]} channels at "
            f"stride {tuple(stride)}, runs channels last, and on processors with AVX2 only oneDNN "
            "writes the gradient of such weights beyond its memory; move the model and its inputs "
            "with .to(memory_format=torch.contiguous_format), or set "
            "torch.backends.mkldnn.enabled = False",
        )


def _layer_of(model: nn.Module, weight: Tensor) -> str:
    # Compared by memory, not by identity: autograd passes on another tensor object. The last
    # parameter with that memory names the layer, if several share it.
    layer = ""
    for name, parameter in model.named_parameters():
        if parameter.numel() and parameter.data_ptr() == weight.data_ptr():
            layer = name.rpartition(".")[0]
    return layer or "a function of the model"


def require_bfloat16_gradients(model: nn.Module, *inputs: Any) -> None:
    """Run a model on the CPU once, and refuse convolutions without a gradient in bfloat16.

    Args:
        model: is copied; nothing about it changes.
        inputs: its arguments, of the shape that it will be trained on.

    Raises:
        ModelError: ``unsafe-convolution``.

    Example:
        >>> require_bfloat16_gradients(model, images[:2])
    """
    if not (torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)):
        return
    if _is_on_cpu(model):
        _watch_training_pass(model, inputs, _require_written)


def require_compilable_gradients(model: nn.Module, *inputs: Any) -> None:
    """Run a model once, and refuse convolutions that compiled code might give to the kernel.

    Compiled passes cannot be watched, and the compiler chooses the memory layout and pads images
    as it likes: so every convolution counts that may meet the kernel in some layout.

    Args:
        model: is copied; nothing about it changes.
        inputs: its arguments, of the shape that it will be trained on.

    Raises:
        ModelError: ``unsafe-convolution``.

    Example:
        >>> require_compilable_gradients(model, images[:2])
    """
    if has_unsafe_kernel() and _is_on_cpu(model):
        _watch_training_pass(model, inputs, _require_safe_in_any_layout)


def _watch_training_pass(
    model: nn.Module, inputs: Sequence[Any], require_sound: Callable[..., None]
) -> None:
    # In training mode, as some branches run in no other; of a copy, for its statistics change.
    watched = deepcopy(model).train()
    with torch.no_grad(), _ConvolutionWatcher(watched, require_sound):
        watched(*inputs)


def _require_safe_in_any_layout(model: nn.Module, *args: Any) -> None:
    weight, stride = args[1], args[3]
    if _fits_the_kernel(*args):
        raise ModelError(
            "unsafe-convolution",
            f"{_layer_of(model, weight)}, a 1 x 1 convolution of {weight.shape[1]} channels at "
            f"stride {tuple(stride)}, cannot be compiled on processors with AVX2 only, where "
            "oneDNN may write the gradient of such weights beyond its memory; leave compile out, "
            "or set torch.backends.mkldnn.enabled = False",
        )


def _require_written(model: nn.Module, images: Tensor, weight: Tensor, *rest: Any) -> None:
    stride, sizes = rest[1], images.shape[2:]
    if is_unwritten_in_bfloat16(images, weight, *rest):
        shape = " x ".join(map(str, sizes))
        raise ModelError(
            "unsafe-convolution",
            f"{_layer_of(model, weight)}, a convolution at stride {tuple(stride)} on maps of "
            f"{shape}, has no sound gradient in bfloat16 on this processor, as oneDNN leaves parts "
            "of it unwritten; give larger images, or precision=float32",
        )


def is_unwritten_in_bfloat16(
    images: Tensor,
    weight: Tensor,
    _bias: Tensor | None,
    stride: Sequence[int],
    _padding: Sequence[int],
    _dilation: Sequence[int],
    transposed: bool,
    *_rest: Any,
) -> bool:
    """Whether parts of the gradient of a convolution's weight would not be written.

    Args:
        images: the input of the convolution, ``[batch, in, ...]``.
        weight: its kernel.
        stride: along every axis of the image.
        transposed: whether it is a transposed convolution.

    Returns:
        True if the arguments, those of ``aten.convolution``, are of the kind that the head of this
        module describes; transposed convolutions are not looked at.
    """
    if transposed:
        return False
    # In three dimensions no rule was found that holds, so none of them is trusted.
    is_3d = weight.dim() == 5
    smaller = [size < step for size, step in zip(images.shape[2:], stride, strict=True)]
    return is_3d or any(smaller)


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
    """Whether the gradient of a convolution's weight would be written beyond its memory.

    Args:
        images: the input of the convolution.
        weight: its kernel.
        stride: along every axis of the image, as are ``padding`` and ``output_padding``.
        padding: zeros around the images.
        transposed: whether it is a transposed convolution.
        output_padding: of a transposed convolution, else zeros.
        groups: number of groups of channels.

    Shapes:
        images: ``[batch, in, height, width]``.
        weight: ``[out, in / groups, kernel height, kernel width]``, of a transposed convolution
            ``[in, out / groups, kernel height, kernel width]``.

    Returns:
        True if the arguments, those of ``aten.convolution``, are of the kind that the head of this
        module describes.
    """
    rest = (_bias, stride, padding, _dilation, transposed, output_padding, groups)
    if not (weight.requires_grad and _fits_the_kernel(images, weight, *rest)):
        return False
    # With leftover pixels at the border, oneDNN takes another kernel, which is safe.
    if transposed:
        leftover = _missing_output_pixels(stride, output_padding)
    else:
        leftover = _unused_input_pixels(images.shape[2:], stride)
    return not any(leftover) and (is_channels_last(images) or is_channels_last(weight))


def _fits_the_kernel(images: Tensor, weight: Tensor, *rest: Any) -> bool:
    """Whether some layout and size of the images would be given to the kernel."""
    _bias, stride, padding, _dilation, _transposed, _output_padding, groups = rest
    is_float32 = weight.dtype == images.dtype == torch.float32
    if weight.dim() != 4 or weight.device.type != "cpu" or not is_float32:
        return False
    is_pointwise = tuple(weight.shape[2:]) == (1, 1) and groups == 1 and not any(padding)
    return is_pointwise and weight.shape[1] < _LANES and max(stride) > 1


def _missing_output_pixels(stride: Sequence[int], output_padding: Sequence[int]) -> list[int]:
    """Along every axis, how many output pixels are lacking to a whole number of strides."""
    missing = []
    for step, extra in zip(stride, output_padding, strict=True):
        missing.append(step - 1 - extra)
    return missing


def _unused_input_pixels(sizes: Sequence[int], stride: Sequence[int]) -> list[int]:
    """Along every axis, how many input pixels remain behind the last whole stride."""
    unused = []
    for size, step in zip(sizes, stride, strict=True):
        unused.append(size % step)
    return unused


def is_channels_last(tensor: Tensor) -> bool:
    """Whether torch takes a tensor of four dimensions for channels last, dense or not.

    The same test as ``is_channels_last_strides_2d`` of torch's C++ library, which Python cannot
    call: from the innermost axis of that layout (channels) to the outermost (batch), strides must
    not fall below the extent of the axis before.

    Args:
        tensor: any tensor ``[batch, channels, height, width]``.

    Returns:
        True if the strides are those of the channels-last layout.
    """
    batch, channel, row, column = range(4)
    minimum = 0
    for axis in (channel, column, row, batch):
        stride, size = tensor.stride(axis), tensor.shape[axis]
        # One number per image: both layouts have these strides, and torch then says contiguous.
        is_ambiguous = axis == batch and minimum == tensor.stride(channel)
        if not size or not tensor.stride(channel) or stride < minimum or is_ambiguous:
            return False
        minimum = stride * max(size, 1)
    return True
