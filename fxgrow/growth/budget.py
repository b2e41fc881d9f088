"""Budgets: what a growth step may add, and what that means for one model.

Wu et al. 2020, Eqs. 1 and 3: C(f[t+1]) <= C(f[t]) + eta[t] for every cost C that is limited;
||eps||_0 <= eta[t] is the limit on neurons.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import model_validator

from fxgrow.capture import Captured
from fxgrow.coupling import Coupling
from fxgrow.documents import Settings, limits
from fxgrow.errors import BudgetError, SpecError
from fxgrow.growth.cost_models import BUDGET_UNITS, UNITS, CostModel, Counts

Amount = int | float
"""An int is a number of units, a float a fraction of what the model has."""

Tie = tuple[int, ...]
"""Numbers of widths that grow alike."""

UNLIMITED = 1 << 62
"""More neurons than there can be."""

MIN_RELATIVE_COST = 1e-9
"""The smallest relative cost.

Among candidates that cost nothing the better one still goes first.
"""

RANGES = {"round_to": (1, limits.NEURONS), "layers": (0, limits.ENTRIES)}
"""The least and the largest value of the whole-numbered settings."""


class Budget(Settings):
    """What one growth step may add. All limits that are given must hold.

    An int is an amount, a float a fraction of what the model has now.

    Args:
        neurons: of all growable widths together.
        layers: how many candidate layers may get neurons.
        parameters: of the model.
        multiply_adds: of one pass over the example inputs.
        activation_memory: bytes that such a pass keeps for the backward pass.
        latency: microseconds that such a pass takes on this device, measured.
        per_width: the same rule for the neurons of every single width.
        round_to: every width that grows ends at a multiple of it. A width that reaches none within
            the budget stays as it is.

    Raises:
        BudgetError: ``empty-budget`` without a limit or for an amount of 0 or less, ``bad-budget``
            for a setting out of range.

    Example:
        >>> Budget(parameters=0.2, layers=2, round_to=8)
    """

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
        # Numbers are cut in messages: a file may hold one of a million digits.
        for name, amount in {**self.amounts, "per_width": self.per_width}.items():
            if amount is not None and not 0 < amount < float("inf"):
                raise BudgetError(
                    "empty-budget",
                    f"a budget of {str(amount)[:20]} {UNITS.get(name, name)} buys nothing; "
                    "give a count or a fraction above 0",
                )
            if amount is not None and amount > limits.AMOUNT:
                raise BudgetError(
                    "bad-budget",
                    f"{name} allows more than {limits.AMOUNT}; leave it out if it is to be no "
                    "limit",
                )
        if not self.amounts:
            raise BudgetError(
                "empty-budget", f"a budget without a limit; give one of {', '.join(BUDGET_UNITS)}"
            )
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise BudgetError(
                    "bad-budget", f"{name}={str(value)[:20]} cannot be met; give {least} to {most}"
                )
        return self

    @classmethod
    def _error(cls, sentence: str) -> BudgetError:
        """The error that a wrong value raises."""
        return BudgetError("bad-budget", sentence)

    @property
    def amounts(self) -> dict[str, Amount]:
        """The limits that are given, by unit."""
        given: dict[str, Amount] = {}
        for unit in BUDGET_UNITS:
            amount = getattr(self, unit)
            if amount is not None:
                given[unit] = amount
        return given


@dataclass(frozen=True)
class Limit:
    """One limit of a budget, for one model.

    Args:
        unit: its name in ``Budget``.
        limit: the largest amount that may be added.
        cost_model: what neurons add, in that unit.
    """

    unit: str
    limit: float
    cost_model: CostModel


@dataclass(frozen=True)
class ResolvedBudget:
    """A budget for one model.

    Args:
        limits: one per unit that is limited.
        max_new: per number of a width, how many neurons it may gain in all.
        sizes: per number of a width, how many neurons it has.
        round_to: every width that grows ends at a multiple of it.
        layers: the hidden widths of candidate layers.
        max_layers: how many of these may get neurons.
        ties: widths that grow alike, each in at most one tie.
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
        for tie in self.ties:
            if width in tie:
                return tie
        return (width,)

    def allows(self, counts: Counts) -> bool:
        """Whether these neurons are within every limit, as far as the estimates tell."""
        if self.max_layers is not None:
            used = [width for width, count in counts.items() if count and width in self.layers]
            if len(used) > self.max_layers:
                return False
        return all(limit.cost_model.estimate(counts) <= limit.limit for limit in self.limits)

    def relative_cost(self, counts: Counts) -> float:
        """The largest share of a limit that these neurons take: the limit that binds counts."""
        largest = MIN_RELATIVE_COST
        for limit in self.limits:
            largest = max(largest, limit.cost_model.estimate(counts) / limit.limit)
        return largest

    def measured_cost(self, counts: Counts) -> dict[str, float]:
        """What these neurons cost on the grown model, by unit."""
        return {limit.unit: limit.cost_model.measure(counts) for limit in self.limits}

    def step_sizes(self, tie: Tie, most: int) -> Iterator[int]:
        """By how many neurons each width of a tie may grow at a time.

        Args:
            tie: widths of one size.
            most: how many neurons each may gain in all.

        Yields:
            The first step reaches a multiple of ``round_to``, every later one is ``round_to``.
        """
        # First up to the next multiple, then from multiple to multiple.
        step = -self.sizes[tie[0]] % self.round_to or self.round_to
        left = min(most, *(self.max_new[width] for width in tie))
        while step <= left:
            yield step
            left -= step
            step = self.round_to


def resolve_budget(
    budget: Budget,
    captured: Captured,
    coupling: Coupling,
    layers: Iterable[int] = (),
    ties: tuple[Tie, ...] = (),
) -> ResolvedBudget:
    """Resolve the budget to absolute limits for this model.

    Args:
        budget: the limits as the user gave them.
        captured: the model.
        coupling: its widths.
        layers: hidden widths of candidate layers, whose neurons are blank and count as none.
        ties: widths that grow alike.

    Returns:
        The limits in absolute numbers, and how far each width may grow.

    Raises:
        BudgetError: ``empty-budget``, if no growable width can take its smallest step;
            ``not-countable``, if what neurons cost in a unit of the budget can't be counted.
    """
    resolved_limits = []
    for unit, amount in budget.amounts.items():
        cost_model = _cost_model(unit, captured, coupling)
        resolved_limits.append(Limit(unit, _limit(unit, amount, cost_model.current), cost_model))
    blank = frozenset(layers)
    max_new: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for number, width in enumerate(coupling.widths):
        if not width.growable:
            continue
        # A candidate layer is all new: its blank neurons are no size to multiply.
        is_blank = number in blank
        max_new[number] = UNLIMITED if is_blank else _max_new(budget.per_width, width.size)
        sizes[number] = 0 if is_blank else width.size
    resolved = ResolvedBudget(
        tuple(resolved_limits), max_new, sizes, budget.round_to, blank, budget.layers, ties
    )
    _require_one_step(budget, resolved, coupling)
    return resolved


def _cost_model(unit: str, captured: Captured, coupling: Coupling) -> CostModel:
    """What neurons cost in a unit; refused if that can't be counted for this model."""
    try:
        return BUDGET_UNITS[unit].factory(captured, coupling)
    except SpecError as error:
        raise BudgetError(
            "not-countable",
            f"a budget of {UNITS[unit]} cannot be kept for this model, since what it costs cannot "
            f"be counted ({error}); give the budget in another unit",
        ) from error


def _limit(unit: str, amount: Amount, current: float) -> float:
    limit = float(amount) if isinstance(amount, int) else amount * current
    return round(limit) if unit == "neurons" else limit


def _max_new(per_width: Amount | None, size: int) -> int:
    if per_width is None:
        return UNLIMITED
    return per_width if isinstance(per_width, int) else math.floor(per_width * size)


def _require_one_step(budget: Budget, resolved: ResolvedBudget, coupling: Coupling) -> None:
    """Check that the cheapest first step of some width is within every limit."""
    first_steps: dict[Tie, dict[int, int]] = {}
    for number in resolved.sizes:
        tie = resolved.tied(number)
        step = next(resolved.step_sizes(tie, UNLIMITED), 0)
        if step:
            first_steps[tie] = dict.fromkeys(tie, step)
    if not first_steps:
        raise BudgetError(
            "empty-budget",
            f"per_width={budget.per_width} leaves no width room for round_to={budget.round_to}; "
            "ask for more",
        )
    for limit in resolved.limits:
        # Of several limits each one alone must allow something.
        costs = {tie: limit.cost_model.estimate(counts) for tie, counts in first_steps.items()}
        cheapest = min(costs, key=lambda tie: costs[tie])
        if costs[cheapest] > limit.limit:
            names = " and ".join(repr(coupling.widths[number].name) for number in cheapest)
            step = first_steps[cheapest][cheapest[0]]
            raise BudgetError(
                "empty-budget",
                f"{_in_words(budget.amounts[limit.unit], limit)} are less than one step of growth "
                f"costs; the cheapest, {step} more in width {names}, costs {costs[cheapest]:g}; "
                "ask for more",
            )


def _in_words(amount: Amount, limit: Limit) -> str:
    share = f" of the {limit.cost_model.current:g}" if isinstance(amount, float) else ""
    return f"{amount}{share} {UNITS[limit.unit]}"
