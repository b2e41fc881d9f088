"""What each unit of the budget bought."""

from collections.abc import Mapping
from dataclasses import dataclass

from fxgrow.growth.budget import ResolvedBudget
from fxgrow.growth.prepare import PreparedModel
from fxgrow.growth.search import SearchResult


@dataclass(frozen=True)
class Spending:
    """One unit of the budget.

    Args:
        present: what the model had before.
        limit: how much more was allowed.
        spent: what was added.
    """

    present: float
    limit: float
    spent: float


@dataclass(frozen=True)
class PlanRow:
    """One width that grew.

    Args:
        width: its name.
        split: how many of its neurons are split.
        new: how many neurons are new.
        score: the sum of the scores of its candidates.
        cost: by unit, the cost of growing this width alone. Two widths at both ends of a layer cost
            more together, so the rows add up to at most what was spent.
    """

    width: str
    split: int
    new: int
    score: float
    cost: Mapping[str, float]

    def worth(self, unit: str) -> float | None:
        """The score per unit of that cost; None if the width came for nothing."""
        if not self.cost[unit]:
            return None
        return self.score / self.cost[unit]


@dataclass(frozen=True)
class Plan:
    """What was bought.

    Args:
        rows: one per width that grew, the best score per cost first.
        spending: the budget by unit.
    """

    rows: tuple[PlanRow, ...]
    spending: Mapping[str, Spending]

    @property
    def whole(self) -> PlanRow:
        """All rows together, at the price that was paid."""
        split = new = 0
        score = 0.0
        for row in self.rows:
            split += row.split
            new += row.new
            score += row.score
        spent = {unit: spending.spent for unit, spending in self.spending.items()}
        return PlanRow("all", split, new, score, spent)


def budget_plan(prepared: PreparedModel, result: SearchResult, budget: ResolvedBudget) -> Plan:
    """The plan behind a selection.

    Args:
        prepared: the model with its candidates.
        result: what the search chose.
        budget: the limits and what each neuron costs.

    Returns:
        One row per width that grows, and the spending by unit.
    """
    rated: list[tuple[float, PlanRow]] = []
    for number, change in result.width_changes.items():
        width = prepared.coupling.widths[number]
        size_before = 0 if number in prepared.layers else width.size
        added = change.size - size_before
        if not added:
            continue
        counts = {number: added}
        scores = result.selection.chosen_scores(result.overgrown.candidates, number)
        score = sum(scores)
        cost = {limit.unit: limit.cost_model.estimate(counts) for limit in budget.limits}
        row = PlanRow(width.name, added - change.new, change.new, score, cost)
        rated.append((score / budget.relative_cost(counts), row))
    rated.sort(key=lambda pair: -pair[0])
    spending = {}
    for limit in budget.limits:
        spent = result.selection.spent[limit.unit]
        spending[limit.unit] = Spending(limit.cost_model.current, limit.limit, spent)
    return Plan(tuple(row for _, row in rated), spending)
