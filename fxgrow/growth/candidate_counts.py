"""How many candidates for new neurons there are: as many as the budget can buy.

With a fixed number per width a large budget is not spent: nothing is left to buy. With as many as
the budget buys in one width alone, the over-grown graph of a deep network would be many times the
network. So every width gets the same number, the smallest with which the new neurons of all widths
together spend the budget; that is no more than the grown model, and in a network of one width it is
all that the width may gain. A method that does not choose between candidates asks for numbers in
proportion to the sizes instead: every width grows by the same share.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import replace

from fxgrow.documents import limits
from fxgrow.growth.budget import UNLIMITED, ResolvedBudget, Tie
from fxgrow.growth.cost_models import UNITS, Counts
from fxgrow.growth.plan import Plan
from fxgrow.growth.prepare import PreparedModel
from fxgrow.growth.search import SearchResult


def with_candidates_for_budget(prepared: PreparedModel, budget: ResolvedBudget) -> PreparedModel:
    """Raise the number of candidates for new neurons to what the budget can buy.

    Args:
        prepared: the model; its proposal says whether the numbers follow the budget.
        budget: the limits.

    Returns:
        The model with at least as many candidates as before, at most ``limits.CANDIDATES`` more per
        width. Candidate layers keep theirs.
    """
    proposal = prepared.proposal
    if not proposal.follows_budget:
        return prepared
    new = dict(proposal.new)
    rule = _in_proportion if proposal.in_proportion else _equally
    widths = proposal.new.keys() - prepared.layers.keys()
    for width, count in rule(_largest_growths(widths, budget), budget).items():
        new[width] = max(new[width], count)
    return replace(prepared, proposal=replace(proposal, new=new))


def neurons_after(prepared: PreparedModel, budget: ResolvedBudget) -> int:
    """How many neurons all widths that may grow have once the budget is spent in proportion.

    Args:
        prepared: the model.
        budget: the limits.
    """
    widths = budget.sizes.keys() - prepared.layers.keys()
    added = _in_proportion(_largest_growths(widths, budget), budget)
    return sum(budget.sizes[width] + count for width, count in added.items())


def _equally(most: Counts, budget: ResolvedBudget) -> dict[int, int]:
    """The smallest equal growth of all widths that takes the whole budget.

    Args:
        most: by how many neurons each width may grow.
        budget: the limits.
    """

    def counts(level: int) -> dict[int, int]:
        return {width: min(level, count) for width, count in most.items()}

    # Whether a level spends all is False, ..., False, True, ..., True over the levels.
    levels = range(max(most.values(), default=0))
    return counts(bisect_left(levels, 1, key=lambda level: not budget.allows(counts(level))))


def _in_proportion(most: Counts, budget: ResolvedBudget) -> dict[int, int]:
    """The largest growth of all widths by the same share that the budget allows.

    What is left of the budget goes into single steps, of the width that is furthest behind first.

    Args:
        most: by how many neurons each width may grow.
        budget: the limits.
    """
    largest = max((budget.sizes[width] for width in most), default=1)
    shares = {width: budget.sizes[width] / largest for width in most}

    def counts(level: int) -> dict[int, int]:
        """What each width gets if the largest one gets ``level``."""
        found = {}
        for width, count in most.items():
            wanted = min(math.floor(shares[width] * level), count)
            found[width] = _whole_steps(width, wanted, budget)
        return found

    # Whether a level is too large is False, ..., False, True, ..., True over the levels.
    highest = max((math.ceil(most[width] / shares[width]) for width in most), default=0)
    levels = range(1, highest + 1)
    level = bisect_left(levels, 1, key=lambda level: not budget.allows(counts(level)))
    found = counts(level)
    open_ties = {tuple(one for one in budget.tied(width) if one in most) for width in most}
    while open_ties:
        tie = min(open_ties, key=lambda tie: (found[tie[0]] / budget.sizes[tie[0]], tie))
        longer = found[tie[0]] + _next_step(tie[0], found[tie[0]], budget)
        raised = {**found, **dict.fromkeys(tie, longer)}
        if longer <= most[tie[0]] and budget.allows(raised):
            found = raised
        else:
            open_ties.remove(tie)
    return found


def _whole_steps(width: int, count: int, budget: ResolvedBudget) -> int:
    """The largest growth of a width, of at most ``count`` neurons, at a size it may have."""
    size = budget.sizes[width]
    return max(0, (size + count) // budget.round_to * budget.round_to - size)


def _next_step(width: int, count: int, budget: ResolvedBudget) -> int:
    """How many neurons more bring a width to the next size that it may have."""
    return -(budget.sizes[width] + count) % budget.round_to or budget.round_to


def _largest_growths(widths: Iterable[int], budget: ResolvedBudget) -> dict[int, int]:
    """By how many neurons each width may grow if no other does, but those that it is tied to."""
    return {width: _largest_growth(budget.tied(width), budget) for width in widths}


def _largest_growth(tie: Tie, budget: ResolvedBudget) -> int:
    """By how many neurons each width of a tie may grow if no other does."""
    most = min(limits.CANDIDATES, *(budget.max_new.get(width, 0) for width in tie))

    def exceeds(count: int) -> bool:
        return not budget.allows(dict.fromkeys(tie, count))

    return bisect_left(range(1, most + 1), 1, key=exceeds)


def unspent_for_want_of_candidates(
    prepared: PreparedModel, result: SearchResult, budget: ResolvedBudget, plan: Plan
) -> str:
    """Say what was not spent because a width had no candidates left.

    Args:
        prepared: the model with its candidates.
        result: what was selected.
        budget: the limits.
        plan: what was spent.

    Returns:
        A sentence; "" if the budget would not buy another step of any width.
    """
    counts: dict[int, int] = {}
    for width, change in result.width_changes.items():
        old_size = 0 if width in prepared.layers else prepared.coupling.widths[width].size
        counts[width] = change.size - old_size
    candidates = result.overgrown.candidates
    short = []
    for width in sorted(candidates.split.keys() | candidates.new.keys()):
        if width not in prepared.layers and _is_short(width, counts, prepared, budget):
            short.append(prepared.coupling.widths[width].name)
    if not short:
        return ""
    spent = []
    for unit, spending in plan.spending.items():
        spent.append(f"{round(spending.spent):,} of {round(spending.limit):,} {UNITS[unit]}")
    names = f"{', '.join(short[:3])}{', ...' if len(short) > 3 else ''}"
    advice = "ask for more new neurons per width (new=)"
    if prepared.proposal.in_proportion:  # whose numbers nobody sets
        advice = "it was meant for widths that could take no part (report.refusals)"
    return (
        f"the candidates ran out before the budget was spent ({', '.join(spent)}; none are left in "
        f"{names}); {advice}"
    )


def _is_short(
    width: int, counts: dict[int, int], prepared: PreparedModel, budget: ResolvedBudget
) -> bool:
    """Whether all candidates of a width are taken, and the budget allows it another step."""
    proposal, tie = prepared.proposal, budget.tied(width)
    available = proposal.new.get(width, 0)
    if width in proposal.split:
        available += prepared.coupling.widths[width].size
    total = 0
    for step in budget.step_sizes(tie, UNLIMITED):
        total += step
        if total > counts.get(width, 0):
            break
    else:
        return False  # the width may not grow any more
    return total > available and budget.allows({**counts, **dict.fromkeys(tie, total)})
