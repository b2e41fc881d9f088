"""Budgets: what a growth step may add, and what that comes to for one model.

Wu et al. 2020, Eqs. 1 and 3: C(f[t+1]) <= C(f[t]) + eta[t] for every cost C that is limited, ||eps||_0 <= eta[t] being
the one in neurons.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, model_validator

from fxgrow.capture import Captured
from fxgrow.coupling import Coupling
from fxgrow.documents import limits
from fxgrow.errors import BudgetError
from fxgrow.growth.cost_models import COST_MODELS, UNITS, CostModel, Counts

Amount = int | float

Tie = tuple[int, ...]
"""Numbers of widths that grow alike."""

UNLIMITED = 1 << 62
"""More neurons than there can be."""

MIN_RELATIVE_COST = 1e-9
"""The smallest price: among candidates that cost nothing the better one still goes first."""


RANGES = {"round_to": (1, limits.NEURONS), "layers": (0, limits.ENTRIES)}


class Budget(BaseModel):
    """What one growth step may add. An int is an amount, a float a fraction of what the model has now.

    ``neurons``: of all growable widths; ``parameters``; ``multiply_adds``, of one pass over the example inputs;
    ``activation_memory``: bytes that such a pass keeps for the backward pass; ``latency``: microseconds that it takes
    on this device, measured. All that are given must hold. ``layers``: how many candidate layers may get neurons;
    ``per_width``: the same rule for the neurons of every single width; ``round_to``: every width that grows ends at a
    multiple of it, and a width that reaches none within the budget stays as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    neurons: Amount | None = None
    layers: int | None = None
    parameters: Amount | None = None
    multiply_adds: Amount | None = None
    activation_memory: Amount | None = None
    latency: Amount | None = None
    per_width: Amount | None = None
    round_to: int = 1

    @model_validator(mode="after")
    def _positive(self) -> "Budget":
        for name, amount in {**self.amounts, "per_width": self.per_width}.items():
            if amount is not None and not 0 < amount < float("inf"):
                raise BudgetError(
                    "empty-budget",
                    f"a budget of {str(amount)[:20]} {UNITS.get(name, name)} buys nothing; give a count or a "
                    "fraction above 0",
                )
            if amount is not None and amount > limits.AMOUNT:
                raise BudgetError(
                    "bad-budget",
                    f"{name} allows more than {limits.AMOUNT}; leave it out if it is to be no limit",
                )
        if not self.amounts:
            raise BudgetError(
                "empty-budget", f"a budget without a limit; give one of {', '.join(COST_MODELS)}"
            )
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise BudgetError(
                    "bad-budget", f"{name}={str(value)[:20]} cannot be met; give {least} to {most}"
                )
        return self

    @property
    def amounts(self) -> dict[str, Amount]:
        """The limits that are given, by unit."""
        return {unit: amount for unit in COST_MODELS if (amount := getattr(self, unit)) is not None}


@dataclass(frozen=True)
class Limit:
    """At most ``limit`` may be added of what ``meter`` counts, in the unit of that name."""

    unit: str
    limit: float
    cost_model: CostModel


@dataclass(frozen=True)
class ResolvedBudget:
    """A budget for one model. ``room[width]``: how many neurons that width may gain in all, ``sizes``: what it has.

    ``layers``: the hidden widths of candidate layers, of which at most ``most_layers`` may get neurons. ``ties``:
    widths that grow alike, each by its number in at most one tie.
    """

    limits: tuple[Limit, ...]
    max_new: Mapping[int, int]
    sizes: Mapping[int, int]
    round_to: int = 1
    layers: frozenset[int] = frozenset()
    max_layers: int | None = None
    ties: tuple[Tie, ...] = ()

    def tied(self, width: int) -> Tie:
        """The widths that grow as this one does, itself included."""
        return next((tie for tie in self.ties if width in tie), (width,))

    def allows(self, counts: Counts) -> bool:
        """Whether these neurons are within every cap, as far as can be told without building the model."""
        layers = sum(width in self.layers and count > 0 for width, count in counts.items())
        if self.max_layers is not None and layers > self.max_layers:
            return False
        return all(limit.cost_model.estimate(counts) <= limit.limit for limit in self.limits)

    def relative_cost(self, counts: Counts) -> float:
        """The largest share of a cap that these neurons take: the cap that binds is the one to be spared."""
        return max(
            MIN_RELATIVE_COST,
            *(limit.cost_model.estimate(counts) / limit.limit for limit in self.limits),
        )

    def measured_cost(self, counts: Counts) -> dict[str, float]:
        """What these neurons cost on the grown model, by unit."""
        return {limit.unit: limit.cost_model.measure(counts) for limit in self.limits}

    def step_sizes(self, tie: Tie, most: int) -> Iterator[int]:
        """In which portions each of those widths, all of one size, may gain up to ``most`` neurons."""
        step = -self.sizes[tie[0]] % self.round_to or self.round_to
        left = min(most, *(self.max_new[width] for width in tie))
        while step <= left:
            yield step
            left, step = left - step, self.round_to


def resolve_budget(
    budget: Budget,
    captured: Captured,
    coupling: Coupling,
    layers: Iterable[int] = (),
    ties: tuple[Tie, ...] = (),
) -> ResolvedBudget:
    """The caps of a budget for this model. Raises BudgetError if no growable width can take its smallest step.

    ``layers``: hidden widths of candidate layers, whose neurons are blank and count as none. ``ties``: see ``Purse``.
    """
    cost_models = {unit: COST_MODELS[unit](captured, coupling) for unit in budget.amounts}
    limits = tuple(
        Limit(unit, _limit(unit, amount, cost_models[unit].current), cost_models[unit])
        for unit, amount in budget.amounts.items()
    )
    blank = frozenset(layers)
    present = {number: width.size for number, width in enumerate(coupling.widths) if width.growable}
    max_new = {
        n: UNLIMITED if n in blank else _max_new(budget.per_width, size)
        for n, size in present.items()
    }
    sizes = {n: 0 if n in blank else size for n, size in present.items()}
    resolved = ResolvedBudget(limits, max_new, sizes, budget.round_to, blank, budget.layers, ties)
    _require_one(budget, resolved, coupling)
    return resolved


def _limit(unit: str, amount: Amount, present: float) -> float:
    limit = float(amount) if isinstance(amount, int) else amount * present
    return round(limit) if unit == "neurons" else limit


def _max_new(per_width: Amount | None, size: int) -> int:
    if per_width is None:
        return UNLIMITED
    return per_width if isinstance(per_width, int) else math.floor(per_width * size)


def _require_one(budget: Budget, resolved: ResolvedBudget, coupling: Coupling) -> None:
    ties = dict.fromkeys(resolved.tied(n) for n in resolved.sizes)
    first = {
        tie: dict.fromkeys(tie, step)
        for tie in ties
        if (step := next(resolved.step_sizes(tie, UNLIMITED), 0))
    }
    if not first:
        raise BudgetError(
            "empty-budget",
            f"per_width={budget.per_width} leaves no width room for round_to={budget.round_to}; ask for more",
        )
    for limit in resolved.limits:
        costs = {tie: limit.cost_model.estimate(counts) for tie, counts in first.items()}
        tie = min(costs, key=lambda tie: costs[tie])
        if costs[tie] > limit.limit:
            names = " and ".join(repr(coupling.widths[n].name) for n in tie)
            raise BudgetError(
                "empty-budget",
                f"{_spoken(budget.amounts[limit.unit], limit)} are less than one step of growth costs; the cheapest, "
                f"{first[tie][tie[0]]} more in width {names}, costs {costs[tie]:g}; ask for more",
            )


def _spoken(amount: Amount, limit: Limit) -> str:
    share = f" of the {limit.cost_model.current:g}" if isinstance(amount, float) else ""
    return f"{amount}{share} {UNITS[limit.unit]}"
