"""Neurons that are written into constants: a whole one, a part of it, or where they are lost."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fxgrow
from tests.coupling.size_cases import INPUT, sized


def _zeros(h: Tensor) -> Tensor:
    return torch.zeros(h.shape[0], h.shape[1], dtype=h.dtype)


def added(h: Tensor) -> Tensor:
    return _zeros(h).index_add_(0, torch.arange(h.shape[0]), h)


def rows(h: Tensor) -> Tensor:
    out = _zeros(h)
    out[:2] = h[:2]
    return out


def one_after_the_other(h: Tensor) -> Tensor:
    out = torch.empty(h.shape[0], 2, h.shape[1], dtype=h.dtype)
    for number in range(2):
        out[:, number] = h * (number + 1)
    return out.sum(1)


def transposed(h: Tensor) -> Tensor:
    out = torch.zeros(h.shape[1], h.shape[0], dtype=h.dtype)
    out.t()[1:].add_(h[1:])
    return out.t()


def filled_before(h: Tensor) -> Tensor:
    out = h.new_empty(h.shape).fill_(2)
    out[1:] = h[1:]
    return out


GROWS = [added, rows, one_after_the_other, transposed, filled_before]


@pytest.mark.parametrize("between", GROWS)
def test_a_constant_holds_what_is_written_into_it(between: Callable[[Tensor], Tensor]) -> None:
    model = sized(lambda h, _: between(h)).double().eval()
    assert fxgrow.couple(model, INPUT.double()).by_name["a"].growable
    wider = fxgrow.widen(model, {"a": 3}, INPUT.double()).module
    for inputs in (INPUT.double(), INPUT.double()[:5] + 1):
        torch.testing.assert_close(wider(inputs), model(inputs), rtol=1e-12, atol=1e-12)


def into_half(h: Tensor) -> Tensor:
    out = torch.zeros(h.shape[0], 2 * h.shape[1], dtype=h.dtype)
    out[:, : h.shape[1]] = h
    return out[:, : h.shape[1]]


def into_a_flat_one(h: Tensor) -> Tensor:
    out = torch.zeros(h.numel(), dtype=h.dtype).view(h.shape)
    out[1:] = h[1:]
    return out


def shifted(h: Tensor) -> Tensor:
    """Neuron 0 lies in column 6, and so on round the corner."""
    batch, size = h.shape
    out = torch.zeros(batch + 1, size, dtype=h.dtype)
    out.as_strided((batch, size), (size, 1), size // 2).copy_(h)
    return out


@pytest.mark.parametrize("between", [into_half, into_a_flat_one, shifted])
def test_what_is_written_into_a_part_is_lost(between: Callable[[Tensor], Tensor]) -> None:
    width = fxgrow.couple(sized(lambda h, _: between(h)), INPUT).by_name["a"]
    assert width.refusal is not None
    assert width.refusal.code == "written"


def test_a_constant_that_tells_positions_apart() -> None:
    def between(h: Tensor) -> Tensor:
        out = torch.arange(h.shape[1], dtype=h.dtype).repeat(h.shape[0], 1)
        out[1:] = h[1:]
        return out

    assert not fxgrow.couple(sized(lambda h, _: between(h)), INPUT).by_name["a"].growable
