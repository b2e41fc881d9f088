"""What cannot be counted does not stop a growth, unless the budget is in that unit."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow.growth import StepOptions, grow_step
from fxgrow.report import growth_lines

X, Y = torch.randn(4, 5), torch.tensor([0, 1, 2, 0])


class Uncountable(nn.Module):
    """Its forward pass refuses to run where somebody watches."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)
        self.shy = Shy()

    def forward(self, x: Tensor) -> Tensor:
        return self.shy(self.b(torch.relu(self.a(x))))


class Shy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        watchers = torch.overrides._get_current_function_mode_stack()
        if any(type(one).__name__ == "_FastMetaKernels" for one in watchers):
            raise RuntimeError("not while somebody counts")
        return x


def test_the_growth_goes_on_and_says_why_costs_are_unknown(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.fx.Tracer, "is_leaf_module", _shy_is_a_leaf)
    growth = fxgrow.grow(Uncountable(), [(X, Y)], F.cross_entropy)
    report = growth.report
    assert report.widths and report.multiply_adds_after is None and report.peak_memory is None
    assert report.costs_unknown.startswith("costs are unknown: ")
    assert "not while somebody counts" in report.costs_unknown
    assert any("costs are unknown" in line.plain for line in growth_lines(report))


@pytest.mark.parametrize("unit", ["multiply_adds", "activation_memory"])
def test_a_budget_in_an_unknown_unit_is_refused_before_work(unit: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.fx.Tracer, "is_leaf_module", _shy_is_a_leaf)
    calls = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        return F.cross_entropy(output, target)

    with pytest.raises(fxgrow.BudgetError, match="another unit") as error:
        fxgrow.grow(Uncountable(), [(X, Y)], loss, budget=fxgrow.Budget(**{unit: 0.3}))
    # The one call asks whether the loss has a gradient at all.
    assert error.value.code == "not-countable" and calls == [1]


def _shy_is_a_leaf(_: Any, module: nn.Module, __: str) -> bool:
    return isinstance(module, Shy) or type(module).__module__.startswith("torch.nn")


def test_without_a_description_nothing_is_counted(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.fx.Tracer, "is_leaf_module", _shy_is_a_leaf)
    growth = grow_step(
        Uncountable(),
        [(X, Y)],
        F.cross_entropy,
        method=fxgrow.Firefly(),
        budget=fxgrow.Budget(neurons=2),
        options=StepOptions(describe=False),
    )
    assert growth.report.multiply_adds_before is None and growth.report.params_after > 0
    assert "not asked for" in growth.report.costs_unknown
