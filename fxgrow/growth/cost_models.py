"""What neurons cost: one cost model per unit of a budget.

Neurons, parameters, multiply-adds and activation memory are exact for any number of neurons in all
widths at once, both ends of a layer included. Each is a sum of formulas over sizes of tensors
(``spec.cost``), and a size n_s is linear in the neurons k_w that are added to width w:

    cost(k) = sum_t f_t(n_s + sum_w m_sw k_w for the sizes s of t)

m_sw is read off one run on the meta device with one neuron more in w. Latency is measured
(``growth.latency``).
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from fxgrow.capture import Captured
from fxgrow.coupling import Coupling, change_maps, couple, set_attributes
from fxgrow.errors import SpecError
from fxgrow.growth.latency import measure_latency
from fxgrow.spec import Term, activation_terms, multiply_add_terms, parameter_terms
from fxgrow.surgery import (
    Change,
    named_tensors,
    resize,
    set_integer,
    sync_size_attributes,
)

Counts = Mapping[int, int]
"""Neurons to add, per number of a width."""

SizeArray = npt.NDArray[np.int64]

TermCounter = Callable[[nn.Module, Sequence[Any]], tuple[Term, ...]]


class CostModel(Protocol):
    """The cost of a model in one unit. ``estimate`` must not fall when any count rises."""

    @property
    def current(self) -> float:
        """What the model as it is costs."""
        ...

    def estimate(self, counts: Counts) -> float:
        """What these neurons add, cheap to ask."""
        ...

    def measure(self, counts: Counts) -> float:
        """What these neurons add on the grown model; asked once per selection."""
        ...


@dataclass(frozen=True)
class NeuronCost:
    """The number of neurons.

    Args:
        current: neurons of the growable widths.
    """

    current: float

    def estimate(self, counts: Counts) -> float:
        """Their number."""
        return sum(counts.values())

    measure = estimate


@dataclass(frozen=True)
class ShapeCost:
    """A sum of formulas over sizes of tensors.

    Args:
        terms: the formulas that growth touches, each with the sizes it is about.
        sizes: the sizes of all terms in a row.
        slopes: per number of a width, what one more neuron adds to each of ``sizes``.
        current: the sum over the model as it is.
    """

    terms: tuple[Term, ...]
    sizes: SizeArray
    slopes: Mapping[int, SizeArray]
    current: float

    def total(self, counts: Counts) -> int:
        """The terms that growth touches, with these neurons added."""
        sizes = self.sizes
        for width, count in counts.items():
            sizes = sizes + self.slopes[width] * count
        numbers = sizes.tolist()
        total = start = 0
        for term in self.terms:
            end = start + len(term.sizes)
            total += term.formula(numbers[start:end])
            start = end
        return total

    def estimate(self, counts: Counts) -> float:
        """What these neurons add; exact."""
        return self.total(counts) - self.total({})

    measure = estimate


def neuron_cost(_: Captured, coupling: Coupling) -> CostModel:
    """Count neurons."""
    return NeuronCost(sum(width.size for width in coupling.widths if width.growable))


def shape_cost(count_terms: TermCounter) -> "CostModelFactory":
    """Make a cost model of formulas over sizes.

    Args:
        count_terms: gives the formulas of a graph module on its example inputs.

    Returns:
        A factory that runs the graph on the meta device once, and once for each growable width;
        with its numbers, if the graph needs them.
    """

    def factory(captured: Captured, coupling: Coupling) -> CostModel:
        inputs = captured.example_inputs
        copied: fx.GraphModule = _on_meta(captured.graph_module)
        try:
            terms = count_terms(copied, inputs)
        except SpecError:  # shapes follow from numbers, so they are needed
            copied = copy.deepcopy(captured.graph_module)
            terms = count_terms(copied, inputs)
        slopes = {}
        for number, width in enumerate(coupling.widths):
            if width.growable:
                one_more = {number: Change((1,) * width.size, new=1)}
                with _resized(copied, coupling, one_more):
                    larger = count_terms(copied, inputs)
                slopes[number] = _slope(terms, larger)
        return _without_constant_terms(terms, slopes)

    return factory


def _slope(terms: Sequence[Term], larger: Sequence[Term]) -> SizeArray:
    """What one more neuron adds to each size."""
    before, after = _sizes(terms), _sizes(larger)
    if len(before) != len(after):  # the model ran another way
        raise SpecError(
            "not-runnable",
            "the graph runs other operators when it grows, so its cost is no formula of its sizes; "
            "give the budget in another unit",
        )
    return after - before


def _without_constant_terms(terms: Sequence[Term], slopes: Mapping[int, SizeArray]) -> ShapeCost:
    """A cost model of the terms that some width changes; the others never matter to an estimate."""
    lengths = [len(term.sizes) for term in terms]
    # changes[s]: whether some width changes size s of the terms in a row.
    changes = np.zeros(sum(lengths), dtype=bool)
    for slope in slopes.values():
        changes |= slope != 0
    moving: list[Term] = []
    is_moving: list[bool] = []
    start = 0
    for term, length in zip(terms, lengths, strict=True):
        moves = bool(changes[start : start + length].any())
        is_moving.append(moves)
        if moves:
            moving.append(term)
        start += length
    mask = np.repeat(is_moving, lengths)
    kept_slopes = {number: slope[mask] for number, slope in slopes.items()}
    current = sum(term.value for term in terms)
    return ShapeCost(tuple(moving), _sizes(terms)[mask], kept_slopes, current)


def present_neurons(captured: Captured) -> float:
    """The neurons of all widths that could grow."""
    return neuron_cost(captured, couple(captured)).current


def present_total(count_terms: TermCounter) -> Callable[[Captured], float]:
    """Make a count of what a model has, from formulas over sizes.

    Args:
        count_terms: gives the formulas of a graph module on its example inputs.
    """

    def present(captured: Captured) -> float:
        terms = count_terms(captured.graph_module, captured.example_inputs)
        return sum(term.value for term in terms)

    return present


def latency_cost(captured: Captured, coupling: Coupling) -> CostModel:
    """Measure microseconds of one pass over the example inputs on the model's device."""
    return measure_latency(captured.model, coupling, captured.example_inputs)


CostModelFactory = Callable[[Captured, Coupling], CostModel]


@dataclass(frozen=True)
class BudgetUnit:
    """A unit in which a budget can be given.

    Args:
        words: what it is called after a number.
        factory: makes the cost model of a captured model.
        present: counts what a captured model has; None of what is measured, which a comparison of
            two models would drown in noise.
    """

    words: str
    factory: CostModelFactory
    present: Callable[[Captured], float] | None = None


def _by_shapes(words: str, count_terms: TermCounter) -> BudgetUnit:
    """A unit that follows from the shapes of a model."""
    return BudgetUnit(words, shape_cost(count_terms), present_total(count_terms))


# To add a unit: a row here, a field of the same name in ``growth.budget.Budget``, and a test.
BUDGET_UNITS: dict[str, BudgetUnit] = {
    "neurons": BudgetUnit("neurons", neuron_cost, present_neurons),
    "parameters": _by_shapes("parameters", parameter_terms),
    "multiply_adds": _by_shapes("multiply-adds", multiply_add_terms),
    "activation_memory": _by_shapes("bytes of activations", activation_terms),
    "latency": BudgetUnit("microseconds", latency_cost),
}
"""One row per unit, named as in ``Budget``."""

UNITS = {name: unit.words for name, unit in BUDGET_UNITS.items()}
"""What the units of a budget are called when they follow a number."""


def _sizes(terms: Sequence[Term]) -> SizeArray:
    sizes: list[int] = []
    for term in terms:
        sizes.extend(term.sizes)
    return np.array(sizes, dtype=np.int64)


def _on_meta(graph_module: fx.GraphModule) -> fx.GraphModule:
    """A copy on the meta device."""
    # deepcopy takes what the memo holds for an object instead of copying it.
    memo: dict[int, Any] = {}
    for tensor in (*graph_module.parameters(), *graph_module.buffers()):
        copied: Tensor = torch.empty_like(tensor, device="meta")
        if isinstance(tensor, nn.Parameter):
            copied = nn.Parameter(copied, tensor.requires_grad)
        memo[id(tensor)] = copied
    return copy.deepcopy(graph_module, memo)


@contextmanager
def _resized(
    on_meta: fx.GraphModule, coupling: Coupling, changes: Mapping[int, Change]
) -> Iterator[None]:
    """Another size inside, the old one afterwards."""
    tensors, modules = named_tensors(on_meta), dict(on_meta.named_modules())
    maps = change_maps(coupling, changes)
    # A norm without a weight keeps its shape; what the model's own code reads is not in its graph.
    attributes = []
    for attribute in coupling.attributes:
        if hasattr(modules.get(attribute.module), attribute.name):
            attributes.append(attribute)
    present = {key: index_map for key, index_map in maps.items() if key[0] in tensors}
    before = {name: tensors[name].data for name, _ in present}
    try:
        resize(on_meta, present)
        set_attributes(on_meta, replace(coupling, attributes=tuple(attributes)), changes)
        yield
    finally:
        for attribute in attributes:
            holder = modules[attribute.module]
            set_integer(holder, attribute.name, attribute.keys, attribute.value)
        for name, data in before.items():
            tensors[name].data = data
        for module in on_meta.modules():
            sync_size_attributes(module)
