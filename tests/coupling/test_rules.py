"""One small model per row of the rules table: which widths are found, how large, and what is refused.

Besides the widths, every model is widened in all growable widths by ``split`` and ``new`` and must keep its function:
a rule that couples wrongly is then found even where the expected numbers were written down wrongly.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from fxgrow.coupling import Coupling, couple
from fxgrow.coupling.context import Context
from fxgrow.coupling.rules import table
from fxgrow.growth.widen import widen
from tests.coupling.choice_cases import MORE
from tests.coupling.models import (
    IMAGE,
    SEQUENCE,
    VECTOR,
    Net,
    attention,
    convolutions,
    linears,
    shuffled,
    windows,
)

Found = dict[str, tuple[int, int, str]]
"""Name of a width: (size, granule, refusal code or "")."""

FREE = (4, 1, "")
OUT = (2, 1, "output")


def _written(h: Tensor) -> Tensor:
    out = torch.zeros(2, 5)
    out[:, 1:] = h
    return out


def _shared_layer() -> nn.Module:
    shared = nn.Linear(4, 4)
    return nn.Sequential(nn.Linear(6, 4), shared, nn.ReLU(), shared, nn.Linear(4, 2))


class _Experts(Net):
    """Two experts, of which the first takes two tokens and the second four."""

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        super().__init__(forward)
        self.experts = nn.Parameter(torch.randn(2, 8, 4))
        self.register_buffer("ends", torch.tensor([2, 6], dtype=torch.int32))


def _with_table() -> nn.Module:
    """A small network on a buffer, as in the position bias of Swin V2."""
    model = Net(
        lambda n, x: x[:, :2] + n.b(n.a(n.table).relu()).mean(0),
        a=nn.Linear(3, 4),
        b=nn.Linear(4, 2),
    )
    model.register_buffer("table", torch.randn(5, 3))
    return model


CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, Found]] = {
    **MORE,
    "size as a number": (
        lambda: linears(lambda h: h / h.shape[1]),
        VECTOR,
        {"a": (4, 1, "size-value"), "b": OUT},
    ),
    "branch on a size": (
        lambda: linears(lambda h: h * 2 if h.shape[1] > 5 else h),
        VECTOR,
        {"a": (4, 1, "size-branch"), "b": OUT},
    ),
    "rounded size": (
        lambda: linears(lambda h: h.reshape(-1, h.shape[1] // 3, 4).flatten(1)),
        VECTOR,
        {"a": (4, 1, "uneven"), "b": OUT},
    ),
    "shaped in place": (
        lambda: linears(lambda h: (2 * h).unsqueeze_(0).transpose_(0, 1).squeeze_(1).t_().t_()),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "all squeezed in place": (
        lambda: linears(lambda h: (2 * h).unsqueeze_(1).squeeze_()),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "transposed in place": (
        lambda: linears(lambda h: (2 * h).t_().sum(0, keepdim=True).t_() * h, 4),
        VECTOR,
        {"a": (4, 1, "reduced"), "b": OUT},
    ),
    "bilinear": (
        lambda: Net(
            lambda net, x: net.c(net.bi(net.a(x), net.b(x).tanh())),
            a=nn.Linear(6, 4),
            b=nn.Linear(6, 3),
            bi=nn.Bilinear(4, 3, 5),
            c=nn.Linear(5, 2),
        ),
        VECTOR,
        {"a": FREE, "b": (3, 1, ""), "bi": (5, 1, ""), "c": OUT},
    ),
    "bilinear without a bias, of one input": (
        lambda: Net(
            lambda net, x: net.c(F.bilinear(net.a(x), net.a(x), net.bi.weight)),
            a=nn.Linear(6, 4),
            bi=nn.Bilinear(4, 4, 5, bias=False),
            c=nn.Linear(5, 2),
        ),
        VECTOR,
        {"a": FREE, "bi": (5, 1, ""), "c": OUT},
    ),
    "weight times itself": (
        lambda: Net(
            lambda net, x: net.b(x @ (net.a.weight.T @ net.a.weight)),
            a=nn.Linear(6, 4),
            b=nn.Linear(6, 2),
        ),
        VECTOR,
        {"a": (6, 1, "fixed-size"), "b": OUT},
    ),
    "weight times itself, written": (
        lambda: Net(
            lambda net, x: net.b(F.linear(x, net.a.weight @ net.a.weight.T @ net.a.weight)),
            a=nn.Linear(6, 4),
            b=nn.Linear(4, 2),
        ),
        VECTOR,
        {"a": (4, 1, "weight-product"), "b": OUT},
    ),
    "a head that is not reached": (
        lambda: Net(
            lambda net, x: net.b(net.a(x)), a=nn.Linear(6, 4), b=nn.Linear(4, 2), c=nn.Linear(4, 2)
        ),
        VECTOR,
        {"a": (4, 1, "unreached"), "b": OUT},
    ),
    "convolution": (lambda: convolutions(F.relu), IMAGE, {"a": FREE, "b": OUT}),
    "1d": (
        lambda: nn.Sequential(nn.Conv1d(5, 4, 3), nn.Conv1d(4, 2, 1)),
        SEQUENCE,
        {"0": FREE, "1": OUT},
    ),
    "kernel as large as its channels": (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3)),
        IMAGE,
        {"0": (3, 1, ""), "2": OUT},
    ),
    "grouped": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv2d(6, 2, 1)
        ),
        IMAGE,
        {"0": (2, 2, ""), "1": (3, 2, ""), "3": OUT},
    ),
    "depthwise": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1)),
        IMAGE,
        {"0": FREE, "2": OUT},
    ),
    "depthwise with multiplier": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 2, 1)),
        IMAGE,
        {"0": FREE, "2": OUT},
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2)),
        IMAGE,
        {"0": FREE, "2": OUT},
    ),
    "transposed grouped": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 4, 2, groups=2), nn.Conv2d(4, 2, 1)
        ),
        IMAGE,
        {"0": (3, 2, ""), "1": (2, 1, ""), "2": OUT},
    ),
    "transposed depthwise": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 4, 2, groups=4), nn.Conv2d(4, 2, 1)
        ),
        IMAGE,
        {"0": FREE, "2": OUT},
    ),
    "transposed depthwise with multiplier": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 8, 2, groups=4), nn.Conv2d(8, 2, 1)
        ),
        IMAGE,
        {"0": FREE, "2": OUT},
    ),
    "convolution over the neurons": (
        lambda: Net(
            lambda n, x: n.b(n.a(x).unsqueeze(1)).flatten(1),
            a=nn.Linear(6, 4),
            b=nn.Conv1d(1, 2, 3),
        ),
        VECTOR,
        {"a": (4, 1, "space"), "b": OUT},
    ),
    "linear": (lambda: linears(F.gelu), VECTOR, {"a": FREE, "b": OUT}),
    "linear without bias": (
        lambda: nn.Sequential(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False)),
        VECTOR,
        {"0": FREE, "2": OUT},
    ),
    "linear on a sequence": (lambda: linears(F.gelu), SEQUENCE, {"a": FREE, "b": OUT}),
    "einsum": (
        lambda: Net(
            lambda n, x: n.b(torch.einsum("bi,oi->bo", x, n.a.weight)),
            a=nn.Linear(6, 4, bias=False),
            b=nn.Linear(4, 2),
        ),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "mv": (
        lambda: Net(
            lambda n, x: torch.mv(n.a(x), n.b.weight[0]),
            a=nn.Linear(6, 4),
            b=nn.Linear(4, 1, bias=False),
        ),
        VECTOR,
        {"a": FREE},
    ),
    "bmm": (
        lambda: Net(
            lambda n, x: torch.bmm(n.a(x), n.b.weight.expand(2, -1, -1).mT),
            a=nn.Linear(6, 4),
            b=nn.Linear(4, 2),
        ),
        SEQUENCE,
        {"a": (4, 1, ""), "b": OUT},
    ),
    "grouped product of tokens and experts": (
        lambda: _Experts(lambda n, x: F.grouped_mm(x, n.experts, offs=n.ends)),
        torch.randn(6, 8),
        {"experts": (4, 1, "output")},
    ),
    "grouped product of two batches": (
        lambda: _Experts(lambda n, x: F.grouped_mm(x, n.experts)),
        torch.randn(2, 6, 8),
        {},
    ),
    "baddbmm": (
        lambda: Net(
            lambda n, x: torch.baddbmm(n.b.bias, n.a(x), n.b.weight.expand(2, -1, -1).mT),
            a=nn.Linear(6, 4),
            b=nn.Linear(4, 2),
        ),
        SEQUENCE,
        {"a": (4, 1, ""), "b": OUT},
    ),
    "two activations multiplied": (
        lambda: Net(lambda n, x: (h := n.a(x)) @ h.T, a=nn.Linear(6, 4)),
        VECTOR,
        {"a": (4, 1, "bilinear")},
    ),
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)),
        IMAGE,
        {"0": FREE, "2": OUT},
    ),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
        VECTOR,
        {"0": (4, 1, "normalised"), "2": OUT},
    ),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1)),
        IMAGE,
        {"0": (2, 2, ""), "2": OUT},
    ),
    "group norm of one group": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(1, 4), nn.Conv2d(4, 2, 1)),
        IMAGE,
        {"0": (4, 1, "normalised"), "2": OUT},
    ),
    "group norm of single channels": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(4, 4), nn.Conv2d(4, 2, 1)),
        IMAGE,
        {"0": FREE, "2": OUT},
    ),
    "group norm by function": (
        lambda: linears(lambda h: F.group_norm(h, 2)),
        VECTOR,
        {"a": (4, 1, "grid"), "b": OUT},
    ),
    "reduction over neurons merged with space": (
        lambda: convolutions(lambda h: h / h.reshape(len(h), 2, -1).amax(2)[:, :1, None, None]),
        IMAGE,
        {"a": (4, 1, "reduced"), "b": OUT},
    ),
    "softmax": (
        lambda: linears(lambda h: h.softmax(1)),
        VECTOR,
        {"a": (4, 1, "normalised"), "b": OUT},
    ),
    "softmax over time": (lambda: linears(lambda h: h.softmax(1)), SEQUENCE, {"a": FREE, "b": OUT}),
    "reduction over neurons": (
        lambda: Net(lambda n, x: n.a(x).sum(1), a=nn.Linear(6, 4)),
        VECTOR,
        {"a": (4, 1, "reduced")},
    ),
    "reduction over time": (lambda: linears(lambda h: h.amax(1)), SEQUENCE, {"a": FREE, "b": OUT}),
    "vector norm": (
        lambda: linears(lambda h: h / h.norm(dim=1, keepdim=True)),
        VECTOR,
        {"a": (4, 1, "reduced"), "b": OUT},
    ),
    "weight norm": (
        lambda: nn.Sequential(weight_norm(nn.Linear(6, 4)), nn.ReLU(), nn.Linear(4, 2)),
        VECTOR,
        {"0": FREE, "2": OUT},
    ),
    "weight norm of the reader": (
        lambda: nn.Sequential(nn.Linear(6, 4), weight_norm(nn.Linear(4, 2))),
        VECTOR,
        {"0": FREE, "1": OUT},
    ),
    "weight norm of the reader, for each of what it reads": (
        lambda: nn.Sequential(nn.Conv1d(5, 4, 1), weight_norm(nn.ConvTranspose1d(4, 2, 3))),
        SEQUENCE,
        {"0": FREE, "1": OUT},
    ),
    "pooling": (
        lambda: convolutions(
            lambda h: F.interpolate(F.max_pool2d(F.avg_pool2d(h, 2), 2), scale_factor=2)
        ),
        IMAGE,
        {"a": FREE, "b": OUT},
    ),
    "pooling over neurons": (
        lambda: linears(lambda h: F.avg_pool1d(h, 2), read=2),
        SEQUENCE,
        {"a": (4, 1, "space"), "b": OUT},
    ),
    "reflection pad": (lambda: convolutions(nn.ReflectionPad2d(1)), IMAGE, {"a": FREE, "b": OUT}),
    "untagged pointwise": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.Hardswish(), nn.PReLU(4), nn.Linear(4, 2)),
        VECTOR,
        {"0": FREE, "3": OUT},
    ),
    "dropout and in-place": (
        lambda: nn.Sequential(
            nn.Linear(6, 4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(4, 2)
        ),
        VECTOR,
        {"0": FREE, "3": OUT},
    ),
    "stochastic depth": (
        lambda: convolutions(lambda h: h * torch.empty_like(h[:, :1]).bernoulli_(1.0).detach()),
        IMAGE,
        {"a": FREE, "b": OUT},
    ),
    "residual": (
        lambda: Net(
            lambda n, x: n.c((h := n.a(x)) + n.b(torch.relu(h))),
            a=nn.Linear(6, 4),
            b=nn.Linear(4, 4),
            c=nn.Linear(4, 2),
        ),
        VECTOR,
        {"a": FREE, "c": OUT},
    ),
    "squeeze and excite": (
        lambda: Net(
            lambda n, x: n.c(
                (h := n.a(x)) * n.up(n.down(h.mean((2, 3), keepdim=True)).relu()).sigmoid()
            ),
            a=nn.Conv2d(3, 4, 1),
            down=nn.Conv2d(4, 3, 1),
            up=nn.Conv2d(3, 4, 1),
            c=nn.Conv2d(4, 2, 1),
        ),
        IMAGE,
        {"a": FREE, "down": (3, 1, ""), "c": OUT},
    ),
    "broadcast neuron": (
        lambda: linears(lambda h: h * torch.ones(2, 4), 1, 4),
        VECTOR,
        {"a": (1, 1, "broadcast"), "b": OUT},
    ),
    "fixed partner": (
        lambda: linears(lambda h: h + torch.arange(4.0)),
        VECTOR,
        {"a": (4, 1, "fixed-size"), "b": OUT},
    ),
    "equal partner of a fixed size": (
        lambda: linears(lambda h: h + torch.ones(4)),
        VECTOR,
        {"a": (4, 1, "fixed-code"), "b": OUT},
    ),
    "constant of zeros": (
        lambda: linears(lambda h: h + torch.zeros(h.shape[0], h.shape[1])),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "constant of new_zeros": (
        lambda: linears(lambda h: h + h.new_zeros(h.shape)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "constant of ones": (
        lambda: linears(lambda h: h * torch.ones(h.shape)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "constant of full": (
        lambda: linears(lambda h: torch.maximum(h, torch.full(h.shape, 0.1))),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "constant of empty and fill_": (
        lambda: linears(lambda h: h + torch.empty(h.shape).fill_(0.3)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "noise that is known to be ones": (
        lambda: linears(lambda h: h * torch.ones_like(h).bernoulli_(1.0)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "constant of new_empty and zero_": (
        lambda: linears(lambda h: h + h.new_empty(h.shape).zero_()),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "constant of where": (
        lambda: linears(lambda h: torch.where(h > 0, h, torch.zeros(h.shape))),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "constant of rows": (
        lambda: linears(lambda h: h * torch.arange(h.shape[0]).view(-1, 1).expand(h.shape)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "constant of stack": (
        lambda: linears(lambda h: torch.stack([h, torch.ones(h.shape)]).sum(0)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "constant of cat": (
        lambda: linears(lambda h: torch.cat([h[None], torch.zeros(1, *h.shape)]).sum(0)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "constant of many": (
        lambda: linears(lambda h: (h + torch.zeros(300_000, 1, h.shape[1]))[0]),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "constant that was written to": (
        lambda: linears(lambda h: h + torch.zeros(h.shape).index_put_((torch.tensor(0),), h.sum())),
        VECTOR,
        {"a": (4, 1, "reduced"), "b": OUT},
    ),
    "image of a vector": (
        lambda: Net(
            lambda n, x: n.b(n.norm(F.interpolate(n.a(x).view(2, -1, 2, 2), scale_factor=2))),
            a=nn.Linear(6, 16),
            norm=nn.BatchNorm2d(4),
            b=nn.ConvTranspose2d(4, 2, 3),
        ),
        VECTOR,
        {"a": (4, 4, ""), "b": OUT},
    ),
    "image of a vector, channel by channel": (
        lambda: Net(
            lambda n, x: n.c(n.b(F.max_pool2d(n.a(x).view(2, -1, 2, 2), 2))),
            a=nn.Linear(6, 16),
            b=nn.Conv2d(4, 4, 1, groups=4),
            c=nn.Conv2d(4, 2, 1),
        ),
        VECTOR,
        {"a": (4, 4, ""), "c": OUT},
    ),
    "cat": (
        lambda: Net(
            lambda n, x: n.c(torch.cat([n.a(x), n.b(x)], 1)),
            a=nn.Linear(6, 4),
            b=nn.Linear(6, 3),
            c=nn.Linear(7, 2),
        ),
        VECTOR,
        {"a": FREE, "b": (3, 1, ""), "c": OUT},
    ),
    "cat over time": (
        lambda: linears(lambda h: torch.cat([h, h.relu()], 1)),
        SEQUENCE,
        {"a": FREE, "b": OUT},
    ),
    "stack": (
        lambda: linears(lambda h: torch.stack([h, h.relu()], 1).mean(1)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "chunk": (
        lambda: linears(lambda h: torch.mul(*h.chunk(2, 1)), 8, 4),
        VECTOR,
        {"a": (4, 2, ""), "b": OUT},
    ),
    "unequal split": (
        lambda: linears(lambda h: h.split([1, 3], 1)[1], read=3),
        VECTOR,
        {"a": (1, 1, "unread"), "a#2": (3, 1, "fixed-code"), "b": OUT},
    ),
    "glu": (lambda: linears(F.glu, 8, 4), VECTOR, {"a": (4, 2, ""), "b": OUT}),
    "unbind": (
        lambda: linears(lambda h: torch.stack(h.unbind(1), 1)),
        VECTOR,
        {"a": (4, 1, "sliced"), "b": OUT},
    ),
    "unbind time": (lambda: linears(lambda h: h.unbind(1)[0]), SEQUENCE, {"a": FREE, "b": OUT}),
    "slice": (
        lambda: linears(lambda h: h[:, :3], read=3),
        VECTOR,
        {"a": (3, 1, "fixed-code"), "a#2": (1, 1, "unread"), "b": OUT},
    ),
    "every second": (
        lambda: linears(lambda h: h[:, ::2], read=2),
        VECTOR,
        {"a": (2, 1, "sliced"), "a#2": (2, 1, "sliced"), "b": OUT},
    ),
    "slice of time": (
        lambda: linears(lambda h: h[:, 1:3].select(1, 0)),
        SEQUENCE,
        {"a": FREE, "b": OUT},
    ),
    "shuffle": (
        lambda: Net(
            lambda n, x: n.c(shuffled(n.b(n.a(x)), 2)),
            a=nn.Conv2d(3, 4, 1),
            b=nn.Conv2d(4, 6, 1, groups=2),
            c=nn.Conv2d(6, 2, 1),
        ),
        IMAGE,
        {"a": (2, 2, ""), "b": (3, 2, ""), "c": OUT},
    ),
    "pixel shuffle": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.PixelShuffle(2), nn.Conv2d(2, 2, 1)),
        IMAGE,
        {"0": (2, 4, ""), "2": OUT},
    ),
    "flatten": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(196, 2)),
        IMAGE,
        {"0": FREE, "3": OUT},
    ),
    "flattened map of one neuron": (
        lambda: nn.Sequential(nn.Conv2d(3, 1, 2), nn.Flatten(), nn.Linear(49, 2)),
        IMAGE,
        {"0": (1, 1, ""), "2": OUT},
    ),
    "squeezed neuron": (
        lambda: linears(lambda h: h.squeeze(1).unsqueeze(1), 1),
        VECTOR,
        {"a": (1, 1, "squeezed"), "b": OUT},
    ),
    "outer product": (
        lambda: Net(
            lambda n, x: n.c((n.a(x)[:, :, None] * n.b(x)[:, None, :]).flatten(1)),
            a=nn.Linear(6, 4),
            b=nn.Linear(6, 3),
            c=nn.Linear(12, 2),
        ),
        VECTOR,
        {"a": FREE, "b": (3, 1, "grid"), "c": OUT},
    ),
    "merged": (
        lambda: Net(
            lambda n, x: n.c(
                (n.a(x).view(2, 6, 2)[..., None] * n.b(x[:, 0])[:, None, None]).flatten(1)
            ),
            a=nn.Conv1d(6, 4, 1),
            b=nn.Linear(3, 2),
            c=nn.Linear(24, 2),
        ),
        torch.zeros(2, 6, 3),
        {"a": (4, 1, "merged"), "b": (2, 1, "merged"), "c": OUT},
    ),
    "spectral norm": (
        lambda: nn.Sequential(spectral_norm(nn.Linear(6, 4)), nn.ReLU(), nn.Linear(4, 2)),
        VECTOR,
        {"0": (4, 1, "reduced"), "2": OUT},
    ),
    "spectral norm of the reader": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), spectral_norm(nn.Linear(4, 2))),
        VECTOR,
        {"0": (4, 1, "reduced"), "2": (2, 1, "reduced")},
    ),
    "maxout": (
        lambda: linears(lambda h: h.view(2, -1, 3).amax(2), 12, 4),
        VECTOR,
        {"a": (4, 3, ""), "b": OUT},
    ),
    "maxout of fixed number": (
        lambda: linears(lambda h: h.view(2, 4, -1).amax(2), 12, 4),
        VECTOR,
        {"a": (12, 1, "grid"), "b": OUT},
    ),
    "heads": (lambda: attention(-1, 4), SEQUENCE, {"q": (2, 4, ""), "o": OUT}),
    "head size": (
        lambda: attention(2, -1),
        SEQUENCE,
        {"q": (8, 1, "grid"), "v": (4, 2, ""), "o": OUT},
    ),
    "written number": (
        lambda: linears(lambda h: h.view(2, 2, 2).flatten(1)),
        VECTOR,
        {"a": (4, 1, "grid"), "b": OUT},
    ),
    "fixed code": (
        lambda: convolutions(lambda h: h.reshape(2, 4, 64).reshape(2, 4, 8, 8)),
        IMAGE,
        {"a": (4, 1, "fixed-code"), "b": OUT},
    ),
    "expand": (
        lambda: Net(
            lambda n, x: n.b(n.a(x) + n.p.weight.expand(2, -1)),
            a=nn.Linear(6, 4),
            p=nn.Linear(4, 1),
            b=nn.Linear(4, 2),
        ),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "expanded neuron": (
        lambda: linears(lambda h: h.expand(-1, 4), 1, 4),
        VECTOR,
        {"a": (1, 1, "broadcast"), "b": OUT},
    ),
    "constant pad": (
        lambda: convolutions(lambda h: F.pad(h, (1, 1, 0, 0, 1, 2)), read=7),
        IMAGE,
        {"a": FREE, "b": OUT},
    ),
    "windows": (
        lambda: Net(
            lambda n, x: n.b(windows(n.a(x).roll((1, 2), (2, 3)))),
            a=nn.Conv2d(3, 4, 1),
            b=nn.Linear(4, 2),
        ),
        IMAGE,
        {"a": FREE, "b": OUT},
    ),
    "rolled neurons": (lambda: linears(lambda h: h.roll(1, 1)), VECTOR, {"a": FREE, "b": OUT}),
    "rolled over all axes as one": (
        lambda: linears(lambda h: h.roll(1)),
        VECTOR,
        {"a": (4, 1, "rolled"), "b": OUT},
    ),
    "rolled against itself": (
        lambda: linears(lambda h: h * h.roll(1, 1)),
        VECTOR,
        {"a": (1, 4, "order"), "b": OUT},
    ),
    "flip": (lambda: convolutions(lambda h: h.flip(3)), IMAGE, {"a": FREE, "b": OUT}),
    "flipped neurons": (
        lambda: linears(lambda h: h.flip(1)),
        VECTOR,
        {"a": (4, 1, "flipped"), "b": OUT},
    ),
    "repeat": (lambda: linears(lambda h: h.repeat(1, 2), read=8), VECTOR, {"a": FREE, "b": OUT}),
    "index": (lambda: linears(lambda h: h[torch.tensor([1, 0])]), VECTOR, {"a": FREE, "b": OUT}),
    "indexed neurons": (
        lambda: linears(lambda h: h[:, torch.tensor([1, 0, 2, 3])]),
        VECTOR,
        {"a": (4, 1, "indexed"), "b": OUT},
    ),
    "empty": (
        lambda: linears(lambda h: h + h[:0].reshape(0, 4, 1).sum()),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "mixed axis": (
        lambda: Net(
            lambda n, x: n.b(n.a(x).view(2, 6, 2)).flatten(1),
            a=nn.Conv1d(6, 4, 1),
            b=nn.Conv1d(6, 6, 1, groups=6),
        ),
        torch.zeros(2, 6, 3),
        {"a": (4, 1, "mixed-axis"), "b": (6, 1, "fixed-size")},
    ),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2)),
        torch.tensor([[1, 2, 3]]),
        {"0": FREE, "1": OUT},
    ),
    "copy": (
        lambda: linears(lambda h: torch.empty_like(h).copy_(h)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "copy into a constant": (
        lambda: linears(lambda h: torch.zeros(h.shape, dtype=h.dtype).copy_(h)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "copy into a part": (
        lambda: linears(_written, read=5),
        VECTOR,
        {"a": (4, 1, "written"), "b": OUT},
    ),
    "new tensors": (
        lambda: linears(lambda h: h + h.new_zeros(2, 1)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "unknown operator": (
        lambda: linears(lambda h: h.rot90(2)),
        VECTOR,
        {"a": (4, 1, "unknown-operator"), "b": OUT},
    ),
    "distances over neurons": (
        lambda: linears(lambda h: torch.cdist(h, h), read=2),
        VECTOR,
        {"a": (4, 1, "reduced"), "b": OUT},
    ),
    "distances of neurons": (
        lambda: linears(lambda h: torch.cdist(h[..., None], h.new_zeros(2, 3, 1)).sum(-1)),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "hidden layer of one neuron": (
        lambda: nn.Sequential(nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 2, 1)),
        IMAGE,
        {"0": (1, 1, ""), "3": OUT},
    ),
    "used twice": (_shared_layer, VECTOR, {"0": FREE, "4": OUT}),
    "tied encoder and decoder": (
        lambda: Net(lambda n, x: F.linear(n.a(x).relu(), n.a.weight.T), a=nn.Linear(6, 4)),
        VECTOR,
        {"a": (4, 1, "tied-role"), "a#2": (6, 1, "fixed-size")},
    ),
    "recurrent": (
        lambda: Net(
            lambda n, x: n.b(n.a(x)[0]), a=nn.GRU(6, 4, batch_first=True), b=nn.Linear(4, 2)
        ),
        SEQUENCE,
        {"a": (4, 3, ""), "b": OUT},
    ),
    "reduced, of no elements": (
        lambda: Net(lambda n, x: n.a(x)[:0].sum() + n.b(x), a=nn.Linear(6, 4), b=nn.Linear(6, 2)),
        VECTOR,
        {"a": (4, 1, "reduced"), "b": OUT},  # a sum over no elements is one over neurons, too
    ),
    "weight standardisation": (
        lambda: Net(
            lambda n, x: n.b(F.linear(x, n.a.weight - n.a.weight.mean(1, keepdim=True))),
            a=nn.Linear(6, 4, bias=False),
            b=nn.Linear(4, 2),
        ),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "masked reader": (
        lambda: Net(
            lambda n, x: F.linear(n.a(x), n.b.weight * n.mask.weight),
            a=nn.Linear(6, 4),
            b=nn.Linear(4, 2, bias=False),
            mask=nn.Linear(4, 2, bias=False),
        ),
        VECTOR,
        {"a": FREE, "b": OUT},
    ),
    "table of positions": (
        _with_table,
        VECTOR,
        {"a": FREE, "b": (2, 1, "fixed-size")},
    ),
    "nonlinear reader": (
        lambda: Net(
            lambda n, x: F.linear(n.a(x), n.b.weight.tanh()),
            a=nn.Linear(6, 4),
            b=nn.Linear(4, 2, bias=False),
        ),
        VECTOR,
        {"a": (4, 1, "nonlinear"), "b": OUT},
    ),
}


def found(coupling: Coupling) -> Found:
    return {
        w.name: (w.size, w.granule, w.refusal.code if w.refusal else "") for w in coupling.widths
    }


@pytest.mark.parametrize("name", CASES)
def test_widths(name: str) -> None:
    make, example, expected = CASES[name]
    assert found(couple(make(), (example,))) == expected


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize(
    "name", [name for name, (*_, found) in CASES.items() if any(not c for *_, c in found.values())]
)
def test_the_growable_widths_grow(name: str, how: Any) -> None:
    make, example, expected = CASES[name]
    torch.manual_seed(0)
    model = make().double().eval()
    example = example.double() if example.is_floating_point() else example
    amounts = {width: size // 2 + 1 for width, (size, _, code) in expected.items() if not code}
    wider = widen(model, amounts, (example,), how=how).module
    assert sum(p.numel() for p in wider.parameters()) > sum(p.numel() for p in model.parameters())
    torch.testing.assert_close(wider(example), model(example), rtol=1e-12, atol=1e-12)


def test_an_unknown_operator_is_named_with_its_line() -> None:
    model = linears(lambda h: h.rot90(2))
    refusal = couple(model, (VECTOR,)).by_name["a"].refusal
    assert refusal is not None
    assert "aten.rot90.default" in refusal.reason
    line = test_an_unknown_operator_is_named_with_its_line.__code__.co_firstlineno + 1
    assert refusal.nodes == (f"model: aten.rot90.default (test_rules.py:{line})",)


def test_every_row_is_fired_by_some_case(monkeypatch: pytest.MonkeyPatch) -> None:
    fired: set[int] = set()

    def counted(number: int, rule: table.Rule) -> table.Rule:
        def apply(ctx: Context, args: Sequence[Any], out: Any) -> None:
            fired.add(number)
            rule(ctx, args, out)

        return apply

    rows = [(counted(number, rule), names) for number, (rule, names) in enumerate(table.FAMILIES)]
    monkeypatch.setattr(table, "RULES", table.by_name(rows))
    for make, example, _ in CASES.values():
        couple(make(), (example,))
    silent = [names for number, (_, names) in enumerate(table.FAMILIES) if number not in fired]
    assert silent == []


def test_no_operator_has_two_rows() -> None:
    names = [name for _, names in table.FAMILIES for name in names.split()]
    assert len(names) == len(set(names))


def test_every_operator_of_the_table_exists() -> None:
    assert [name for name in table.RULES if not torch._C._jit_get_schemas_for_operator(name)] == []
