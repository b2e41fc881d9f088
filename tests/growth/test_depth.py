"""Depth and width in one step, as a user asks for them."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly
from tests.networks import NETWORKS, images, network

LABELS = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0])


def deeper(module: nn.Module, **options: Any) -> fxgrow.Growth:
    method = Firefly(
        **({"split": False, "new": 0, "layers": 3, "steps": 4} | options.pop("settings", {}))
    )
    settings = {"method": method, "budget": Budget(neurons=4)} | options
    return fxgrow.grow(
        module, [(images(8), LABELS)], F.cross_entropy, example_inputs=(images(),), **settings
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_promises(name: str) -> None:
    module = network(name)
    before = copy.deepcopy(module.state_dict())
    growth = deeper(module)
    report = growth.report
    assert report.loss_after < report.loss_before
    assert report.faithful_error < 1e-12 and report.preservation_error < 1e-12
    assert sum(layer.neurons for layer in report.layers) == 4
    assert not report.widths
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)


def test_both_at_once() -> None:
    growth = deeper(
        network("residual"), settings={"split": True, "new": 2}, budget=Budget(neurons=0.9)
    )
    assert growth.report.layers and growth.report.widths
    assert growth.report.faithful_error < 1e-12
    assert {layer.name for layer in growth.spec.history[0].layers} == {
        layer.name for layer in growth.report.layers
    }


STACKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)), (8, 5)),
    "gelu": (
        lambda: nn.Sequential(
            nn.Linear(5, 3), nn.GELU(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)
        ),
        (8, 5),
    ),
    "tokens": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.SiLU(), nn.Linear(4, 1), nn.Flatten()),
        (8, 2, 5),
    ),
}


@pytest.mark.filterwarnings("ignore:the candidates ran out:UserWarning")  # few, to be fast
@pytest.mark.parametrize("settings", [{}, {"norm": True}, {"split": True, "constraint": "penalty"}])
@pytest.mark.parametrize("name", STACKS)
def test_a_linear_stack_grows_deeper_and_wider_at_once(name: str, settings: dict[str, Any]) -> None:
    """New neurons beside a candidate layer have no entries at its blank neurons, which are dropped."""
    make, shape = STACKS[name]
    torch.manual_seed(0)
    inputs = torch.randn(shape, dtype=torch.float64)
    method = Firefly(**({"split": False, "new": 2, "layers": 2, "steps": 3} | settings))
    growth = fxgrow.grow(
        make().double(),
        [(inputs, LABELS)],
        F.cross_entropy,
        example_inputs=inputs,
        method=method,
        budget=Budget(neurons=8),
    )
    assert growth.report.layers and growth.report.widths
    assert growth.report.stale_loss is None  # the norms of candidate layers are not the model's
    assert growth.report.faithful_error < 1e-12 and growth.report.preservation_error < 1e-12


def test_a_grown_layer_grows_deeper_and_wider_again() -> None:
    settings = {"split": True, "new": 2, "steps": 2, "refine_steps": 0, "layers": 2}
    budget = Budget(neurons=0.5, layers=1)
    first = deeper(network("chain"), settings=settings, budget=budget)
    second = deeper(
        first.module, settings=settings, budget=budget, seed=3, history=first.spec.history
    )
    assert second.report.layers and second.report.widths
    assert second.report.faithful_error < 1e-12


@pytest.mark.parametrize("most", [1, 2])
def test_a_budget_of_layers(most: int) -> None:
    growth = deeper(
        network("residual"), budget=Budget(neurons=6, layers=most), settings={"layers": 4}
    )
    assert len(growth.report.layers) == most
    named = [
        name
        for name, _ in growth.module.named_modules()
        if name.count(".") == 1 and "grown_layers" in name
    ]
    assert len(named) == most


def test_without_layers_in_the_budget_the_graph_is_as_it_was() -> None:
    growth = deeper(network("residual"), settings={"new": 2}, budget=Budget(neurons=2, layers=0))
    assert not growth.report.layers
    assert not any("grown_layers" in name for name, _ in growth.module.named_modules())


def test_no_blank_neuron_is_left() -> None:
    growth = deeper(network("chain"))
    for layer in growth.report.layers:
        incoming = growth.module.get_submodule(f"{layer.name}.incoming")
        assert incoming.weight.shape[0] == layer.neurons  # type: ignore[union-attr,index]
        assert bool((incoming.weight != 0).any(dim=1).all())  # type: ignore[union-attr]


def test_the_new_layers_learn() -> None:
    module = network("chain").train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    growth = deeper(module, optimizer=optimizer)
    assert growth.module.training and growth.optimizer is not None
    assert all(part.training for part in growth.module.modules())
    owned = {id(p) for group in growth.optimizer.param_groups for p in group["params"]}
    assert owned == {id(p) for p in growth.module.parameters()}
    before = copy.deepcopy(growth.module.state_dict())
    F.cross_entropy(growth.module(images(8)), LABELS).backward()
    growth.optimizer.step()
    name = f"{growth.report.layers[0].name}.outgoing.weight"
    assert not torch.equal(before[name], growth.module.state_dict()[name])


def test_it_grows_deeper_again_and_is_saved(tmp_path: Any) -> None:
    first = deeper(network("chain"))
    second = deeper(first.module, history=first.spec.history)
    assert {layer.name for layer in first.report.layers}.isdisjoint(
        layer.name for layer in second.report.layers
    )
    second.module.eval()
    fxgrow.save(second, tmp_path / "grown")
    loaded = fxgrow.load(tmp_path / "grown").eval()
    assert torch.equal(loaded(images()), second.module(images()))
