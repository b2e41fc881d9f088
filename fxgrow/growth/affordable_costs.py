"""Costs that are told if they can be counted: no growth is given up because of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from fxgrow.capture import Captured
from fxgrow.errors import SpecError
from fxgrow.growth.objective import Objective
from fxgrow.growth.partition import StepCost, step_cost
from fxgrow.rewrite import OverGrown
from fxgrow.spec import multiply_adds


def countable_multiply_adds(captured: Captured, costs: bool = True) -> tuple[int | None, str]:
    """Count multiply-adds if that is possible: no growth is given up because of them.

    Args:
        captured: a graph and its inputs.
        costs: whether the caller wants them at all.

    Returns:
        Their number or None, and why they are not known ("" if they are).
    """
    if not costs:
        return None, "costs were not asked for"
    try:
        return multiply_adds(captured.graph_module, captured.example_inputs), ""
    except SpecError as error:
        return None, f"costs are unknown: {error}"


@dataclass(frozen=True)
class StepCosts:
    """What search steps cost, counted once for each graph, where that can be told.

    Args:
        objective: holds the growth batches.
        wanted: whether anybody wants to know what a step keeps.
        counted: what was counted so far, by the ``id`` of the over-grown graph.
    """

    objective: Objective
    wanted: bool = True
    counted: dict[int, StepCost] = field(default_factory=dict)

    def largest_memory(self, graphs: Sequence[OverGrown]) -> int | None:
        """The bytes that a step keeps on the largest of some graphs; None if nobody can tell."""
        if not self.wanted:
            return None
        try:
            for graph in graphs:
                # A graph keeps its candidates, so it is counted once.
                if id(graph) not in self.counted:
                    self.counted[id(graph)] = step_cost(graph, self.objective)
            own = max(self.counted[id(graph)].memory for graph in graphs)
        except SpecError:
            own = None
        # Shards may be uneven, and all processes must search the same candidates together.
        largest = self.objective.ranks.largest(own)
        return None if largest is None else int(largest)

    def multiply_adds(self, overgrown: OverGrown, costs: bool) -> tuple[int | None, str]:
        """Those of a pass of the example inputs, as ``countable_multiply_adds`` gives them."""
        captured, known = overgrown.captured, self.counted.get(id(overgrown))
        # Nearly always the example is a batch: then its pass was counted with what it keeps.
        if costs and known is not None and _alike(known.inputs, captured.example_inputs):
            return known.multiply_adds, ""
        whole = replace(captured, graph_module=overgrown.graph_module)
        return countable_multiply_adds(whole, costs)


def _alike(inputs: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    """Whether a pass costs the same on both: of floats only the shape and dtype matter."""
    leaves, form = tree_flatten(inputs)
    other_leaves, other_form = tree_flatten(others)
    return form == other_form and all(map(_alike_leaves, leaves, other_leaves))


def _alike_leaves(leaf: Any, other: Any) -> bool:
    if leaf is other:
        return True
    if not isinstance(leaf, Tensor) or not isinstance(other, Tensor):
        is_plain = isinstance(leaf, (bool, int, float, str)) and type(leaf) is type(other)
        return is_plain and bool(leaf == other)
    if leaf.is_nested or other.is_nested or leaf.shape != other.shape or leaf.dtype != other.dtype:
        return False
    return leaf.is_floating_point() or torch.equal(leaf, other)
