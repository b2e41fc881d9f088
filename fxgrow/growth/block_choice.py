"""Which copies of blocks are bought beside neurons, from one budget.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Eq. 5 under the
budget of Eq. 1: candidates of all kinds stand in one ranking, by the decrease of the loss that they
promise to first order. How we differ: one kind of candidate is a copy of a whole block that starts
as the identity (``block_gains``). Its gain is that of one step as long, relative to the weights, as
the radius of the method; its price is what the model with it costs more. Like neurons, blocks are
bought by gain over the largest share of a limit that they take: a block is bought if it fits beside
the blocks and the neurons that promise more.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from fxgrow.capture import Captured, capture
from fxgrow.errors import BudgetError, GrowthError, Refusal
from fxgrow.growth.block_gains import STEP_SHARE, BlockCandidate, block_candidates, deeper_copy
from fxgrow.growth.block_lists import (
    BlockLayout,
    block_list,
    is_block_list,
    layout_of,
    order_after,
)
from fxgrow.growth.budget import MIN_RELATIVE_COST, Budget, ResolvedBudget
from fxgrow.growth.cost_models import BUDGET_UNITS, UNITS, Counts
from fxgrow.growth.method import Method, predicts_gain
from fxgrow.growth.objective import Objective
from fxgrow.growth.select import Increment, counts_of, greedy_fill
from fxgrow.modes import evaluation_mode

Price = Mapping[str, float]
"""What something costs, by unit of the budget."""

_NO_CANDIDATES = ("not-residual", "unreached-blocks", "bad-blocks")
"""Why a list has no candidates; of several lists the others still may get longer."""


@dataclass(frozen=True)
class PricedBlock:
    """A copy of a block behind it, and what it costs."""

    candidate: BlockCandidate
    price: Price

    def worth(self, resolved: ResolvedBudget) -> float:
        """The gain per share of the limit that binds, as of neurons."""
        share = MIN_RELATIVE_COST
        for limit in resolved.limits:
            share = max(share, self.price[limit.unit] / limit.limit)
        return self.candidate.gain / share


@dataclass(frozen=True)
class BlockMarket:
    """The copies that can be bought.

    Args:
        blocks: one behind each block that has one.
        refusals: by the path of a list, why it has none.
    """

    blocks: tuple[PricedBlock, ...]
    refusals: Mapping[str, Refusal]


def matching_lists(model: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """The lists of blocks whose paths match a pattern; of nested ones the outer one.

    Args:
        model: holds the lists.
        patterns: paths, or patterns as in ``fnmatch``.

    Raises:
        GrowthError: ``unknown-blocks`` for a pattern that matches none.
    """
    lists = [path for path, module in model.named_modules() if is_block_list(module)]
    found: list[str] = []
    for pattern in patterns:
        matches = [path for path in lists if fnmatchcase(path, pattern)]
        if not matches:
            block_list(model, pattern)  # which says which lists there are
        found += matches
    outer = []
    for path in dict.fromkeys(found):
        if not any(path.startswith(f"{other}.") for other in found):
            outer.append(path)
    return tuple(outer)


def require_comparable(method: Method, budget: Budget) -> None:
    """Check that blocks and neurons can be compared, in gain and in cost.

    Raises:
        GrowthError: ``no-promise`` for a method whose scores are no decreases of the loss.
        BudgetError: ``bad-budget`` for a limit that says nothing of blocks.
    """
    if not predicts_gain(method):
        raise GrowthError(
            "no-promise",
            f"the scores of {type(method).__name__} are not in units of the loss, so that blocks "
            "cannot be compared with its neurons; choose Firefly, Splitting or FastSplitting, or "
            "deepen first (fxgrow.deepen)",
        )
    for unit in budget.amounts:
        if BUDGET_UNITS[unit].present is None:
            raise BudgetError(
                "bad-budget",
                f"what a block costs in {UNITS[unit]} is measured, and drowns in noise; give the "
                "budget in parameters or multiply_adds",
            )


def priced_blocks(
    captured: Captured,
    lists: Sequence[str],
    examples: Sequence[tuple[Any, ...]],
    objective: Objective,
    method: Method,
    units: Sequence[str],
) -> BlockMarket:
    """Score and price a copy behind each block of some lists.

    Args:
        captured: the model, which is left as it is.
        lists: the paths of the lists.
        examples: positional arguments of the model.
        objective: the loss on the batches to score on.
        method: says how long its steps are, relative to the weights (``eps``).
        units: of the budget.

    Raises:
        GrowthError: if no list has a candidate, what ``block_candidates`` says of the last one.
    """
    # As far a step, relative to the weights, as the candidates for neurons take.
    model, share = captured.model, getattr(method, "eps", STEP_SHARE)
    blocks: list[PricedBlock] = []
    refusals, refused = {}, None
    for path in lists:
        length = len(block_list(model, path)._modules)
        try:
            layout = layout_of(block_list(model, path), path, order_after(length, range(length)))
            scored = block_candidates(model, [layout], examples, objective, share)
            blocks += _priced(captured, scored, examples, units)
        except GrowthError as error:
            if error.code not in _NO_CANDIDATES:
                raise
            refusals[path], refused = Refusal(error.code, str(error)), error
    if not blocks and refused is not None:
        raise refused
    return BlockMarket(tuple(blocks), refusals)


def _priced(
    captured: Captured,
    scored: Sequence[BlockCandidate],
    examples: Sequence[tuple[Any, ...]],
    units: Sequence[str],
) -> list[PricedBlock]:
    """The candidates of one list, which share what all of them cost by their parameters."""
    # Residual blocks of one list see one stream, so that their other costs are nearly in
    # proportion; what is bought is counted exactly afterwards (``price_of``).
    price = price_of(captured, longer(captured.model, scored), examples, units)
    parameters = sum(candidate.parameters for candidate in scored)
    found = []
    for candidate in scored:
        share = candidate.parameters / parameters if parameters else 1 / len(scored)
        found.append(PricedBlock(candidate, {unit: share * cost for unit, cost in price.items()}))
    return found


def longer(model: nn.Module, candidates: Sequence[BlockCandidate]) -> tuple[BlockLayout, ...]:
    """The longer lists with some copies.

    Args:
        model: as it is.
        candidates: the copies, of any lists.
    """
    numbers: dict[str, list[int]] = {}
    for candidate in candidates:
        numbers.setdefault(candidate.blocks, []).append(candidate.number)
    layouts = []
    for path, places in numbers.items():
        blocks = block_list(model, path)
        order = order_after(len(blocks._modules), sorted(places))
        layouts.append(layout_of(blocks, path, order))
    return tuple(layouts)


def price_of(
    captured: Captured,
    layouts: Sequence[BlockLayout],
    examples: Sequence[tuple[Any, ...]],
    units: Sequence[str],
) -> dict[str, float]:
    """What longer lists add to a model, counted on a copy.

    Args:
        captured: the model as it is.
        layouts: its longer lists.
        examples: positional arguments of the model.
        units: to count in.
    """
    # Nothing is longer, so nothing has to be built.
    if not layouts:
        return dict.fromkeys(units, 0.0)
    deeper = deeper_copy(captured.model, layouts, {}, examples)
    with evaluation_mode(deeper):
        after = _present(capture(deeper, captured.example_inputs), units)
    before = _present(captured, units)
    return {unit: after[unit] - before[unit] for unit in units}


def _present(captured: Captured, units: Sequence[str]) -> dict[str, float]:
    counted = {}
    for unit in units:
        present = BUDGET_UNITS[unit].present
        if present is not None:
            counted[unit] = present(captured)
    return counted


def choose_blocks(
    blocks: Sequence[PricedBlock], neurons: Sequence[Increment], resolved: ResolvedBudget
) -> list[PricedBlock]:
    """The blocks that fit beside all that promises more.

    Args:
        blocks: the candidates.
        neurons: those of the widths, best first.
        resolved: the limits, and what neurons cost.

    Returns:
        The blocks, best first; none if neurons promise more for the whole budget.
    """
    bought: list[PricedBlock] = []
    for block in sorted(blocks, key=lambda block: block.worth(resolved), reverse=True):
        worth = block.worth(resolved)
        is_full = resolved.max_layers is not None and len(bought) >= resolved.max_layers
        if worth <= 0 or is_full:
            break
        spent, with_it = _total(bought, resolved), _total([*bought, block], resolved)
        better = [increment for increment in neurons if increment.worth >= worth]
        beside = greedy_fill(better, lambda counts: _fits(counts, spent, resolved))  # noqa: B023
        if _fits(counts_of(beside), with_it, resolved):
            bought.append(block)
    return bought


def _total(blocks: Sequence[PricedBlock], resolved: ResolvedBudget) -> Price:
    total = {}
    for limit in resolved.limits:
        total[limit.unit] = sum(block.price[limit.unit] for block in blocks)
    return total


def _fits(counts: Counts, spent: Price, resolved: ResolvedBudget) -> bool:
    """Whether neurons fit into what is left of every limit."""
    for limit in resolved.limits:
        if limit.cost_model.estimate(counts) + spent[limit.unit] > limit.limit:
            return False
    return True


def rest_of(budget: Budget, resolved: ResolvedBudget, spent: Price) -> Budget | None:
    """The budget that is left for neurons; None if nothing is.

    Args:
        budget: as it was given.
        resolved: its limits for this model.
        spent: what the blocks cost.
    """
    left = {}
    for limit in resolved.limits:
        # A whole number is an amount, where a fraction would be a share of the deeper model.
        left[limit.unit] = math.floor(limit.limit - spent[limit.unit])
        if left[limit.unit] < 1:
            return None
    return budget.model_copy(update={**left, "layers": None})
