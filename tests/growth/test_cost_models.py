"""Meters against the grown models themselves."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from fxgrow.capture import Captured, capture
from fxgrow.coupling import Coupling, couple
from fxgrow.growth.cost_models import BUDGET_UNITS, CostModel
from fxgrow.growth.widen import widen
from fxgrow.spec import cost
from fxgrow.spec.cost import activation_terms
from tests.networks import NETWORKS, images, network

COUNTED = ("parameters", "multiply_adds", "activation_memory")


@dataclass(frozen=True)
class Priced:
    captured: Captured
    coupling: Coupling
    cost_models: list[CostModel]


@cache
def priced(name: str) -> Priced:
    captured = capture(network(name), (images(),))
    coupling = couple(captured)
    return Priced(
        captured, coupling, [BUDGET_UNITS[unit].factory(captured, coupling) for unit in COUNTED]
    )


def true_costs(model: nn.Module) -> list[int]:
    """Counted on the model, as it is."""
    graph = fx.symbolic_trace(model)
    counted = cost(graph, (images(),))
    return [
        counted.parameters,
        counted.multiply_adds,
        sum(term.value for term in activation_terms(graph, (images(),))),
    ]


@settings(deadline=None, max_examples=15)
@given(name=st.sampled_from(sorted(NETWORKS)), data=st.data())
def test_any_number_of_neurons_in_all_widths_at_once(name: str, data: Any) -> None:
    found = priced(name)
    numbers = [n for n, width in enumerate(found.coupling.widths) if width.growable]
    counts = {n: data.draw(st.integers(0, 5), label=found.coupling.widths[n].name) for n in numbers}
    counts[numbers[0]] += 1
    names = {found.coupling.widths[n].name: k for n, k in counts.items()}
    before, after = (
        true_costs(found.captured.model),
        true_costs(widen(found.captured, names).module),
    )
    assert [cost_model.current for cost_model in found.cost_models] == before
    assert [cost_model.estimate(counts) for cost_model in found.cost_models] == [
        b - a for a, b in zip(before, after, strict=True)
    ]
    assert [cost_model.measure(counts) for cost_model in found.cost_models] == [
        cost_model.estimate(counts) for cost_model in found.cost_models
    ]


def test_neurons_are_those_that_can_grow() -> None:
    found = priced("block")
    cost_model = BUDGET_UNITS["neurons"].factory(found.captured, found.coupling)
    assert cost_model.current == 6
    assert cost_model.estimate({0: 2, 3: 4}) == 6


def test_the_model_is_left_as_it_was() -> None:
    captured = capture(network("grouped"), (images(),))
    before = {name: tensor.clone() for name, tensor in captured.model.state_dict().items()}
    for cost_model in [unit.factory for unit in BUDGET_UNITS.values()]:
        cost_model(captured, couple(captured))
    torch.testing.assert_close(captured.model.state_dict(), before, rtol=0, atol=0)
    assert [m.groups for m in captured.model.modules() if isinstance(m, nn.Conv2d)] == [1, 2, 1]


@pytest.mark.parametrize(
    ("unit", "more"), [("parameters", True), ("multiply_adds", True), ("activation_memory", False)]
)
def test_both_ends_of_a_layer_together(unit: str, more: bool) -> None:
    cost_model = priced("chain").cost_models[COUNTED.index(unit)]
    together, apart = (
        cost_model.estimate({0: 3, 1: 3}),
        cost_model.estimate({0: 3}) + cost_model.estimate({1: 3}),
    )
    assert together > apart if more else together == apart
