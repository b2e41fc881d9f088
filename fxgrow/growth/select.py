"""Select the best candidates within a budget (Wu et al. 2020, Eq. 5 under its constraints).

Candidates are bought greedily by |eps_i s_i| per unit of added cost (or by the scores alone, where
a method asks for that), in increments that keep every width at a multiple of ``round_to``. What
several widths cost together is looked up as the selection fills, not added up. Widths may be tied:
candidates at the same place of all of them are one candidate, with the sum of their scores and the
cost of them all (the cells of one kind, section 3).
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fxgrow.errors import BudgetError
from fxgrow.growth.budget import ResolvedBudget, Tie
from fxgrow.growth.cost_models import Counts
from fxgrow.growth.method import Scores
from fxgrow.rewrite import Candidates
from fxgrow.surgery import Change

CandidateGroup = tuple[int, ...]
"""Candidates that are chosen together: one of each width of a tie."""


@dataclass(frozen=True)
class Selection:
    """Which candidates were chosen.

    Args:
        split: boolean mask over the split candidates, in the order of ``Candidates.split_eps``.
        new: boolean mask over the new-neuron candidates, in the order of ``Candidates.new_eps``.
        scores: of all candidates, chosen or not.
        spent: what the chosen ones add to the model, by unit of the budget.
    """

    split: Tensor
    new: Tensor
    scores: Scores
    spent: Mapping[str, float] = field(default_factory=dict)

    @torch.no_grad()
    def switch_off_others(self, candidates: Candidates) -> None:
        """Set eps of every candidate that was not chosen to 0."""
        candidates.split_eps.mul_(self.split.to(candidates.split_eps))
        candidates.new_eps.mul_(self.new.to(candidates.new_eps))
        candidates.is_selected.copy_(self.new)

    def change(self, candidates: Candidates, width: int, size: int) -> Change:
        """What happens to the neurons of one width.

        Args:
            candidates: the candidates that the masks are about.
            width: its number.
            size: its number of neurons before.

        Returns:
            How often each old neuron occurs afterwards, and how many new ones follow.
        """
        num_new = 0
        if width in candidates.new:
            num_new = int(self.new[candidates.new[width]].sum())
        if width in candidates.layers:  # the old neurons of a candidate layer are blank: they go
            return Change((0,) * size, num_new)
        if width not in candidates.split or not candidates.halves:
            # An unlocked neuron (``halves`` off) is changed in place, so no copy follows it.
            return Change((1,) * size, num_new)
        is_split = self.split[candidates.split[width]]
        return Change(tuple((1 + is_split.long()).tolist()), num_new)

    def chosen_scores(self, candidates: Candidates, width: int) -> tuple[float, ...]:
        """The scores of a width's chosen candidates, best first."""
        kinds = (
            (self.scores.split, self.split, candidates.split),
            (self.scores.new, self.new, candidates.new),
        )
        chosen: list[float] = []
        for scores, mask, slices in kinds:
            if width in slices:
                places = slices[width]
                chosen += scores[places][mask[places]].tolist()
        return tuple(sorted(chosen, reverse=True))


@dataclass(frozen=True)
class Increment:
    """Candidates of one width, or of tied ones, that are bought together.

    Args:
        tie: the widths.
        members: the candidates, one group per neuron that each width gains.
        worth: their score per unit of relative cost.
    """

    tie: Tie
    members: tuple[CandidateGroup, ...]
    worth: float


def select(scores: Scores, candidates: Candidates, resolved: ResolvedBudget) -> Selection:
    """Select the best candidates of all kinds that the budget allows; among equals the first.

    A budget is spent, even on candidates with a negative score.

    Args:
        scores: how much each candidate is expected to lower the loss.
        candidates: the candidates that the scores are about.
        resolved: the limits, and what neurons cost.

    Returns:
        The selection and what it costs.

    Raises:
        BudgetError: ``empty-budget`` if the budget buys nothing, ``bad-scores`` for a score that
            is no finite number.
    """
    all_scores: list[float] = torch.cat([scores.split, scores.new]).tolist()
    for score in all_scores:
        if not -float("inf") < score < float("inf"):
            raise BudgetError(
                "bad-scores",
                "some candidate's score is not a number; the loss is probably not finite",
            )
    groups = _candidate_groups(candidates, resolved)
    bought, spent = _buy(groups, all_scores, resolved, scores.per_cost)
    chosen = torch.zeros(len(all_scores), dtype=torch.bool)
    for increment in bought:
        for group in increment.members:
            chosen[list(group)] = True
    num_split = len(scores.split)
    return Selection(chosen[:num_split], chosen[num_split:], scores, spent)


def _indices(candidates: Candidates) -> dict[int, list[int]]:
    """The candidates of each width by number: splits first, then new neurons after all splits."""
    num_split = len(candidates.split_eps)
    indices: dict[int, list[int]] = {}
    for offset, slices in ((0, candidates.split), (num_split, candidates.new)):
        for width, places in slices.items():
            numbers = range(offset + places.start, offset + places.stop)
            indices.setdefault(width, []).extend(numbers)
    return indices


def _candidate_groups(
    candidates: Candidates, resolved: ResolvedBudget
) -> dict[Tie, list[CandidateGroup]]:
    """Per width, or per tie of those that have candidates here, the groups that can be bought."""
    indices = _indices(candidates)
    groups: dict[Tie, list[CandidateGroup]] = {}
    for width in indices:
        tie = tuple(number for number in resolved.tied(width) if number in indices)
        if tie not in groups:
            groups[tie] = list(zip(*(indices[number] for number in tie), strict=True))
    return groups


def _buy(
    groups: Mapping[Tie, Sequence[CandidateGroup]],
    scores: Sequence[float],
    resolved: ResolvedBudget,
    per_cost: bool,
) -> tuple[list[Increment], dict[str, float]]:
    """Fill the selection; while it measures as more than was estimated, give back the worst."""
    increments = _ranked(groups, scores, resolved, per_cost)
    bought = greedy_fill(increments, resolved.allows)
    while bought:
        spent = resolved.measured_cost(counts_of(bought))
        excess = max(spent[limit.unit] / limit.limit for limit in resolved.limits)
        if excess <= 1:
            return bought, spent
        fewer = int(len(bought) / excess)
        bought = bought[: min(len(bought) - 1, fewer)]
    raise BudgetError("empty-budget", "no candidate fits into the budget; ask for more")


def ranked_increments(
    scores: Scores, candidates: Candidates, resolved: ResolvedBudget
) -> list[Increment]:
    """All candidates in the steps in which they can be bought, best first.

    Args:
        scores: how much each candidate is expected to lower the loss.
        candidates: the candidates that the scores are about.
        resolved: the limits, and what neurons cost.
    """
    all_scores = torch.cat([scores.split, scores.new]).tolist()
    groups = _candidate_groups(candidates, resolved)
    return _ranked(groups, all_scores, resolved, scores.per_cost)


def _ranked(
    groups: Mapping[Tie, Sequence[CandidateGroup]],
    scores: Sequence[float],
    resolved: ResolvedBudget,
    per_cost: bool,
) -> list[Increment]:
    """The increments of all widths and ties, best first."""
    increments: list[Increment] = []
    for tie, members in groups.items():
        increments += _increments(tie, members, scores, resolved, per_cost)
    return sorted(increments, key=lambda increment: -increment.worth)


def _increments(
    tie: Tie,
    groups: Sequence[CandidateGroup],
    scores: Sequence[float],
    resolved: ResolvedBudget,
    per_cost: bool,
) -> list[Increment]:
    """The candidates of a width or tie, best first, in the steps that it may take.

    A gain is divided by its cost, and a loss multiplied by it. A later increment must not come
    before an earlier one of its width, hence the running minimum.
    """
    gains: dict[CandidateGroup, float] = {}
    for group in groups:
        gains[group] = sum(scores[index] for index in group)
    best_first = sorted(groups, key=lambda group: (-gains[group], group))
    costs: dict[int, float] = {}  # by size: there are few sizes, and a cost takes time
    increments: list[Increment] = []
    start, worth = 0, float("inf")
    for size in resolved.step_sizes(tie, len(best_first)):
        members = tuple(best_first[start : start + size])
        start += size
        if size not in costs:
            # Without a cost the gain is taken per neuron, so that a longer step does not go first.
            amount = dict.fromkeys(tie, size)
            costs[size] = resolved.relative_cost(amount) if per_cost else sum(amount.values())
        gain = sum(gains[group] for group in members)
        rate = gain / costs[size] if gain > 0 else gain * costs[size]
        worth = min(worth, rate)
        increments.append(Increment(tie, members, worth))
    return increments


def greedy_fill(
    increments: Sequence[Increment], allows: Callable[[Counts], bool]
) -> list[Increment]:
    """Take the increments in turn; once one is not allowed, no other of its tie is taken.

    Args:
        increments: best first.
        allows: whether neurons per width are within the budget; once false, it stays false as more
            are added.

    Returns:
        The increments that were taken.
    """
    taken: list[Increment] = []
    while increments:
        count = _longest_allowed(taken, increments, allows)
        taken += increments[:count]
        closed = {increment.tie for increment in increments[count : count + 1]}
        rest = increments[count:]
        increments = [increment for increment in rest if increment.tie not in closed]
    return taken


def _longest_allowed(
    taken: Sequence[Increment], more: Sequence[Increment], allows: Callable[[Counts], bool]
) -> int:
    """How many increments are allowed beside those that are taken: doubled, then by bisection."""

    def exceeds(count: int) -> bool:
        return not allows(counts_of([*taken, *more[:count]]))

    # Once a tie is closed there are often few, so that far ahead there is nothing to be found.
    beyond = 1
    while beyond <= len(more) and not exceeds(beyond):
        beyond *= 2
    # exceeds is False, ..., False, True, ..., True over the counts from 1 on.
    counts = range(1, min(beyond, len(more)) + 1)
    return bisect_left(counts, 1, lo=beyond // 2, key=exceeds)


def counts_of(increments: Sequence[Increment]) -> Counts:
    """How many neurons each width gains."""
    # A plain dict: with hundreds of widths this is called for a million increments.
    counts: dict[int, int] = {}
    for increment in increments:
        for width in increment.tie:
            counts[width] = counts.get(width, 0) + len(increment.members)
    return counts
