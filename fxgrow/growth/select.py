"""The selection of the best candidates within a budget (Wu et al. 2020, Eq. 5 under its constraints; ALGORITHM 3).

Candidates are bought greedily by |eps_i s_i| per unit of added cost, in portions that keep every width at a multiple
of ``round_to``; what the added cost of several widths together comes to is looked up as the basket fills, not added up.
Widths may be tied: candidates at the same place of all of them are one candidate, with the sum of their scores and the
price of them all (the cells of one kind, section 3).
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

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
    """Which candidates were chosen (boolean masks over split_eps and new_eps), and everybody's scores.

    ``spent``: what the chosen ones add to the model, by unit of the budget.
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

    def change(self, candidates: Candidates, width: int, size: int) -> Change:
        """What happens to one width; the blank neurons of a layer go."""
        num_new = int(self.new[candidates.new[width]].sum()) if width in candidates.new else 0
        if width in candidates.layers:  # its old neurons are blank
            return Change((0,) * size, num_new)
        if not candidates.halves:  # an unlocked neuron is changed in place
            return Change((1,) * size, num_new)
        split = (
            self.split[candidates.split[width]]
            if width in candidates.split
            else torch.zeros(size, dtype=torch.bool)
        )
        return Change(tuple((1 + split.long()).tolist()), num_new)

    def chosen_scores(self, candidates: Candidates, width: int) -> tuple[float, ...]:
        """The scores of a width's chosen candidates, best first."""
        found = [
            scores[places][mask[places]]
            for scores, mask, slices in (
                (self.scores.split, self.split, candidates.split),
                (self.scores.new, self.new, candidates.new),
            )
            if (places := slices.get(width)) is not None
        ]
        return tuple(sorted(torch.cat(found).tolist(), reverse=True)) if found else ()


@dataclass(frozen=True)
class Increment:
    """Candidates of one width, or of tied ones, that are bought together, and what they are worth for their price."""

    tie: Tie
    members: tuple[CandidateGroup, ...]
    worth: float


def select(scores: Scores, candidates: Candidates, resolved: ResolvedBudget) -> Selection:
    """The best candidates of all kinds together that the purse buys; of equals the first.

    A budget is spent, even on candidates with a negative score. Raises BudgetError if it buys nothing.
    """
    together = torch.cat([scores.split, scores.new]).tolist()
    if not all(-float("inf") < score < float("inf") for score in together):
        raise BudgetError(
            "bad-scores", "some candidate's score is not a number; the loss is probably not finite"
        )
    bought, spent = _buy(_bundles(candidates, resolved), together, resolved)
    chosen = torch.zeros(len(together), dtype=torch.bool)
    chosen[[member for portion in bought for bundle in portion.members for member in bundle]] = True
    return Selection(chosen[: len(scores.split)], chosen[len(scores.split) :], scores, spent)


def _places(candidates: Candidates) -> dict[int, list[int]]:
    """For each width its candidates' numbers: those for splits first, then those for new neurons."""
    offset = len(candidates.split_eps)
    found: dict[int, list[int]] = {}
    for shift, slices in ((0, candidates.split), (offset, candidates.new)):
        for width, places in slices.items():
            found.setdefault(width, []).extend(range(shift + places.start, shift + places.stop))
    return found


def _bundles(candidates: Candidates, resolved: ResolvedBudget) -> dict[Tie, list[CandidateGroup]]:
    """For each width, or each tie of those that have candidates here, what can be bought: one candidate of each."""
    places = _places(candidates)
    ties = dict.fromkeys(tuple(n for n in resolved.tied(width) if n in places) for width in places)
    return {tie: list(zip(*(places[n] for n in tie), strict=True)) for tie in ties}


def _buy(
    bundles: Mapping[Tie, Sequence[CandidateGroup]],
    scores: Sequence[float],
    resolved: ResolvedBudget,
) -> tuple[list[Increment], dict[str, float]]:
    """Fill the basket; while it turns out to cost more than was expected, put the worst back."""
    portions = (
        portion
        for tie, mine in bundles.items()
        for portion in _portions(tie, mine, scores, resolved)
    )
    bought = greedy_fill(sorted(portions, key=lambda portion: -portion.worth), resolved.allows)
    while bought:
        spent = resolved.measured_cost(_counts(bought))
        excess = max(spent[limit.unit] / limit.limit for limit in resolved.limits)
        if excess <= 1:
            return bought, spent
        bought = bought[: min(len(bought) - 1, int(len(bought) / excess))]
    raise BudgetError("empty-budget", "no candidate fits into the budget; ask for more")


def _portions(
    tie: Tie, mine: Sequence[CandidateGroup], scores: Sequence[float], resolved: ResolvedBudget
) -> Iterator[Increment]:
    """The candidates of a width or tie, best first, in the steps that it may take.

    A gain is divided by its price, and a loss multiplied with it. Rounding must not put a later step before an earlier
    one, hence the running minimum.
    """
    gains = {bundle: sum(scores[i] for i in bundle) for bundle in mine}
    best = sorted(mine, key=lambda bundle: (-gains[bundle], bundle))
    ends = [0, *accumulate(resolved.step_sizes(tie, len(best)))]
    members = [tuple(best[a:b]) for a, b in pairwise(ends)]
    prices = {
        size: resolved.relative_cost(dict.fromkeys(tie, size))
        for size in {len(some) for some in members}
    }
    totals = [(sum(gains[bundle] for bundle in some), prices[len(some)]) for some in members]
    worth = accumulate(
        (total / price if total > 0 else total * price for total, price in totals), min
    )
    yield from (Increment(tie, some, value) for some, value in zip(members, worth, strict=True))


def greedy_fill(portions: Sequence[Increment], fits: Callable[[Counts], bool]) -> list[Increment]:
    """Take the portions in turn; once one does not fit, no other of its tie does. ``fits`` never comes back."""
    basket: list[Increment] = []
    while portions:
        more = _longest(basket, portions, fits)
        basket += portions[:more]
        closed = {portion.tie for portion in portions[more : more + 1]}
        portions = [portion for portion in portions[more:] if portion.tie not in closed]
    return basket


def _longest(
    basket: Sequence[Increment], more: Sequence[Increment], fits: Callable[[Counts], bool]
) -> int:
    """How many portions fit in beside those in the basket."""
    ends = range(1, len(more) + 1)
    return bisect_left(ends, 1, key=lambda end: not fits(_counts([*basket, *more[:end]])))


def _counts(portions: Sequence[Increment]) -> Counts:
    counts: Counter[int] = Counter()
    for portion in portions:
        counts.update(dict.fromkeys(portion.tie, len(portion.members)))
    return counts
