"""Masks, tables and zeros beside neurons: they stand in nobody's way, and tie what shares them."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow import couple, widen
from tests.coupling.models import SEQUENCE

BIAS_OF: dict[str, Callable[[Tensor], Tensor]] = {
    "itself": lambda zeros: zeros,
    "masked": lambda zeros: torch.where(torch.ones(5, 5).tril().bool(), zeros, -1e4),
    "copied and added": lambda zeros: zeros.clone() + torch.ones(5, 5).tril(),
}


class Heads(nn.Module):
    """Heads of size 3 over a sequence of 6 features; ``bias`` makes what is added to the scores."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, 3 * heads) for _ in range(3))
        self.out, self.heads = nn.Linear(3 * heads, 6), heads

    def forward(self, x: Tensor, bias: Callable[[Tensor], Tensor]) -> Tensor:
        q, k, v = (
            layer(x).view(*x.shape[:2], -1, 3).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        scores = bias(q @ k.transpose(-1, -2))
        out: Tensor = self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return out


class Windows(nn.Module):
    """Attention in windows of 5 tokens, each of which has a mask of its own (Swin's)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.last = Heads(), nn.Linear(6, 2)
        generator = torch.Generator().manual_seed(5)
        self.register_buffer("mask", torch.randn(3, 5, 5, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        def masked(scores: Tensor) -> Tensor:
            windows = scores.view(-1, 3, *scores.shape[1:]) + self.mask[:, None]
            return windows.view(-1, *scores.shape[1:])

        out: Tensor = self.last(self.attention(x.reshape(-1, 5, 6), masked))
        return out


class SharedZeros(nn.Module):
    """Two blocks of attention that add one and the same bias of zeros (T5's over an encoder)."""

    def __init__(self, of_zeros: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.last = Heads(), Heads(), nn.Linear(6, 2)
        self.of_zeros = of_zeros

    def forward(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(1, self.first.heads, 5, 5, dtype=x.dtype)
        for block in (self.first, self.second):
            x = x + block(x, lambda scores: scores + self.of_zeros(zeros))
        out: Tensor = self.last(x)
        return out


@torch.no_grad()
def drift(model: nn.Module, x: Tensor, amounts: dict[str, int], how: Any) -> float:
    """How far the outputs of both modes move when widths grow."""
    model.double()
    wider = widen(model, amounts, (x,), how=how).module
    errors = []
    for training in (False, True):
        before, after = copy.deepcopy(model).train(training)(x), wider.train(training)(x)
        errors.append(float((before - after).abs().max()))
    return max(errors)


@pytest.mark.parametrize("how", ["split", "new"])
def test_a_mask_for_each_window_stands_in_no_heads_way(how: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 15, 6, dtype=torch.float64)
    model = Windows().double()
    width = couple(model, (x,)).by_name["attention.q"]
    assert (width.size, width.growable) == (2, True)
    assert drift(model, x, {"attention.q": 3}, how) < 1e-12


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("name", BIAS_OF)
def test_blocks_that_add_one_bias_of_zeros_grow_together(name: str, how: Any) -> None:
    torch.manual_seed(0)
    x = SEQUENCE.double()
    model = SharedZeros(BIAS_OF[name]).double()
    width = couple(model, (x,)).by_name["first.q"]
    assert (width.size, width.growable) == (2, True)
    assert {"first.q.weight", "second.q.weight"} <= {site.parameter for site in width.sites}
    assert drift(model, x, {"first.q": 3}, how) < 1e-12


def test_blocks_with_zeros_of_their_own_grow_apart() -> None:
    class OwnZeros(SharedZeros):
        def forward(self, x: Tensor) -> Tensor:
            for block in (self.first, self.second):
                zeros = torch.zeros(1, block.heads, 5, 5)
                x = x + block(x, lambda scores, zeros=zeros: scores + zeros)
            out: Tensor = self.last(x)
            return out

    coupling = couple(OwnZeros(BIAS_OF["itself"]), (SEQUENCE,))
    assert coupling.by_name["first.q"].growable
    assert coupling.by_name["second.q"].growable


def test_a_buffer_alone_is_refused_as_before() -> None:
    """Neither of two constants grows where they are merged, and the model couples."""

    class Tables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(6, 2)
            self.register_buffer("rows", torch.randn(2, 1))
            self.register_buffer("columns", torch.randn(3))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(x * (self.rows * self.columns).reshape(6))
            return out

    coupling = couple(Tables(), (torch.zeros(4, 6),))
    assert not any(width.growable for width in coupling.widths)
