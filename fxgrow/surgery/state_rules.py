"""What becomes of an optimizer's state across growth: one rule per row of a table.

A step of Adam is m / (1 - beta1^s) / (sqrt(v / (1 - beta2^s)) + eps), with s the number of steps.
New entries whose moments m and v are zero under an old s take steps (1 - beta1^s) /
sqrt(1 - beta2^s) times as large in their own s-th step: up to 6.6 times for the usual betas. So the
rule decides how fast what is new learns, and none is best for every task: ``docs/optimizers.md``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from fxgrow.errors import ArgumentError, GrowthError
from fxgrow.sharding import is_gathered_on_use
from fxgrow.surgery.entry_ages import NewEntryRate, add_cohort, forget_own_steps, resize_cohorts
from fxgrow.surgery.entrywise import ENTRYWISE, ENTRYWISE_NAMES, entrywise
from fxgrow.surgery.index_map import IndexMap, reshape_along
from fxgrow.surgery.optimizer_state import map_state, require_own, require_shapes, restart_state
from fxgrow.surgery.several_optimizers import require_shared_out

Axes = Mapping[int, IndexMap]
"""The map of each axis of a parameter that changes."""

StateRuleName = Literal["auto", "padded", "own-age", "scaled", "reset-grown", "reset"]
"""The names of the rules; ``"auto"`` picks one of the others (``StateTreatment.picked``)."""

STATE_NAMES: tuple[StateRuleName, ...] = get_args(StateRuleName)

DEFAULT_STATE: StateRuleName = "auto"
"""The rule where none is named. The only place that says so."""

SCARCE = 64
"""Neurons, of all widths that grow together, up to which each one counts."""


@dataclass(frozen=True)
class StateRule:
    """What becomes of an optimizer's state.

    Args:
        carry: changes what the optimizer keeps of one parameter that is about to be resized.
        missing: what an optimizer lacks for it, as a clause; "" if it can be served.
        keeps_old: whether old entries of what grows keep their state.
        own_steps: whether new entries count their own steps.
    """

    carry: Callable[[Optimizer, Tensor, Axes], None]
    missing: Callable[[Optimizer], str]
    keeps_old: bool = True
    own_steps: bool = False


def _nothing_missing(_: Optimizer) -> str:
    return ""


def _steps_of_entries_missing(optimizer: Optimizer) -> str:
    if entrywise(optimizer) is None:
        return f"is not known to treat every entry by itself, as {ENTRYWISE_NAMES} do"
    if any(group.get("differentiable") for group in optimizer.param_groups):
        return "is differentiable, and the steps of new entries would not be"
    return ""


def _powers_missing(optimizer: Optimizer) -> str:
    row = entrywise(optimizer)
    if row is None or row.powers is None:
        known = ", ".join(
            kind.__name__ for kind, row in ENTRYWISE.items() if row.powers is not None
        )
        return f"is not known to keep powers of every entry's gradient, as {known} do"
    return ""


def _scale(optimizer: Optimizer, parameter: Tensor, axes: Axes) -> None:
    """Continue copies: they see gradients as large as the share of the old neuron that they are.

    What reads copies gets the old gradient, since their values are the old ones.
    """
    map_state(optimizer, parameter, axes)
    row, state = entrywise(optimizer), optimizer.state.get(parameter, {})
    powers = {} if row is None or row.powers is None else row.powers
    for key in powers.keys() & state.keys():
        value = state[key]
        if isinstance(value, Tensor):
            for axis, index_map in axes.items():
                shares = gradient_shares(index_map) ** powers[key]
                value.mul_(reshape_along(shares.to(value), axis, value.dim()))


def _restart(optimizer: Optimizer, parameter: Tensor, axes: Axes) -> None:
    """Forget a parameter."""
    map_state(optimizer, parameter, axes)
    restart_state(optimizer, parameter)


def _restart_all(optimizer: Optimizer, parameter: Tensor, axes: Axes) -> None:
    """Forget everything, of other modules too."""
    map_state(optimizer, parameter, axes)
    for held in list(optimizer.state):
        restart_state(optimizer, held)
    forget_own_steps(optimizer)


STATE_RULES: dict[StateRuleName, StateRule] = {
    # New entries are zero under the old count; copies have all of what they are copies of.
    "padded": StateRule(map_state, _nothing_missing),
    # Copies go on as they were, new entries begin as a new optimizer's.
    "own-age": StateRule(_scale, _steps_of_entries_missing, own_steps=True),
    # Copies go on as they were, new entries are zero under the old count.
    "scaled": StateRule(_scale, _powers_missing),
    # What grew begins anew, old entries included; the rest goes on.
    "reset-grown": StateRule(_restart, _nothing_missing, keeps_old=False),
    "reset": StateRule(_restart_all, _nothing_missing, keeps_old=False),
}


@dataclass(frozen=True)
class StateTreatment:
    """What becomes of an optimizer's state, and how fast new entries learn.

    Args:
        state: the name of the rule.
        new_entry_rate: None: as fast as the rule lets them.
    """

    state: StateRuleName = DEFAULT_STATE
    new_entry_rate: NewEntryRate | None = None

    def picked(self, neurons: int) -> "StateTreatment":
        """The treatment itself, but for ``"auto"``, which the number of neurons decides.

        Few neurons have to move far, and the large steps of ``"padded"`` take them there; among
        many the same steps disturb what has been learned, which ``"reset-grown"`` avoids.

        Args:
            neurons: how many the widths that grow have afterwards.
        """
        if self.state != "auto":
            return self
        return replace(self, state="padded" if neurons <= SCARCE else "reset-grown")

    @property
    def rule(self) -> StateRule:
        """The rule of that name; of ``"auto"`` that for few neurons, which asks for more.

        Raises:
            GrowthError: ``unknown-state``.
        """
        if self.state == "auto":
            return self.picked(0).rule
        if self.state not in STATE_RULES:
            known = ", ".join(map(repr, STATE_NAMES))
            raise GrowthError(
                "unknown-state",
                f"state={self.state!r} is no rule for an optimizer; say one of {known}",
            )
        return STATE_RULES[self.state]

    def require_used(self, optimizers: Sequence[Optimizer], words: str) -> None:
        """Check that nothing is asked for that only an optimizer would follow, without one.

        Args:
            optimizers: those that grow along, if any.
            words: the call, for the message.

        Raises:
            ArgumentError: ``unused-option``.
        """
        if not optimizers and self != DEFAULT_TREATMENT:
            raise ArgumentError(
                "unused-option",
                f"{words} has no optimizer, so state= and new_entry_rate= have no effect; give the "
                "optimizer, or leave them out",
            )

    def require(self, optimizers: Sequence[Optimizer], model: nn.Module) -> None:
        """Check that optimizers can grow along with a model.

        Args:
            optimizers: may hold parameters of other modules, too.
            model: the model that is to grow.

        Raises:
            GrowthError: ``foreign-optimizer`` if one holds no parameter of the model,
                ``optimizer-state`` if it keeps something that cannot follow a parameter's shape,
                ``state-rule`` if it cannot follow the rule, ``unknown-state`` for no rule;
                ``shared-parameter`` and ``missing-optimizer`` if several are not all of them.
        """
        self._require_whole(model)
        for optimizer in optimizers:
            self._require_one(optimizer, model)
        require_shared_out(optimizers, model)

    def _require_whole(self, model: nn.Module) -> None:
        """Check that no entries would be counted apart in parameters that are sharded."""
        is_apart = self.rule.own_steps or self.new_entry_rate is not None
        if is_apart and any(map(is_gathered_on_use, model.parameters())):
            raise GrowthError(
                "state-rule",
                "the entries of sharded parameters are not stepped apart from each other, so a "
                "model after fully_shard cannot grow with state='own-age' or new_entry_rate=; "
                "leave these out",
            )

    def _require_one(self, optimizer: Optimizer, model: nn.Module) -> None:
        rule = self.rule
        require_own(optimizer, model)
        # LBFGS keeps one history of everything, and remembers how much that is.
        if rule.keeps_old or isinstance(optimizer, LBFGS):
            require_shapes(optimizer, model)
        missing = rule.missing(optimizer)
        if missing:
            raise GrowthError(
                "state-rule",
                f"the {type(optimizer).__name__} {missing}, so it cannot grow with "
                f"state={self.state!r}; say state='reset-grown', or take one that does",
            )

    @torch.no_grad()
    def carry(self, optimizer: Optimizer, parameter: Tensor, axes: Axes) -> None:
        """Let what an optimizer keeps of a parameter follow the parameter's axes.

        Args:
            optimizer: the optimizer; it may hold nothing of the parameter.
            parameter: the parameter before it is resized.
            axes: the map of each axis that changes.
        """
        rule = self.rule
        resize_cohorts(optimizer, parameter, axes, keep_own=rule.keeps_old)
        rule.carry(optimizer, parameter, axes)
        if rule.own_steps or self.new_entry_rate is not None:
            rate, own_steps = self.new_entry_rate, rule.own_steps
            add_cohort(optimizer, parameter, axes, own_steps=own_steps, rate=rate)


DEFAULT_TREATMENT = StateTreatment()
"""The default rule, and no rate of their own for new entries."""


def gradient_shares(index_map: IndexMap) -> Tensor:
    """By how much smaller an entry's gradient is than that of the entry which it copies.

    A neuron's n copies are read with n-th parts of its outgoing weights, so what writes one of them
    sees an n-th part of the gradient. What reads them sees their values, which are the old ones.

    Args:
        index_map: where each index of an axis comes from.

    Returns:
        One factor per index: 1 / n if it is one of n copies that are not shared out, else 1.
    """
    source = index_map.source
    is_old = source >= 0
    times = torch.ones_like(index_map.scale)
    times[is_old] = torch.bincount(source[is_old])[source[is_old]].to(times)
    is_shared_out = index_map.scale != 1
    return torch.where(is_shared_out, 1.0, 1 / times)
