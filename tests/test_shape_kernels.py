"""On the meta device and on fake tensors, results have the strides that the CPU gives."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.shape_kernels import CpuStrides

aten = torch.ops.aten
CHANNELS = 4


def _ones() -> Tensor:
    return torch.ones(CHANNELS)


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "softmax": lambda x: torch.softmax(x, 1),
    "safe softmax": lambda x: aten._safe_softmax(x, -1),
    "log softmax": lambda x: torch.log_softmax(x, 1),
    "log sigmoid": lambda x: aten.log_sigmoid_forward(x),
    "gelu": lambda x: F.gelu(x),
    "hardswish": lambda x: F.hardswish(x),
    "batch norm": lambda x: F.batch_norm(x, _ones(), _ones()),
    "batch norm, training": lambda x: F.batch_norm(x, _ones(), _ones(), training=True),
    "batch norm without inference": lambda x: aten._native_batch_norm_legit(
        x, None, None, _ones(), _ones(), False, 0.1, 1e-5
    )[0],
    "batch norm without statistics": lambda x: aten._native_batch_norm_legit.no_stats(
        x, None, None, True, 0.1, 1e-5
    )[0],
    "layer norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "group norm": lambda x: F.group_norm(x, 2),
    "instance norm": lambda x: F.instance_norm(x),
    "floor division": lambda x: x // torch.tensor(2.0),
    "floor division, broadcast": lambda x: x[:, :1] // x[:1],
    "division, rounded": lambda x: torch.div(x, torch.tensor(2.0), rounding_mode="floor"),
    "logical and": lambda x: torch.logical_and(x[:, :1], x[:1]),
    "xlogy": lambda x: torch.xlogy(x[:, :1], x[:1]),
    "sum of exponentials": lambda x: torch.logaddexp(x[:, :1], x[:1]),
}

IMAGE_FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "reflected": lambda x: F.pad(x, (1, 1, 1, 1), "reflect"),
    "replicated": lambda x: F.pad(x, (1, 1, 1, 1), "replicate"),
    "circular": lambda x: F.pad(x, (1, 1, 1, 1), "circular"),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "pooled": lambda x: F.max_pool2d(x, 2),
    "resized": lambda x: F.interpolate(x, scale_factor=2),
}


def _layouts(x: Tensor) -> Iterator[Tensor]:
    """The same tensor, laid out in memory in several ways."""
    yield x
    yield x.transpose(1, -1).contiguous().transpose(1, -1)
    yield x.transpose(0, -1).contiguous().transpose(0, -1)
    if x.dim() == 4:
        yield x.contiguous(memory_format=torch.channels_last)


def _inputs() -> Iterator[Tensor]:
    yield from _layouts(torch.rand(2, CHANNELS, 6))
    yield from _layouts(torch.rand(2, CHANNELS, 6, 5))


def _bare(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _forms(outputs: Any) -> list[Any]:
    return [(x.shape, x.stride(), x.dtype) for x in tree_leaves(outputs) if isinstance(x, Tensor)]


def _check(function: Callable[..., Any], *args: Any) -> None:
    expected = _forms(function(*args))
    with CpuStrides(), torch.device("meta"):
        assert _forms(function(*tree_map(_bare, args))) == expected
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes = tree_map(lambda x: mode.from_tensor(x) if isinstance(x, Tensor) else x, args)
    with mode, CpuStrides():
        assert _forms(function(*fakes)) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_strides_are_those_of_the_cpu(name: str) -> None:
    for x in _inputs():
        _check(FUNCTIONS[name], x)


@pytest.mark.parametrize("name", IMAGE_FUNCTIONS)
def test_strides_of_images_are_those_of_the_cpu(name: str) -> None:
    for x in _layouts(torch.rand(2, CHANNELS, 6, 6)):
        _check(IMAGE_FUNCTIONS[name], x)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("groups", [1, 2, CHANNELS])
@pytest.mark.parametrize("dims", [1, 2])
def test_strides_of_convolutions_are_those_of_the_cpu(
    dims: int, groups: int, kernel: int, transposed: bool
) -> None:
    outs = 2 * CHANNELS
    shape = (CHANNELS, outs // groups) if transposed else (outs, CHANNELS // groups)
    settings = ([1] * dims, [0] * dims, [1] * dims, transposed, [0] * dims, groups)
    for x in _layouts(torch.rand(2, CHANNELS, *(7, 6)[:dims])):
        for weight in _layouts(torch.rand(*shape, *[kernel] * dims)):
            _check(aten.convolution, x, weight, None, *settings)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [False, True])
def test_strides_of_recurrent_layers_are_those_of_the_cpu(
    kind: type[nn.Module], batch_first: bool
) -> None:
    layer = kind(3, 5, 2, batch_first=batch_first, bidirectional=True)
    with torch.no_grad():
        expected = _forms(layer(torch.rand(2, 4, 3)))
        with CpuStrides():
            assert _forms(layer.to("meta")(torch.empty(2, 4, 3, device="meta"))) == expected


def test_tensors_with_values_are_computed() -> None:
    """A model may compute its sizes by such operators, of tensors that it makes of numbers."""
    with CpuStrides():
        quotient = torch.div(torch.tensor(17), 4, rounding_mode="trunc")
        assert int(quotient) == 4
        assert torch.relu(torch.ones(2, 2)).tolist() == [[1, 1], [1, 1]]
        with FakeTensorMode(allow_non_fake_inputs=True):
            assert int(torch.div(torch.tensor(17), 4, rounding_mode="trunc")) == 4
