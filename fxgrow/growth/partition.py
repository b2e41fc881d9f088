"""Partition the widths so that each group's over-grown graph stays within a memory bound.

Every group is searched with the same method, eps, steps and batches, so scores are comparable. Two
things differ from one graph with everything in it: candidates of different groups were not relaxed
beside each other, and in every group those of the others are off. Both change scores by O(eps^2),
while the scores themselves are of first order.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from fxgrow.errors import BudgetError, SpecError
from fxgrow.growth.objective import Objective
from fxgrow.growth.prepare import PreparedModel
from fxgrow.rewrite import Candidates, OverGrown, overgrow
from fxgrow.spec import pass_cost

ADAM_COPIES = 4
"""Tensors that Adam keeps per parameter: the value, its gradient and two moments."""

SearchGroup = tuple[int, ...]
"""Numbers of widths whose candidates share a graph."""


def overgrow_group(
    prepared: PreparedModel, widths: Iterable[int], generator: torch.Generator
) -> OverGrown:
    """Build the over-grown graph that holds the candidates of some widths only.

    Args:
        prepared: the model with the candidates that the method proposes.
        widths: numbers of the widths whose candidates to insert.
        generator: draws the initial directions.

    Returns:
        The over-grown graph; all its candidates are off.
    """
    members = frozenset(widths)
    proposed_new = prepared.proposal.new
    new = {width: count for width, count in proposed_new.items() if width in members}
    return overgrow(
        prepared.captured,
        prepared.coupling,
        prepared.proposal.split & members,
        new,
        generator,
        prepared.layers.keys(),
        halves=prepared.halves,
    )


def widths_with_candidates(candidates: Candidates) -> SearchGroup:
    """Numbers of the widths that have a candidate of either kind, ascending."""
    return tuple(sorted(candidates.split.keys() | candidates.new.keys()))


@dataclass(frozen=True, eq=False)
class StepCost:
    """What one search step costs on the largest growth batch.

    Args:
        memory: the bytes that it keeps: the activations that autograd keeps for the backward pass,
            inputs included, and the copies that Adam makes of every candidate parameter. The
            model's own parameters and what lives only while one operator runs are not counted.
        multiply_adds: of its forward pass.
        inputs: those of the largest batch.
    """

    memory: int
    multiply_adds: int
    inputs: tuple[Any, ...]


def step_memory(overgrown: OverGrown, objective: Objective) -> int:
    """The bytes that one search step keeps: ``memory`` of its ``step_cost``."""
    return step_cost(overgrown, objective).memory


def step_cost(overgrown: OverGrown, objective: Objective) -> StepCost:
    """Count what one search step costs, on the meta device.

    Args:
        overgrown: the graph that is stepped over.
        objective: holds the growth batches.

    Returns:
        The cost.

    Raises:
        SpecError: ``not-runnable``, if the graph does not run on shapes alone.
    """
    calls: list[tuple[Any, ...]] = []
    for batch in objective.decisive_batches:
        calls += objective.inputs(batch)
    largest = max(calls, key=_count_numbers)
    cost = pass_cost(overgrown.graph_module, largest)
    memory = sum(term.value for term in cost.kept)
    for parameter in overgrown.graph_module.parameters():
        if parameter.requires_grad:
            memory += ADAM_COPIES * parameter.numel() * parameter.element_size()
    return StepCost(memory, cost.multiply_adds, largest)


def _count_numbers(inputs: Any) -> int:
    """The elements of all tensors, however they are nested."""
    numbers = 0
    for leaf in tree_leaves(inputs):
        if isinstance(leaf, torch.Tensor):
            numbers += leaf.numel()
    return numbers


def partition_widths(
    prepared: PreparedModel,
    overgrown: OverGrown,
    objective: Objective,
    memory_limit: float | None,
    needed_at_once: int | None = None,
) -> tuple[SearchGroup, ...]:
    """Cut the widths into the fewest runs whose over-grown graphs each fit into ``memory_limit``.

    Args:
        prepared: the model with its candidates.
        overgrown: the graph with all candidates in it.
        objective: holds the growth batches.
        memory_limit: bytes that one step may keep; None means any number.
        needed_at_once: what a step over ``overgrown`` keeps, if that is known.

    Returns:
        The groups, in the order of the widths.

    Raises:
        BudgetError: ``memory-bound``, if the candidates of one width alone do not fit;
            ``not-countable``, if nobody can tell what fits.
    """
    remaining = widths_with_candidates(overgrown.candidates)
    if memory_limit is None:
        return (remaining,)
    if needed_at_once is None:
        needed_at_once = _countable_memory(overgrown, objective, memory_limit)
    # Nearly always: then one search sees all candidates beside each other.
    if needed_at_once <= memory_limit:
        return (remaining,)

    def needed(widths: SearchGroup) -> int:
        return step_memory(overgrow_group(prepared, widths, torch.Generator()), objective)

    def fits(widths: SearchGroup) -> bool:
        return needed(widths) <= memory_limit

    groups: list[SearchGroup] = []
    while remaining:
        # Greedy is best: a longer run never makes the following one longer than it need be.
        count = _longest_prefix(remaining, fits)
        if not count:
            name = prepared.coupling.widths[remaining[0]].name
            raise BudgetError(
                "memory-bound",
                f"memory_limit={memory_limit:g} bytes do not hold one step over the candidates of "
                f"width {name!r} alone, which keeps {needed(remaining[:1])}; allow more, or take "
                "smaller growth batches or fewer candidates",
            )
        groups.append(remaining[:count])
        remaining = remaining[count:]
    return tuple(groups)


def _countable_memory(overgrown: OverGrown, objective: Objective, memory_limit: float) -> int:
    try:
        return step_memory(overgrown, objective)
    except SpecError as error:
        raise BudgetError(
            "not-countable",
            f"memory_limit={memory_limit:g} cannot be kept, since what a step needs cannot be "
            f"counted ({error}); leave it out",
        ) from error


def _longest_prefix(widths: SearchGroup, fits: Callable[[SearchGroup], bool]) -> int:
    """How many widths from the first on fit, by bisection: more widths never need less memory."""
    low, high = 0, len(widths)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(widths[:middle]):
            low = middle
        else:
            high = middle - 1
    return low
