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
from fxgrow.growth.latency import measure_latency
from fxgrow.spec import Term, activation_terms, multiply_add_terms, parameter_terms
from fxgrow.surgery import Change, Maps, named_tensors, resize, sync_size_attributes

Counts = Mapping[int, int]
"""Neurons to add, per number of a width."""

SizeArray = npt.NDArray[np.int64]

TermCounter = Callable[[nn.Module, Sequence[Any]], tuple[Term, ...]]


class CostModel(Protocol):
    """The cost of a model in one unit. ``added`` must not fall when any count rises."""

    @property
    def current(self) -> float:
        """What the model as it is costs."""
        ...

    def estimate(self, counts: Counts) -> float:
        """What these neurons add, cheap to ask."""
        ...

    def measure(self, counts: Counts) -> float:
        """The same as it turns out to be on the grown model; asked once per choice."""
        ...


@dataclass(frozen=True)
class NeuronCost:
    """Neurons; present are those of the growable widths."""

    current: float

    def estimate(self, counts: Counts) -> float:
        """Their number."""
        return sum(counts.values())

    measure = estimate


@dataclass(frozen=True)
class ShapeCost:
    """A sum of terms. ``slopes[width]`` is what one neuron adds to each of ``sizes``, those of all terms in a row."""

    terms: tuple[Term, ...]
    sizes: SizeArray
    slopes: Mapping[int, SizeArray]
    current: float

    def total(self, counts: Counts) -> int:
        """The terms that growth touches, with these neurons added."""
        sizes = sum(
            (self.slopes[width] * count for width, count in counts.items()), start=self.sizes
        ).tolist()
        ends = np.cumsum([0, *(len(term.sizes) for term in self.terms)]).tolist()
        return sum(
            term.formula(sizes[a:b])
            for term, (a, b) in zip(self.terms, pairwise(ends), strict=True)
        )

    def estimate(self, counts: Counts) -> float:
        """Exact."""
        return self.total(counts) - self.total({})

    measure = estimate


def neuron_cost(_: Captured, coupling: Coupling) -> CostModel:
    """How many there are."""
    return NeuronCost(sum(width.size for width in coupling.widths if width.growable))


def shape_cost(terms: TermCounter) -> "CostModelFactory":
    """A meter of these terms, by one run on the meta device for the model and one for each of its growable widths."""

    def cost_model(captured: Captured, coupling: Coupling) -> CostModel:
        bare = _bare(captured.graph_module)
        base = terms(bare, captured.example_inputs)
        slopes = {}
        for number, width in enumerate(coupling.widths):
            if width.growable:
                one = Change((1,) * width.size, new=1)
                with _resized(bare, change_maps(coupling, {number: one})):
                    slopes[number] = _sizes(terms(bare, captured.example_inputs)) - _sizes(base)
        return _moving(base, slopes)

    return cost_model


def _moving(terms: Sequence[Term], slopes: Mapping[int, SizeArray]) -> ShapeCost:
    """The terms that some width changes."""
    lengths = [len(term.sizes) for term in terms]
    moved = np.any([*slopes.values(), np.zeros(sum(lengths))], axis=0)
    ends = np.cumsum([0, *lengths]).tolist()
    kept = [bool(moved[a:b].any()) for a, b in pairwise(ends)]
    mask = np.repeat(kept, lengths)
    return ShapeCost(
        tuple(itertools.compress(terms, kept)),
        _sizes(terms)[mask],
        {number: slope[mask] for number, slope in slopes.items()},
        sum(term.value for term in terms),
    )


def latency_cost(captured: Captured, coupling: Coupling) -> CostModel:
    """Microseconds of one pass over the example inputs on the model's device, measured per width."""
    return measure_latency(captured.model, coupling, captured.example_inputs)


UNITS = {
    "neurons": "neurons",
    "parameters": "parameters",
    "multiply_adds": "multiply-adds",
    "activation_memory": "bytes of activations",
    "latency": "microseconds",
}
"""What the units of a budget are called when they follow a number."""

CostModelFactory = Callable[[Captured, Coupling], CostModel]

COST_MODELS: dict[str, CostModelFactory] = {
    "neurons": neuron_cost,
    "parameters": shape_cost(parameter_terms),
    "multiply_adds": shape_cost(multiply_add_terms),
    "activation_memory": shape_cost(activation_terms),
    "latency": latency_cost,
}
"""One row per unit, named as in ``Budget``."""


def _sizes(terms: Sequence[Term]) -> SizeArray:
    return np.array([size for term in terms for size in term.sizes], dtype=np.int64)


def _bare(graph_module: fx.GraphModule) -> fx.GraphModule:
    """A copy on the meta device."""
    memo: dict[int, Any] = {}
    for tensor in (*graph_module.parameters(), *graph_module.buffers()):
        bare = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = (
            nn.Parameter(bare, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else bare
        )
    return copy.deepcopy(graph_module, memo)


@contextmanager
def _resized(bare: fx.GraphModule, maps: Maps) -> Iterator[None]:
    """Another size inside, the old one afterwards."""
    found = named_tensors(bare)
    mine = {key: index_map for key, index_map in maps.items() if key[0] in found}
    before = {name: found[name].data for name, _ in mine}
    try:
        resize(bare, mine)
        yield
    finally:
        for name, data in before.items():
            found[name].data = data
        for module in bare.modules():
            sync_size_attributes(module)
