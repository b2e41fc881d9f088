"""Functions in TorchScript: their operators are followed, and what their code does with sizes is seen."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fxgrow
from tests.coupling.models import VECTOR, linears


def swish(h: Tensor) -> Tensor:
    return h * torch.sigmoid(h)


def branch(h: Tensor) -> Tensor:
    if h.shape[1] > 5:
        return 2 * h
    return h


def over_its_size(h: Tensor) -> Tensor:
    return h / h.size(1)


def scripted(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch recommends torch.compile
        return torch.jit.script(function)


@pytest.mark.parametrize("how", ["split", "new"])
def test_a_function_in_torchscript_is_followed(how: str) -> None:
    model = linears(scripted(swish)).double()
    x = VECTOR.double()
    assert fxgrow.couple(model, x).by_name["a"].growable
    wider = fxgrow.widen(model, {"a": 3}, x, how=how).module
    torch.testing.assert_close(wider(x), model(x), rtol=1e-12, atol=1e-12)


def test_it_grows() -> None:
    model, x = linears(scripted(swish)).double(), VECTOR.double()
    batches = [(x, torch.zeros(len(x), 2, dtype=x.dtype))]
    growth = fxgrow.grow(
        model, batches, F.mse_loss, budget=fxgrow.Budget(neurons=2), accept_no_gain=True
    )
    assert growth.report.widths[0].after == 6


@pytest.mark.parametrize("function", [branch, over_its_size])
def test_its_sizes_are_seen(function: Callable[[Tensor], Tensor]) -> None:
    refusal = fxgrow.couple(linears(scripted(function)), VECTOR).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code in ("size-value", "size-branch")
