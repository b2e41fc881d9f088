"""The leaves of outputs: what a model gives its caller, in whatever it wraps it."""

import contextlib
import dataclasses
import functools
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fxgrow import couple, widen
from fxgrow.capture import output_leaves
from fxgrow.capture.outputs import MAX_ITEMS
from fxgrow.errors import ModelError

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


class Entries(Mapping[str, Any]):
    """A mapping that looks its values up in a function."""

    def __init__(self, logits: Any, hidden: Any) -> None:
        self.entry = {"logits": logits, "hidden": hidden}.__getitem__

    def __getitem__(self, key: str) -> Any:
        return self.entry(key)

    def __iter__(self) -> Iterator[str]:
        return iter(("logits", "hidden"))

    def __len__(self) -> int:
        return 2


class Private:
    """Gives its hidden values by a property."""

    def __init__(self, logits: Any, hidden: Any) -> None:
        self.logits = logits
        self._get: Callable[[], Any] = lambda: hidden

    @property
    def hidden(self) -> Any:
        return self._get()


class LongList(list[Any]):
    """A list with an attribute."""

    hidden: Any


def generated(logits: Any, hidden: Any) -> Iterator[Any]:
    yield logits
    yield hidden


def with_attribute(logits: Any, hidden: Any) -> Any:
    result = LongList([logits])
    result.hidden = hidden
    return result


def tensor_with_attribute(logits: Any, hidden: Any) -> Any:
    logits.hidden = hidden
    return logits


def module_made_in_forward(logits: Any, hidden: Any) -> Any:
    result = nn.Module()
    result.logits = logits
    result.register_buffer("hidden", hidden)
    return result


def class_made_in_forward(logits: Any, hidden: Any) -> Any:
    return type("<locals>.Result", (), {"logits": logits, "hidden": hidden})


def weak(logits: Any, hidden: Any) -> Any:
    logits.keeps = hidden  # so that it lives
    return logits, weakref.ref(hidden)


def cached(logits: Any, hidden: Any) -> Any:
    return logits, functools.lru_cache(lambda: hidden)


@contextlib.contextmanager
def manager(hidden: Any) -> Iterator[Any]:
    yield hidden


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
    "generator": generated,
    "iterator": lambda a, b: iter([a, b]),
    "map": lambda a, b: (a, map(torch.abs, [b])),
    "values of a dict": lambda a, b: {"logits": a, "hidden": b}.values(),
    "tensors as keys": lambda a, b: {a: 0, b: 1},
    "mapping": Entries,
    "mapping proxy": lambda a, b: types.MappingProxyType({"logits": a, "hidden": b}),
    "property": Private,
    "attribute of a list": with_attribute,
    "attribute of a tensor": tensor_with_attribute,
    "closure": lambda a, b: (a, lambda: b),
    "default of a lambda": lambda a, b: (a, lambda hidden=b: hidden),
    "partial": lambda a, b: (a, functools.partial(torch.add, b)),
    "cached function": cached,
    "method of a tensor": lambda a, b: (a, b.sum),
    "method of an object": lambda a, b: (a, Entries(a, b).keys),
    "weak reference": weak,
    "exception": lambda a, b: (a, ValueError(b)),
    "context manager": lambda a, b: (a, manager(b)),
    "module": module_made_in_forward,
    "class": class_made_in_forward,
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
    assert name == "map" or id(a) in found
    assert name in ("distribution", "map") or id(b) in found


def test_objects_without_tensors_are_leaves_themselves() -> None:
    leaf = Plain(1, "two")
    assert output_leaves([leaf, 3]) == [leaf, 3]


class Later(Model):
    """Gives what ``make`` makes of a function that computes the logits when it is asked."""

    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.a(x))
        return self.make(lambda: self.b(hidden))


def logits_of(output: Any) -> Tensor:
    (logits,) = output
    assert isinstance(logits, Tensor)
    return logits


def test_what_an_iterator_computes_is_an_output_and_grows_inside() -> None:
    model = Later(lambda compute: (compute() for _ in range(1))).double()
    x = X.double()
    wider = widen(model, {"a": 2}, (x,), how="split").module
    assert wider.get_submodule("a").out_features == 8
    difference = logits_of(wider(x)) - logits_of(model(x))
    assert difference.abs().max() < 1e-12


def test_an_iterator_without_an_end_is_refused() -> None:
    def forever(compute: Any) -> Any:
        logits = compute()
        while True:
            yield logits

    with pytest.raises(ModelError, match=f"more than {MAX_ITEMS} values"):
        couple(Later(forever), X)


def test_a_method_of_the_model_does_not_give_its_parameters_out() -> None:
    model = Model(None)
    model.make = lambda logits, hidden: (logits, model.extra_repr)
    assert couple(model, X).by_name["a"].growable


def test_a_model_that_gives_itself_gives_what_it_keeps() -> None:
    class Keeps(Model):
        def forward(self, x: Tensor) -> Any:
            self.hidden = torch.tanh(self.a(x))
            self.logits = self.b(self.hidden)
            return self

    refusal = couple(Keeps(None), X).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "output"


@pytest.mark.parametrize("of", [lambda h: h.shape[-1], lambda h: h.shape, lambda h: h.numel() // 8])
def test_a_size_that_is_given_out_does_not_grow(of: Any) -> None:
    refusal = couple(Model(lambda logits, hidden: (logits, of(hidden))), X).by_name["a"].refusal
    assert refusal is not None
    assert (refusal.code, refusal.reason) == ("output", "its size is part of the model's output")
