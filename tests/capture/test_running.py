"""The leaves of outputs: what a model gives its caller, in whatever it wraps it."""

import dataclasses
import types
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fxgrow import couple
from fxgrow.capture import output_leaves

X = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))


@dataclasses.dataclass
class Record:
    logits: Any
    hidden: Any


class Named(NamedTuple):
    logits: Any
    hidden: Any


class Plain:
    def __init__(self, logits: Any, hidden: Any) -> None:
        self.logits, self.hidden = logits, hidden


class Slotted:
    __slots__ = ("hidden", "logits")

    def __init__(self, logits: Any, hidden: Any) -> None:
        self.logits, self.hidden = logits, hidden


class Circular(Plain):
    def __init__(self, logits: Any, hidden: Any) -> None:
        super().__init__(logits, hidden)
        self.me = self


def nested(logits: Any, hidden: Any) -> Any:
    """An object in a list in a dict in an object."""
    return Plain({"first": [Record(logits, None)]}, (Plain(None, {"h": [Slotted(1, hidden)]}),))


MAKERS: dict[str, Any] = {
    "tuple": lambda a, b: (a, b),
    "dict": lambda a, b: {"logits": a, "hidden": b},
    "dataclass": Record,
    "named tuple": Named,
    "plain object": Plain,
    "slots": Slotted,
    "namespace": lambda a, b: types.SimpleNamespace(logits=a, hidden=b),
    "circular": Circular,
    "nested": nested,
    "distribution": lambda a, b: (a, torch.distributions.Normal(b, torch.ones_like(b), False)),
}


class Model(nn.Module):
    """Gives its logits and its hidden values in something that ``make`` makes."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.a, self.b, self.make = nn.Linear(5, 6), nn.Linear(6, 3), make

    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.a(x))
        return self.make(self.b(hidden), hidden)


@pytest.mark.parametrize("name", MAKERS)
def test_what_a_model_gives_out_does_not_grow(name: str) -> None:
    widths = couple(Model(MAKERS[name]), X).by_name
    for width in "ab":
        refusal = widths[width].refusal
        assert refusal is not None
        assert refusal.code == "output"


@pytest.mark.parametrize("name", MAKERS)
def test_all_tensors_are_leaves(name: str) -> None:
    a, b = torch.zeros(1), torch.ones(1)
    found = [id(leaf) for leaf in output_leaves(MAKERS[name](a, b)) if isinstance(leaf, Tensor)]
    assert id(a) in found
    assert name == "distribution" or id(b) in found


def test_objects_without_tensors_are_leaves_themselves() -> None:
    leaf = Plain(1, "two")
    assert output_leaves([leaf, 3]) == [leaf, 3]
