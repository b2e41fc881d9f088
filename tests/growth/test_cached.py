"""Models that keep what they computed of their parameters, and clear it in ``train()``."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.modes import clear_caches


class Cached(nn.Module):
    """Keeps the exponential of a scale for evaluation mode, by device, as LeViT keeps its biases."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)
        self.norm = nn.BatchNorm1d(6)
        self.scale = nn.Parameter(torch.randn(6))
        self.kept: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> "Cached":
        super().train(mode)
        if mode:
            self.kept = {}
        return self

    def forward(self, x: Tensor) -> Tensor:
        key = str(x.device)
        if self.training:
            scale = self.scale.exp()
        else:
            if key not in self.kept:
                self.kept[key] = self.scale.exp()
            scale = self.kept[key]
        return self.last(self.norm(torch.tanh(self.first(x))) * scale)


def warmed() -> tuple[Cached, Tensor]:
    model, x = Cached().double().eval(), torch.randn(4, 5, dtype=torch.double)
    with torch.no_grad():
        model(x)
    assert model.kept
    return model, x


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_model_that_was_run_widens(how: Any, inplace: bool) -> None:
    model, x = warmed()
    expected = model(x)
    wider = fxgrow.widen(model, {"first": 2}, x, how=how, inplace=inplace).module
    torch.testing.assert_close(wider(x), expected, rtol=0, atol=1e-12)
    assert not wider.training and not wider.norm.training


def test_a_model_that_was_run_grows() -> None:
    model, x = warmed()
    batches = [(x, torch.zeros(4, 3, dtype=x.dtype))]
    growth = fxgrow.grow(
        model, batches, F.mse_loss, budget=fxgrow.Budget(neurons=2), accept_no_gain=True
    )
    assert growth.report.widths[0].after == 8
    assert growth.module(x).shape == (4, 3)


def test_every_module_stays_in_its_mode() -> None:
    model, _ = warmed()
    model.last.train()
    clear_caches(model)
    modes = [module.training for module in (model, model.first, model.norm, model.last)]
    assert modes == [False, False, False, True]
    assert not model.kept


def test_a_train_method_that_fails_changes_nothing() -> None:
    class Fails(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 3)
            self.kept = torch.ones(3)

        def train(self, mode: bool = True) -> "Fails":
            raise RuntimeError("not now")

    model = Fails()
    clear_caches(model)
    assert model.training and torch.equal(model.kept, torch.ones(3))
