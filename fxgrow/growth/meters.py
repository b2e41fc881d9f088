"""What neurons cost: one meter per unit of a budget.

Neurons, parameters, multiply-adds and activation memory are exact for any number of neurons in all widths at once, both
ends of a layer included. Each is a sum of formulas over sizes of tensors (``spec.cost``), and a size n_s is linear in
the neurons k_w that are added to width w:

    cost(k) = sum_t f_t(n_s + sum_w m_sw k_w for the sizes s of t)

m_sw is read off one run on the meta device with one neuron more in w. Latency is measured (``growth.latency``).
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from fxgrow.capture import Captured
from fxgrow.coupling import Coupling, change_maps
from fxgrow.growth.latency import measure_widths
from fxgrow.spec.cost import Term, activation_terms, multiply_add_terms, parameter_terms
from fxgrow.surgery.attributes import refresh
from fxgrow.surgery.index_map import Change
from fxgrow.surgery.resize import Maps, resize, tensors

Counts = Mapping[int, int]
"""Neurons to add, per number of a width."""

Sizes = npt.NDArray[np.int64]

Terms = Callable[[nn.Module, Sequence[Any]], tuple[Term, ...]]


class Meter(Protocol):
    """The cost of a model in one unit. ``added`` must not fall when any count rises."""

    @property
    def present(self) -> float:
        """What the model as it is costs."""
        ...

    def added(self, counts: Counts) -> float:
        """What these neurons add, cheap to ask."""
        ...

    def measured(self, counts: Counts) -> float:
        """The same as it turns out to be on the grown model; asked once per choice."""
        ...


@dataclass(frozen=True)
class Neurons:
    """Neurons; present are those of the growable widths."""

    present: float

    def added(self, counts: Counts) -> float:
        """Their number."""
        return sum(counts.values())

    measured = added


@dataclass(frozen=True)
class Shapes:
    """A sum of terms. ``slopes[width]`` is what one neuron adds to each of ``sizes``, those of all terms in a row."""

    terms: tuple[Term, ...]
    sizes: Sizes
    slopes: Mapping[int, Sizes]
    present: float

    def total(self, counts: Counts) -> int:
        """The terms that growth touches, with these neurons added."""
        sizes = sum((self.slopes[width] * count for width, count in counts.items()), start=self.sizes).tolist()
        ends = np.cumsum([0, *(len(term.sizes) for term in self.terms)]).tolist()
        return sum(term.formula(sizes[a:b]) for term, (a, b) in zip(self.terms, pairwise(ends), strict=True))

    def added(self, counts: Counts) -> float:
        """Exact."""
        return self.total(counts) - self.total({})

    measured = added


def neurons(_: Captured, coupling: Coupling) -> Meter:
    """How many there are."""
    return Neurons(sum(width.size for width in coupling.widths if width.growable))


def shapes(terms: Terms) -> "Metering":
    """A meter of these terms, by one run on the meta device for the model and one for each of its growable widths."""

    def meter(captured: Captured, coupling: Coupling) -> Meter:
        bare = _bare(captured.graph_module)
        base = terms(bare, captured.example_inputs)
        slopes = {}
        for number, width in enumerate(coupling.widths):
            if width.growable:
                one = Change((1,) * width.size, fresh=1)
                with _resized(bare, change_maps(coupling, {number: one})):
                    slopes[number] = _sizes(terms(bare, captured.example_inputs)) - _sizes(base)
        return _moving(base, slopes)

    return meter


def _moving(terms: Sequence[Term], slopes: Mapping[int, Sizes]) -> Shapes:
    """The terms that some width changes."""
    lengths = [len(term.sizes) for term in terms]
    moved = np.any([*slopes.values(), np.zeros(sum(lengths))], axis=0)
    ends = np.cumsum([0, *lengths]).tolist()
    kept = [bool(moved[a:b].any()) for a, b in pairwise(ends)]
    mask = np.repeat(kept, lengths)
    return Shapes(
        tuple(itertools.compress(terms, kept)),
        _sizes(terms)[mask],
        {number: slope[mask] for number, slope in slopes.items()},
        sum(term.value for term in terms),
    )


def latency(captured: Captured, coupling: Coupling) -> Meter:
    """Microseconds of one pass over the example inputs on the model's device, measured per width."""
    return measure_widths(captured.model, coupling, captured.example_inputs)


UNITS = {
    "neurons": "neurons",
    "parameters": "parameters",
    "multiply_adds": "multiply-adds",
    "activation_memory": "bytes of activations",
    "latency": "microseconds",
}
"""What the units of a budget are called when they follow a number."""

Metering = Callable[[Captured, Coupling], Meter]

METERS: dict[str, Metering] = {
    "neurons": neurons,
    "parameters": shapes(parameter_terms),
    "multiply_adds": shapes(multiply_add_terms),
    "activation_memory": shapes(activation_terms),
    "latency": latency,
}
"""One row per unit, named as in ``Budget``."""


def _sizes(terms: Sequence[Term]) -> Sizes:
    return np.array([size for term in terms for size in term.sizes], dtype=np.int64)


def _bare(graph_module: fx.GraphModule) -> fx.GraphModule:
    """A copy on the meta device."""
    memo: dict[int, Any] = {}
    for tensor in (*graph_module.parameters(), *graph_module.buffers()):
        bare = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(bare, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else bare
    return copy.deepcopy(graph_module, memo)


@contextmanager
def _resized(bare: fx.GraphModule, maps: Maps) -> Iterator[None]:
    """Another size inside, the old one afterwards."""
    found = tensors(bare)
    mine = {key: index_map for key, index_map in maps.items() if key[0] in found}
    before = {name: found[name].data for name, _ in mine}
    try:
        resize(bare, mine)
        yield
    finally:
        for name, data in before.items():
            found[name].data = data
        for module in bare.modules():
            refresh(module)
