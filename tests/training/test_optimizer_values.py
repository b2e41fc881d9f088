"""What a checkpoint says of an optimizer is checked before a step meets it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.documents import decode_tree, encode_tree
from fxgrow.errors import FxgrowError
from fxgrow.training.optimizer_values import load_optimizer_values, optimizer_values

X = torch.randn(4, 3)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))


def trained(kind: type[Any]) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network that has grown, whose new entries count their own steps."""
    model = network()
    optimizer = kind(model.parameters(), lr=0.1)
    step(model, optimizer)
    grown = fxgrow.widen(
        model, {"0": 1}, (X,), how="new", optimizer=optimizer, state="own-age",
        new_entry_rate=fxgrow.NewEntryRate(),
    )  # fmt: skip
    assert grown.optimizer is not None
    step(grown.module, grown.optimizer)
    return grown.module, grown.optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(X).square().mean().backward()
    optimizer.step()


def sgd(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def adamw(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr)


def loaded(kind: Any, change: Callable[[dict[str, Any]], object]) -> tuple[Any, Any]:
    """Another optimizer that goes on from values which went through a file, and its network."""
    model, optimizer = trained(kind)
    tensors: dict[str, Any] = {}
    named = dict(model.named_parameters())
    tree = encode_tree(optimizer_values(optimizer, named), tensors, "value")
    values = decode_tree(tree, tensors)
    change(values)
    fresh = kind(model.parameters(), lr=0.1)
    load_optimizer_values(fresh, values, named)
    return model, fresh


@pytest.mark.parametrize("kind", [sgd, adamw])
def test_what_was_kept_is_taken(kind: Any) -> None:
    step(*loaded(kind, lambda values: values["groups"][0].update(lr=0.05)))


def option(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda kept: kept["groups"][0].update(values)


def momentum(value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda kept: kept["state"]["0.weight"].update(momentum_buffer=value)


def cohort(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda kept: kept["groups"][0]["grown_entries"][0][0].update(values)


LONG = torch.long
WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "a rate that is a text": option(lr="x"),
    "a rate that is a switch": option(lr=True),
    "a rate beyond floats": option(lr=1e300),
    "a rate that is no number": option(lr=float("nan")),
    "a rate below zero": option(lr=-0.1),
    "no momentum": option(momentum=None),
    "another momentum": option(momentum=0.5),
    "a whole number of it": option(momentum=1),
    "an option of another class": option(capturable=True),
    "no parameters": option(params=[]),
    "a parameter twice": option(params=["0.weight"] * 4),
    "a parameter of another model": option(params=["x", "0.bias", "2.weight", "2.bias"]),
    "parameters that are none": option(params=[7, 8, 9, 10]),
    "no groups": lambda kept: kept.update(groups=[]),
    "a group too many": lambda kept: kept["groups"].append(kept["groups"][0]),
    "a text as the momentum": momentum("x"),
    "a number as the momentum": momentum(1.0),
    "whole numbers as the momentum": momentum(torch.zeros(5, 3, dtype=torch.int8)),
    "another shape": momentum(torch.zeros(2)),
    "places outside": cohort(index=torch.tensor([999])),
    "places below": cohort(index=torch.tensor([-1])),
    "places that are no numbers": cohort(index="x"),
    "broken places": cohort(index=torch.tensor([0.5])),
    "an age in words": cohort(age="old"),
    "an age of several": cohort(age=torch.zeros(3)),
    "own steps in words": cohort(own="x"),
    "own steps without counts": cohort(own={"started": True, "scalars": 3}),
    "own steps that may have begun": cohort(own={"started": 1, "scalars": {}}),
    "a rate of another kind": cohort(rate={"multiplier": -1}),
    "a rate with more settings": cohort(rate={"x": 1}),
    "a rate in words": cohort(rate=[1]),
    "a cohort with more": cohort(x=1),
    "cohorts in words": lambda kept: kept["groups"][0].update(grown_entries="x"),
    "cohorts of no parameter": lambda kept: kept["groups"][0].update(grown_entries={99: []}),
    "cohorts that are no list": lambda kept: kept["groups"][0].update(grown_entries={0: 1}),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_what_no_run_has_kept(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises((FxgrowError, ValueError, TypeError)):
        loaded(sgd, change)
