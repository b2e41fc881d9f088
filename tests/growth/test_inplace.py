"""Growth of the caller's own model, all or nothing, and of models that can have no specification."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly
from fxgrow.errors import GrowthError, SpecError
from tests.networks import images, network

LABELS = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0])
SETTINGS: dict[str, Any] = {"method": Firefly(new=2, steps=3), "budget": Budget(neurons=3)}


def test_the_model_and_its_optimiser_themselves_grow() -> None:
    module = network("chain").train()
    optimizer = torch.optim.Adam(module.parameters())
    F.cross_entropy(module(images(8)), LABELS).backward()
    optimizer.step()
    parameters = list(module.parameters())
    before = sum(p.numel() for p in parameters)
    batch = [(images(8), LABELS)]
    growth = fxgrow.grow(
        module,
        batch,
        F.cross_entropy,
        example_inputs=images(),
        optimizer=optimizer,
        inplace=True,
        **SETTINGS,
    )
    assert growth.module is module and growth.optimizer is optimizer and module.training
    assert [id(p) for p in module.parameters()] == [id(p) for p in parameters]
    assert sum(p.numel() for p in parameters) > before
    assert all(optimizer.state[p]["exp_avg"].shape == p.shape for p in parameters)


def test_a_failure_leaves_the_model_as_it_was() -> None:
    """The last loss is that of the emitted model: when it is no number, everything has grown already."""
    module = network("chain")
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    before, state = copy.deepcopy(module.state_dict()), copy.deepcopy(optimizer.state_dict())
    calls: list[int] = []

    def grow(last: float, inplace: bool) -> None:
        def loss(output: Tensor, target: Tensor) -> Tensor:
            calls.append(1)
            return F.cross_entropy(output, target) * (float("nan") if len(calls) == last else 1)

        batch = [(images(8), LABELS)]
        fxgrow.grow(
            module,
            batch,
            loss,
            example_inputs=images(),
            optimizer=optimizer,
            inplace=inplace,
            **SETTINGS,
        )

    grow(float("inf"), inplace=False)
    total = len(calls)
    calls.clear()
    with pytest.raises(GrowthError, match="loss"):
        grow(total, inplace=True)
    assert len(calls) == total
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    assert optimizer.state_dict() == state
    assert all(p.requires_grad for p in module.parameters())


class Squared(nn.Module):
    """Calls a function that a specification may not call."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = squared(self.a(x))
        return self.b(hidden)  # type: ignore[no-any-return]


def squared(x: Tensor) -> Tensor:
    """Something that fx is told to leave alone."""
    return x.square()


torch.fx.wrap("squared")


def test_a_model_without_a_specification_grows() -> None:
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    growth = fxgrow.grow(
        Squared(), [(x, LABELS)], F.cross_entropy, example_inputs={"x": x}, **SETTINGS
    )
    assert growth.report.params_after > growth.report.params_before
    with pytest.raises(SpecError, match="squared") as caught:
        fxgrow.save(growth, "nowhere")
    assert caught.value.code == growth.described.code  # type: ignore[union-attr]
