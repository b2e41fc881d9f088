"""What each unit of the budget bought."""

from collections.abc import Mapping
from dataclasses import dataclass

from fxgrow.coupling import Coupling
from fxgrow.growth.budget import ResolvedBudget
from fxgrow.growth.select import Selection
from fxgrow.rewrite import Candidates


@dataclass(frozen=True)
class Spending:
    """One unit of the budget: what the model had, how much more was allowed, and what was added."""

    present: float
    limit: float
    spent: float


@dataclass(frozen=True)
class PlanRow:
    """One width: how many of its neurons are split and how many are new, the sum of their scores, and their cost.

    ``cost``, by unit, is that of growing this width alone. Two widths at both ends of a layer cost more together, so
    the costs of all rows come to at most what was spent.
    """

    width: str
    split: int
    new: int
    score: float
    cost: Mapping[str, float]

    def worth(self, unit: str) -> float | None:
        """The score per unit of that cost; None if the width came for nothing."""
        return self.score / self.cost[unit] if self.cost[unit] else None


@dataclass(frozen=True)
class Plan:
    """What was bought, and with what."""

    rows: tuple[PlanRow, ...]
    spending: Mapping[str, Spending]

    @property
    def whole(self) -> PlanRow:
        """All rows together, at the price that was paid."""
        split, new = sum(row.split for row in self.rows), sum(row.new for row in self.rows)
        spent = {unit: spending.spent for unit, spending in self.spending.items()}
        return PlanRow("all", split, new, sum(row.score for row in self.rows), spent)


def budget_plan(
    coupling: Coupling, candidates: Candidates, selection: Selection, resolved: ResolvedBudget
) -> Plan:
    """The plan behind a selection: one row per width that grows, the best bargain first."""
    rows = []
    for number in sorted(candidates.split.keys() | candidates.new.keys()):
        width = coupling.widths[number]
        change = selection.change(candidates, number, width.size)
        added = change.size - (0 if number in candidates.layers else width.size)
        if added:
            counts = {number: added}
            score = sum(selection.chosen_scores(candidates, number))
            cost = {limit.unit: limit.cost_model.estimate(counts) for limit in resolved.limits}
            row = PlanRow(width.name, added - change.new, change.new, score, cost)
            rows.append((score / resolved.relative_cost(counts), row))
    best = sorted(rows, key=lambda pair: -pair[0])
    spending = {
        limit.unit: Spending(limit.cost_model.current, limit.limit, selection.spent[limit.unit])
        for limit in resolved.limits
    }
    return Plan(tuple(row for _, row in best), spending)
