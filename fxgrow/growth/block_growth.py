"""A growth step that buys blocks and neurons from one budget: first blocks, then neurons.

The model is searched as it is. Copies of blocks compete with the neurons that were found
(``block_choice``); those that are bought are put into the model, which keeps its function, and the
rest of the budget is spent on neurons of the deeper model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fxgrow.capture import positional_inputs
from fxgrow.errors import FxgrowError, GrowthError, Refusal
from fxgrow.growth.block_choice import (
    BlockMarket,
    choose_blocks,
    longer,
    matching_lists,
    price_of,
    priced_blocks,
    require_comparable,
    rest_of,
)
from fxgrow.growth.block_insertion import insert_all
from fxgrow.growth.block_lists import BlockLayout
from fxgrow.growth.block_orders import BlockPlaces
from fxgrow.growth.budget import Budget
from fxgrow.growth.companions import network_of
from fxgrow.growth.deepen import Deepened, deepen_in_place
from fxgrow.growth.expressible import require_expressed
from fxgrow.growth.invariants import full_precision
from fxgrow.growth.lineage import located
from fxgrow.growth.method import Method
from fxgrow.growth.objective import Objective
from fxgrow.growth.plan import Plan, Spending
from fxgrow.growth.result import GrowthReport
from fxgrow.growth.rounding import Snapshot, require_same
from fxgrow.growth.select import ranked_increments
from fxgrow.growth.step_options import StepOptions
from fxgrow.growth.step_search import Found, require_gain, search_model
from fxgrow.growth.timer import Timer
from fxgrow.modes import evaluation_mode
from fxgrow.spec import BlockInsertion, GrowthStep
from fxgrow.surgery import (
    ConfigUpdate,
    Optimizers,
)

_NO_NEURONS = ("empty-budget", "gained-nothing")
"""What a search for neurons says where blocks alone grow."""


@dataclass(frozen=True, eq=False)
class BlockGrowth:
    """The blocks that a growth step has put into a model.

    Args:
        first: what was found before.
        budget: the budget as it was given.
        gains: by the path of each block, what a copy behind it promised.
        refusals: by the path of a list, why it has no candidates.
        spent: what the blocks cost, by unit of the budget.
        rest: what is left of it for neurons; None if nothing is.
        records: what became of each list that got longer; none if no block was bought.
        deepened: the deeper model; None if no block was bought.
    """

    first: Found
    budget: Budget
    gains: Mapping[str, float]
    refusals: Mapping[str, Refusal]
    spent: Mapping[str, float]
    rest: Budget | None
    records: tuple[BlockInsertion, ...] = ()
    deepened: Deepened | None = None

    @property
    def error(self) -> float:
        """How far the output moved when the blocks were put in, relative to the largest output."""
        return 0.0 if self.deepened is None else self.deepened.preservation_error or 0.0

    def recorded(self, step: GrowthStep | None) -> GrowthStep | None:
        """A step of the history that tells of the blocks, too."""
        if step is None or step.preservation_error is None:
            return step
        # Two errors in a row are at most their sum.
        error = step.preservation_error + self.error
        return step.model_copy(update={"blocks": self.records, "preservation_error": error})

    def reported(self, report: GrowthReport) -> GrowthReport:
        """A report that tells of the blocks, too."""
        refusals = {**report.refusals, **self.refusals}
        report = replace(report, block_gains=self.gains, refusals=refusals)
        if self.deepened is None:
            return report
        found = self.first.result
        return replace(
            report,
            blocks=self.records,
            preservation_error=report.preservation_error + self.error,
            config=_both(self.deepened.config, report.config),
            multiply_adds_overgrown=report.multiply_adds_overgrown or found.multiply_adds,
            unchecked=report.unchecked or self.deepened.unchecked,
        )

    def whole_plan(self, plan: Plan) -> Plan:
        """The plan for neurons, with the whole budget and what blocks took of it."""
        if self.deepened is None:
            return plan
        spending = {}
        for limit in self.first.ready.resolved.limits:
            spent = self.spent[limit.unit]
            if self.rest is not None:
                spent += plan.spending[limit.unit].spent
            spending[limit.unit] = Spending(limit.cost_model.current, limit.limit, spent)
        return replace(plan, spending=spending)


def _both(one: ConfigUpdate | None, other: ConfigUpdate | None) -> ConfigUpdate | None:
    """What became of a config in two steps."""
    if one is None or other is None:
        return one or other
    notes = [update.note for update in (one, other) if update.note]
    return ConfigUpdate({**one.fields, **other.fields}, "; ".join(notes))


def require_block_candidates(
    model: nn.Module, method: Method, budget: Budget, options: StepOptions
) -> None:
    """Check that blocks can compete with neurons, if they are to; nothing is computed.

    Args:
        model: is to grow.
        method, budget, options: as for ``grow_step``.

    Raises:
        GrowthError: ``unknown-blocks``; ``no-promise`` for a method whose scores are in other units
            than gains; ``bad-blocks`` for one that inserts layers of its own.
        BudgetError: ``bad-budget`` for a limit that says nothing of blocks.
    """
    if not options.scope.blocks:
        return
    matching_lists(model, options.scope.blocks)
    require_comparable(method, budget)
    if getattr(method, "layers", 0):
        raise GrowthError(
            "bad-blocks",
            f"{type(method).__name__} inserts layers, which make a graph module of a model whose "
            "blocks are to stay in its own class; ask for blocks or for layers",
        )


def insert_bought_blocks(
    work: nn.Module,
    optimizers: Optimizers,
    found: Found,
    budget: Budget,
    options: StepOptions,
    timer: Timer,
) -> BlockGrowth:
    """Put the blocks into a model that promise more than the neurons which they would displace.

    Args:
        work: the model, which is changed.
        optimizers: get the parameters of new blocks.
        found: what the search found in it.
        budget: as it was given.
        options: as for ``grow_step``.
        timer: takes the time.

    Returns:
        The blocks; neurons may promise more, so that none is bought.

    Raises:
        FxgrowError: as for ``deepen``.
    """
    with timer.phase("blocks"):
        examples = [found.inputs]
        examples += [positional_inputs(work, example) for example in options.examples]
        ready, objective = found.ready, found.objective
        captured, resolved = ready.prepared.captured, ready.resolved
        units = [limit.unit for limit in resolved.limits]
        lists = matching_lists(work, options.scope.blocks)
        market = priced_blocks(
            captured, lists, examples, objective.scoring, ready.picked.method, units
        )
        layouts, spent = _bought(market, found, examples, units)
        rest = rest_of(budget, resolved, spent)
        growth = BlockGrowth(found, budget, _gains(market), market.refusals, spent, rest)
        if not layouts:
            return growth
        places = BlockPlaces(layouts, growth.gains)
        # The graph is that of the model before, which changes now.
        records = tuple(_record(layout, places, found) for layout in layouts)
        deepened = deepen_in_place(work, places, examples, optimizers)
        if options.scope.expressible:
            require_expressed(deepened.config)
        for companion in options.companions:
            _deepen_companion(network_of(companion), layouts, deepened, objective)
    return replace(growth, records=records, deepened=deepened)


def _gains(market: BlockMarket) -> dict[str, float]:
    return {block.candidate.path: block.candidate.gain for block in market.blocks}


def _record(layout: BlockLayout, places: BlockPlaces, found: Found) -> BlockInsertion:
    graph = found.ready.prepared.captured.graph_module.graph
    return located(layout.record(places.gains), layout.old_names, graph)


def _bought(
    market: BlockMarket,
    found: Found,
    examples: Sequence[tuple[Any, ...]],
    units: Sequence[str],
) -> tuple[tuple[BlockLayout, ...], dict[str, float]]:
    """The longer lists with the blocks that are bought, and what they cost in all."""
    captured, resolved = found.ready.prepared.captured, found.ready.resolved
    result = found.result
    neurons = ranked_increments(result.selection.scores, result.overgrown.candidates, resolved)
    chosen = choose_blocks(market.blocks, neurons, resolved)
    # Prices were shared out within a list; while they come to more in all, the worst goes back.
    while True:
        layouts = longer(captured.model, [block.candidate for block in chosen])
        spent = price_of(captured, layouts, examples, units)
        if all(spent[limit.unit] <= limit.limit for limit in resolved.limits):
            return layouts, spent
        chosen = chosen[:-1]


def _deepen_companion(
    network: nn.Module, layouts: Sequence[BlockLayout], deepened: Deepened, objective: Objective
) -> None:
    """Put the same blocks into a network like the model; its function stays, too."""
    with evaluation_mode(network), full_precision():
        before, earlier = objective.output(network), Snapshot.of(network)
        # Copies of its own blocks, constant where those of the model are.
        insert_all(network, layouts, {})
        with torch.no_grad():
            for name, value in deepened.zeroed.items():
                network.get_parameter(name).fill_(value)
        compared, models = (objective.output(network), before), (Snapshot.live(network), earlier)
        require_same("what a companion was", compared, models, objective.first_inputs)


def search_beside(
    blocks: BlockGrowth,
    work: nn.Module,
    objective: Objective,
    method: Method,
    options: StepOptions,
    timer: Timer,
) -> Found:
    """Search the deeper model for neurons within the rest of the budget.

    Args:
        blocks: that were put into it.
        work: the deeper model.
        objective: the loss on all growth batches.
        method, options: as for ``grow_step``.
        timer: takes the time of each phase.

    Returns:
        What was found before if there are no blocks; else what was found now: nothing, where the
        rest buys nothing or no neuron gains.
    """
    first, found = blocks.first, None
    if blocks.deepened is None:
        if not options.accept_no_gain:
            require_gain(first.result)
        return first
    objective = objective.for_outputs_of(work)
    if blocks.rest is not None:
        try:
            found = search_model(work, objective, method, blocks.rest, options, timer)
            if not options.accept_no_gain:
                require_gain(found.result)
        except FxgrowError as error:
            if error.code not in _NO_NEURONS:
                raise
            found = None
    if found is None:
        found = search_model(work, objective, method, blocks.budget, options, timer, nothing=True)
    # The step began at the model without the blocks.
    ready = replace(found.ready, before=first.ready.before)
    return replace(found, ready=ready, stale=first.stale)
