"""How many candidates for new neurons there are: as many as the budget can buy.

With a fixed number per width a large budget is not spent: nothing is left to buy. With as many as
the budget buys in one width alone, the over-grown graph of a deep network would be many times the
network. So every width gets the same number, the smallest with which the new neurons of all widths
together spend the budget; that is no more than the grown model, and in a network of one width it is
all that the width may gain.
"""

from bisect import bisect_left
from dataclasses import replace

from fxgrow.documents import limits
from fxgrow.growth.budget import UNLIMITED, ResolvedBudget, Tie
from fxgrow.growth.cost_models import UNITS
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
    most: dict[int, int] = {}
    for width in proposal.new.keys() - prepared.layers.keys():
        most[width] = _largest_growth(budget.tied(width), budget)

    def spends_all(level: int) -> bool:
        return not budget.allows({width: min(level, count) for width, count in most.items()})

    # spends_all is False, ..., False, True, ..., True over the levels.
    levels = range(max(most.values(), default=0))
    level = bisect_left(levels, 1, key=spends_all)
    new = dict(proposal.new)
    for width, count in most.items():
        new[width] = max(new[width], min(level, count))
    return replace(prepared, proposal=replace(proposal, new=new))


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
    return (
        f"the candidates ran out before the budget was spent ({', '.join(spent)}; none are left in "
        f"{names}); ask for more new neurons per width (new=)"
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
