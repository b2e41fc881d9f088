"""The search of a growth step: which candidates are worth their cost.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Algorithm 1.
Step one (Eq. 4) relaxes all candidates at once, step two (Eq. 5) scores them and keeps the best.
How we differ: what was kept is refined once more with the others off, and eps is halved until the
loss on batches that no search step has seen does not rise.

Continual learning uses the same search with ``PreparedModel.halves`` off: a split candidate then
stands for one changed copy of a neuron (an unlocked neuron), not for two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from fxgrow.errors import BudgetError, GrowthError, InternalError
from fxgrow.growth.affordable_costs import StepCosts
from fxgrow.growth.budget import ResolvedBudget
from fxgrow.growth.candidate_transfer import copy_candidates
from fxgrow.growth.invariants import backtrack, full_precision
from fxgrow.growth.materialize import width_changes
from fxgrow.growth.method import Method, Scores, keeps_function
from fxgrow.growth.objective import Objective
from fxgrow.growth.partition import (
    SearchGroup,
    overgrow_group,
    partition_widths,
)
from fxgrow.growth.prepare import PreparedModel
from fxgrow.growth.scope import require_equal_candidates
from fxgrow.growth.select import Selection, select
from fxgrow.growth.size_guard import candidate_bytes
from fxgrow.growth.timer import Timer
from fxgrow.memory import available_memory, device_of, require_memory
from fxgrow.rewrite import Candidates, OverGrown, overgrow
from fxgrow.surgery import Change


@dataclass(frozen=True)
class SearchResult:
    """What the search chose.

    Args:
        overgrown: the graph with the selected candidates switched on and all others off.
        selection: which candidates were selected, with all scores.
        width_changes: per number of a width that grows, what happens to its neurons.
        loss_before: mean loss of the model on the scored batches before it grows.
        backtracks: how often eps was halved.
        groups: the widths whose candidates were searched in one graph.
        peak_memory: predicted bytes of one step over the largest graph that was searched; None if
            they are not known.
        multiply_adds: of one pass of the example inputs through the graph with all candidates; None
            if they are not known.
        refined: whether the selected candidates were adapted to each other.
        unknown: why the multiply-adds are not known.
        keeps_function: whether the selected candidates do not change what the model computes.
        twin_noise: draws what tells the copies of split neurons apart, if the method keeps the
            function: without a direction they would stay alike for ever. Else None.
    """

    overgrown: OverGrown
    selection: Selection
    width_changes: Mapping[int, Change]
    loss_before: float
    backtracks: int
    groups: tuple[SearchGroup, ...]
    peak_memory: int | None
    multiply_adds: int | None
    refined: bool
    unknown: str = ""
    keeps_function: bool = False
    twin_noise: torch.Generator | None = None

    @property
    def has_gain(self) -> bool:
        """Whether any selected candidate is on: else nothing that was found lowers the loss."""
        candidates, selection = self.overgrown.candidates, self.selection
        split = candidates.split_eps.detach().cpu()[selection.split]
        new = candidates.new_eps.detach().cpu()[selection.new]
        return bool(split.any() or new.any())


@dataclass(frozen=True)
class SearchLimits:
    """What a search may keep, and whether it counts what it costs.

    Args:
        memory: bytes that one step may keep; None: any number.
        costs: count multiply-adds and predict memory for the report.
    """

    memory: float | None = None
    costs: bool = True

    def allow(self, needed: int | None) -> bool:
        """Whether a step may keep that many bytes; None: nobody can tell."""
        return self.memory is None or needed is None or needed <= self.memory


NO_LIMITS = SearchLimits()


def search(
    prepared: PreparedModel,
    method: Method,
    objective: Objective,
    budget: ResolvedBudget,
    seed: int,
    limits: SearchLimits = NO_LIMITS,
    timer: Timer | None = None,
) -> SearchResult:
    """Over-grow the model, relax and score the candidates, select, refine, and backtrack.

    Args:
        prepared: the model, its coupling and the proposed candidates.
        method: relaxes, scores and refines.
        objective: the loss on the growth batches.
        budget: what may be added.
        seed: of the initial directions.
        limits: how much memory a step may keep; what does not fit is searched group by group.
            Without a number it is what there is.
        timer: takes the time of each phase.

    Returns:
        The selected candidates in one over-grown graph.

    Raises:
        GrowthError: ``no-candidates``, ``nan-loss``, or ``unequal-tie`` for unlike tied widths.
        BudgetError: ``empty-budget`` if the budget buys nothing, ``memory-bound``.
    """
    timer = timer or Timer()
    generator = torch.Generator().manual_seed(seed)
    with timer.phase("overgrow"):
        start = _start(prepared, objective, budget, generator, limits)
    overgrown, groups, costs, limits = start.overgrown, start.groups, start.costs, start.limits
    with timer.phase("search"):
        with full_precision():
            loss_before = objective.scoring.mean(prepared.captured.graph_module)
        parts, scores = search_candidates(
            prepared, overgrown, groups, method, objective, budget, generator
        )
        chosen, selection = select_candidates(prepared, overgrown, parts, scores, budget)
        peak_memory = costs.largest_memory(parts)
        needed = peak_memory if chosen is overgrown else costs.largest_memory([chosen])
    refined = limits.allow(needed)
    if refined:
        with timer.phase("refine"):
            method.refine(chosen, objective)
        peak_memory = None if peak_memory is None else max(peak_memory, needed or 0)
    backtracks, is_exact = 0, keeps_function(method)
    if not is_exact:  # else the loss is the old one, which rounding may put on either side
        with timer.phase("backtrack"), full_precision():
            backtracks = backtrack(chosen, objective.scoring, loss_before)
    changes = width_changes(prepared.coupling, chosen, selection)
    found = (chosen, selection, changes, loss_before, backtracks, groups, peak_memory)
    twin_noise = generator if is_exact else None
    return SearchResult(*found, start.multiply_adds, refined, start.unknown, is_exact, twin_noise)


def search_nothing(
    prepared: PreparedModel, objective: Objective, budget: ResolvedBudget
) -> SearchResult:
    """Select nothing: the model as it is, where the budget was spent on something else.

    Args:
        prepared: the model.
        objective: the loss on the growth batches.
        budget: the limits, of which nothing is spent.
    """
    captured, coupling, generator = prepared.captured, prepared.coupling, torch.Generator()
    overgrown = overgrow(captured, coupling, (), {}, generator)
    with full_precision():
        loss_before = objective.scoring.mean(captured.graph_module)
    no_split = torch.zeros_like(overgrown.candidates.split_eps, dtype=torch.bool)
    no_new = torch.zeros_like(overgrown.candidates.new_eps, dtype=torch.bool)
    spent = {limit.unit: 0.0 for limit in budget.limits}
    selection = Selection(no_split, no_new, Scores(torch.zeros(0), torch.zeros(0)), spent)
    return SearchResult(
        overgrown,
        selection,
        width_changes={},
        loss_before=loss_before,
        backtracks=0,
        groups=(),
        peak_memory=0,
        multiply_adds=0,
        refined=True,
        keeps_function=True,
    )


def require_searchable(
    prepared: PreparedModel,
    objective: Objective,
    budget: ResolvedBudget,
    limits: SearchLimits = NO_LIMITS,
) -> str:
    """Check that a search can begin, as far as shapes tell: nothing is searched.

    Args:
        prepared: the model, its coupling and the proposed candidates.
        objective: holds a growth batch of the size that there will be.
        budget: what may be added.
        limits: how much memory a step may keep.

    Returns:
        Why the multiply-adds of a search are not known; "" if they are.

    Raises:
        GrowthError: ``no-candidates``, or ``unequal-tie`` for unlike tied widths.
        BudgetError: ``memory-bound``, ``too-large``.
    """
    return _start(prepared, objective, budget, torch.Generator(), limits).unknown


@dataclass(frozen=True, eq=False)
class _Start:
    """The over-grown graph before anything is searched in it, and how it is to be searched."""

    overgrown: OverGrown
    groups: tuple[SearchGroup, ...]
    costs: StepCosts
    limits: SearchLimits
    multiply_adds: int | None
    unknown: str


def _start(
    prepared: PreparedModel,
    objective: Objective,
    budget: ResolvedBudget,
    generator: torch.Generator,
    limits: SearchLimits,
) -> _Start:
    """Over-grow the model, and see which candidates fit into memory beside each other."""
    overgrown = _overgrow_all(prepared, budget, generator)
    costs = StepCosts(objective, limits.costs or limits.memory is not None)
    needed = costs.largest_memory([overgrown])
    if needed is not None and limits.memory is None:
        memory = available_memory(device_of(prepared.captured.model))
        least = objective.ranks.largest(-memory)
        limits = replace(limits, memory=None if least is None else -least)
    groups = partition_widths(prepared, overgrown, objective, limits.memory, needed)
    cost, unknown = costs.multiply_adds(overgrown, limits.costs)
    return _Start(overgrown, groups, costs, limits, cost, unknown)


def _overgrow_all(
    prepared: PreparedModel, budget: ResolvedBudget, generator: torch.Generator
) -> OverGrown:
    """The graph with every proposed candidate in it; tied widths must have the same ones."""
    proposal = prepared.proposal
    # A split neuron has a candidate of its own beside the new ones.
    added = dict(proposal.new)
    for width in proposal.split:
        added[width] = added.get(width, 0) + prepared.coupling.widths[width].size
    model = prepared.captured.model
    needed = candidate_bytes(model, prepared.coupling, added)
    what, advice = "the parameters of so many candidates", "ask for fewer new ones per width"
    require_memory(needed, what, advice, BudgetError, device_of(model))
    overgrown = overgrow(
        prepared.captured,
        prepared.coupling,
        proposal.split,
        proposal.new,
        generator,
        prepared.layers.keys(),
        halves=prepared.halves,
    )
    refusals = {**proposal.refusals, **overgrown.refusals}
    overgrown = replace(overgrown, refusals=refusals)
    _require_candidates(prepared, overgrown)
    require_equal_candidates(prepared.coupling, budget.ties, overgrown.candidates)
    return overgrown


def _require_candidates(prepared: PreparedModel, overgrown: OverGrown) -> None:
    candidates = overgrown.candidates
    if candidates.split or candidates.new:
        return
    reasons = []
    for width, refusal in list(overgrown.refusals.items())[:5]:
        reasons.append(f"{prepared.coupling.widths[width].name}: {refusal.reason}")
    listed = "; ".join(reasons) or _NONE_PROPOSED
    raise GrowthError("no-candidates", f"no candidate could be inserted ({listed})")


_NONE_PROPOSED = (
    "the method proposes none that fit; widths under norms, and those that begin at a parameter, "
    "take new neurons but no splits"
)


def search_candidates(
    prepared: PreparedModel,
    overgrown: OverGrown,
    groups: Sequence[SearchGroup],
    method: Method,
    objective: Objective,
    budget: ResolvedBudget,
    generator: torch.Generator,
) -> tuple[list[OverGrown], Scores]:
    """Let the method relax and score the candidates, group by group.

    Args:
        prepared: the model with its candidates.
        overgrown: the graph with all candidates; it is searched itself if there is one group.
        groups: the widths whose candidates share a graph.
        method: relaxes and scores.
        objective: the loss on the growth batches.
        budget: for methods that try out whole selections.
        generator: draws the initial directions of every group's candidates.

    Returns:
        The graph of every group after its search, and all scores in the order of ``overgrown``.
    """
    parts: list[OverGrown] = []
    scores: list[Scores] = []
    for group in groups:
        is_only_group = len(groups) == 1
        part = overgrown if is_only_group else overgrow_group(prepared, group, generator)
        _require_same_candidates(overgrown.candidates, part.candidates, group)
        objective.require_safe_kernels(part.graph_module)
        # Some methods score by what a selection would be.
        choose = partial(select, candidates=part.candidates, resolved=budget)
        scores.append(method.search(part, objective, generator, choose))
        parts.append(part)
    # The scores of one group are in the right order already.
    if len(groups) == 1:
        return parts, scores[0]
    return parts, _join_scores(overgrown.candidates, parts, scores)


def _require_same_candidates(whole: Candidates, part: Candidates, group: SearchGroup) -> None:
    members = set(group)
    same_split = part.split.keys() == members & whole.split.keys()
    same_new = part.new.keys() == members & whole.new.keys()
    if not (same_split and same_new):
        raise InternalError(f"widths {group} have other candidates alone than beside the others")


def _join_scores(whole: Candidates, parts: Sequence[OverGrown], scores: Sequence[Scores]) -> Scores:
    """The scores of all groups, put in the order of the graph with all candidates."""
    split = torch.zeros_like(whole.split_eps.detach())
    new = torch.zeros_like(whole.new_eps.detach())
    for part, part_scores in zip(parts, scores, strict=True):
        for width, places in part.candidates.split.items():
            split[whole.split[width]] = part_scores.split[places]
        for width, places in part.candidates.new.items():
            new[whole.new[width]] = part_scores.new[places]
    return Scores(split, new, all(part_scores.per_cost for part_scores in scores))


def select_candidates(
    prepared: PreparedModel,
    overgrown: OverGrown,
    parts: Sequence[OverGrown],
    scores: Scores,
    budget: ResolvedBudget,
) -> tuple[OverGrown, Selection]:
    """Select once over all scores, and switch off everything else.

    Args:
        prepared: the model with its candidates.
        overgrown: the graph with all candidates.
        parts: the searched graphs, one per group.
        scores: in the order of ``overgrown``.
        budget: what may be added.

    Returns:
        One graph with the selected candidates on (``overgrown`` itself if there is one group), and
        the selection in the order of its candidates.
    """
    # One ranking over all groups: the budget is shared by all widths.
    selection = select(scores, overgrown.candidates, budget)
    chosen = overgrown
    # Searched group by group, the winners lie in several graphs.
    if parts[0] is not overgrown:
        chosen, selection = _gather_selected(prepared, overgrown, parts, selection)
    selection.switch_off_others(chosen.candidates)
    return chosen, selection


def _gather_selected(
    prepared: PreparedModel,
    overgrown: OverGrown,
    parts: Sequence[OverGrown],
    selection: Selection,
) -> tuple[OverGrown, Selection]:
    """One graph with the selected candidates of all groups, and the selection in its order."""
    gathered = _overgrow_selected(prepared, overgrown, selection)
    kept = {}
    for width, places in overgrown.candidates.new.items():
        kept[width] = selection.new[places]
    for part in parts:
        copy_candidates(part, gathered, kept)
    return gathered, _narrow_selection(selection, overgrown.candidates, gathered.candidates)


def _overgrow_selected(
    prepared: PreparedModel, overgrown: OverGrown, selection: Selection
) -> OverGrown:
    """A graph with the widths that gain neurons; of the new neurons only the selected ones."""
    candidates = overgrown.candidates
    split: list[int] = []
    for width, places in candidates.split.items():
        if selection.split[places].any():
            split.append(width)
    new = {}
    for width, places in candidates.new.items():
        new[width] = int(selection.new[places].sum())
    gathered = overgrow(
        prepared.captured,
        prepared.coupling,
        split,
        new,
        torch.Generator(),
        prepared.layers.keys(),
        halves=prepared.halves,
    )
    with_new = {width for width, count in new.items() if count}
    found = gathered.candidates
    if found.split.keys() != set(split) or found.new.keys() != with_new:
        raise InternalError("a selected width has no candidates beside the other selected ones")
    return replace(gathered, refusals=overgrown.refusals)


def _narrow_selection(selection: Selection, whole: Candidates, part: Candidates) -> Selection:
    """A selection over all candidates as one over the candidates that are left.

    A split width keeps all its split candidates, selected or not; of the new neurons only the
    selected ones are left.
    """
    split_indices: list[int] = []
    for width in part.split:
        places = whole.split[width]
        split_indices.extend(range(places.start, places.stop))
    new_indices: list[int] = []
    for width in part.new:
        places = whole.new[width]
        for index in range(places.start, places.stop):
            if selection.new[index]:
                new_indices.append(index)
    at_split = torch.tensor(split_indices, dtype=torch.long)
    at_new = torch.tensor(new_indices, dtype=torch.long)
    of_all = selection.scores
    scores = Scores(of_all.split[at_split], of_all.new[at_new], of_all.per_cost)
    return Selection(selection.split[at_split], selection.new[at_new], scores, selection.spent)
