"""Neurons that begin at a parameter, and that no layer writes: centers, prototypes, frequencies."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.errors import GrowthError
from fxgrow.methods import GradientPool


class RadialBasis(nn.Module):
    """Gaussians around centers, each with a length of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(6, 3))
        self.log_length = nn.Parameter(0.1 * torch.randn(6))
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        distance = (x[:, None] - self.centers).square().sum(-1)
        y: Tensor = self.out(torch.exp(-distance * self.log_length.exp()))
        return y


class Prototypes(nn.Module):
    """Distances of features from prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(3, 5)
        self.prototypes = nn.Parameter(torch.randn(6, 5))
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(-torch.cdist(self.features(x), self.prototypes))
        return y


class Waves(nn.Module):
    """Sines of one number, with learned frequencies and phases, and a norm behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.frequency, self.phase = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(6))
        self.norm, self.out = nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.norm(torch.sin(x[:, :1] * self.frequency + self.phase)))
        return y


CASES = [(RadialBasis, "centers"), (Prototypes, "prototypes"), (Waves, "frequency")]


def made(network: type[nn.Module]) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return network().double().eval(), torch.randn(32, 3).double()


@pytest.mark.parametrize("how", ["new", "split"])
@pytest.mark.parametrize(("network", "name"), CASES)
def test_widening_keeps_the_function(network: type[nn.Module], name: str, how: str) -> None:
    model, x = made(network)
    wider = fxgrow.widen(model, {name: 3}, x, how).module
    assert wider.get_parameter(name).shape[0] == wider.out.in_features == 9
    assert torch.allclose(wider(x), model(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("network", "name"), CASES)
def test_new_neurons_differ_from_each_other(network: type[nn.Module], name: str) -> None:
    """By neutral values they would be twins that never part."""
    model, x = made(network)
    new = fxgrow.widen(model, {name: 3}, x, "new").module.get_parameter(name)[6:]
    assert torch.pdist(new.reshape(3, -1)).min() > 1e-3


def test_a_norm_behind_them_starts_new_ones_as_it_does() -> None:
    model, x = made(Waves)
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2)
    wider = fxgrow.widen(model, {"frequency": 3}, x, "new").module
    assert wider.norm.weight[6:].tolist() == [1.0] * 3


METHODS = [fxgrow.Firefly(split=False, new=4), fxgrow.Firefly(new=4), GradientPool()]


@pytest.mark.parametrize("method", METHODS, ids=["new", "split and new", "pool"])
@pytest.mark.parametrize(("network", "name"), CASES)
def test_they_grow_by_search(
    network: type[nn.Module], name: str, method: fxgrow.Method, tmp_path: Path
) -> None:
    model, x = made(network)
    batches = [(part, part[:, :2].sin()) for part in torch.randn(6, 32, 3).double()]
    budget = fxgrow.Budget(neurons=2)
    growth = fxgrow.grow(
        model, batches, F.mse_loss, method=method, budget=budget, accept_no_gain=True
    )
    grown = {change.width: change.after for change in growth.report.widths}
    assert grown == {name: 8}
    fxgrow.save(growth, tmp_path / "grown")
    assert torch.equal(fxgrow.load(tmp_path / "grown")(x), growth.module(x))


def test_splits_alone_have_no_rule() -> None:
    model, x = made(RadialBasis)
    batches, only_splits = [(x, x[:, :2])] * 6, fxgrow.Firefly(new=0)
    with pytest.raises(GrowthError, match="take new neurons but no splits") as caught:
        fxgrow.grow(model, batches, F.mse_loss, method=only_splits)
    assert caught.value.code == "no-candidates"
