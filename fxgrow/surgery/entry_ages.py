"""Entries that growth made, and what an optimizer does to them in every step.

A *cohort* is what one growth made of one parameter: where its entries lie, and how many steps it
has done. It is kept in the optimizer's parameter groups as plain data, so that ``state_dict`` saves
it, and it follows later growths. Two hooks around ``step`` do what it asks for:

- *Own steps.* The entries are stepped apart from the rest, by an optimizer of the same class with
  the same options, which has done as many steps as they have. That is exact for every optimizer
  that treats entries by themselves (``entrywise``), however it is implemented (foreach, fused,
  capturable): for Adam, m / (1 - beta1^s) / (sqrt(v / (1 - beta2^s)) + eps) with their own s.
- *A rate of their own.* What the step changed of them is multiplied. To scale gradients instead
  would do nothing under Adam.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Adagrad, Optimizer

from fxgrow.argument_checks import checked
from fxgrow.documents import Settings, limits
from fxgrow.surgery.entrywise import OptimizerGroup, entrywise
from fxgrow.surgery.index_map import IndexMap
from fxgrow.surgery.optimizer_state import mapped
from fxgrow.surgery.saved_ages import require_ages

_COHORTS = "grown_entries"
"""In a parameter group: the cohorts of each parameter, by its position in the group."""
_SNAPSHOTS = "_fxgrow_snapshots"
"""On an optimizer, while it steps: what its cohorts were before."""


class NewEntryRate(Settings):
    """How much faster than the rest the entries learn that a growth makes.

    Their steps are multiplied by 1 + (multiplier - 1) 2^(-s / half_life) in their s-th step from 0.

    Args:
        multiplier: of the very first step; below 1 they learn more slowly.
        half_life: steps after which half of the difference from 1 is left; None: it stays.

    Raises:
        ArgumentError: ``bad-setting``: a value is out of range.

    Example:
        >>> rate = fxgrow.NewEntryRate(multiplier=4.0, half_life=300)
        >>> growth = fxgrow.grow(
        ...     model, batches, loss_fn, optimizer=optimizer, new_entry_rate=rate
        ... )
    """

    multiplier: float = Field(default=4.0, gt=0, le=limits.RATE, allow_inf_nan=False)
    half_life: float | None = Field(default=300.0, gt=0, le=2.0**53, allow_inf_nan=False)


class OwnSteps(TypedDict):
    """The counts of entries that are stepped apart.

    ``started``: whether there was a step. ``scalars``: what the optimizer counts per parameter.
    """

    started: bool
    scalars: dict[str, Any]


class Cohort(TypedDict):
    """Entries of one parameter that one growth made.

    ``index``: their places in the flattened parameter. ``age``: how many steps they have done.
    ``own``: None if they are stepped with the rest. ``rate``: a ``NewEntryRate`` as a dict.
    """

    index: Tensor
    age: Tensor
    own: OwnSteps | None
    rate: dict[str, Any] | None


@checked
def follow_ages(optimizer: Optimizer) -> None:
    """Let an optimizer go on with the ages of entries that its state dict was saved with.

    ``fxgrow.grow`` does so by itself. Hooks are no part of a state dict, so an optimizer that was
    made anew needs this after ``load_state_dict``; it may be called at any time, more than once.

    Args:
        optimizer: any optimizer of torch.

    Raises:
        GrowthError: ``optimizer-state``: the state dict held what no growth has written.

    Example:
        >>> optimizer = torch.optim.AdamW(grown.parameters())
        >>> optimizer.load_state_dict(torch.load("optimizer.pt"))
        >>> fxgrow.follow_ages(optimizer)
    """
    require_ages(optimizer, _COHORTS, NewEntryRate)
    _follow(optimizer)


def _follow(optimizer: Optimizer) -> None:
    """The same of an optimizer whose parameters may be about to grow."""
    if _before_step not in optimizer._optimizer_step_pre_hooks.values():
        optimizer.register_step_pre_hook(_before_step)
        optimizer.register_step_post_hook(_after_step)
    for group, position, cohorts in list(_all_cohorts(optimizer)):
        device = group["params"][position].device
        for cohort in cohorts:
            cohort["index"] = cohort["index"].to(device)
            cohort["age"] = cohort["age"].to(_age_device(group, device))


@torch.no_grad()
def add_cohort(
    optimizer: Optimizer,
    parameter: Tensor,
    axes: Mapping[int, IndexMap],
    *,
    own_steps: bool,
    rate: NewEntryRate | None,
) -> None:
    """Remember the entries of a parameter that a growth makes, and let the optimizer follow them.

    Args:
        optimizer: the optimizer; nothing happens if it does not hold the parameter.
        parameter: the parameter before it is resized.
        axes: the map of each axis that changes.
        own_steps: whether they count their own steps.
        rate: of these entries.
    """
    place = _place(optimizer, parameter)
    is_new = mapped(torch.ones_like(parameter, dtype=torch.uint8), axes) == 0
    index = is_new.reshape(-1).nonzero().reshape(-1)
    if place is None or not len(index):
        return
    group, position = place
    device = _age_device(group, parameter.device)
    # Float32 is enough to count with, and some accelerators have no more.
    dtype = torch.float64 if device.type == "cpu" else torch.float32
    cohort = Cohort(
        index=index,
        age=torch.zeros((), dtype=dtype, device=device),
        own=_newborn(optimizer, parameter) if own_steps else None,
        rate=None if rate is None else rate.model_dump(),
    )
    _keep(group, position, [*group.get(_COHORTS, {}).get(position, []), cohort])
    _follow(optimizer)


def _newborn(optimizer: Optimizer, parameter: Tensor) -> OwnSteps | None:
    """The counts before the first step; None if there is no older entry to count apart from."""
    state = optimizer.state.get(parameter)
    if not state:
        return None
    if isinstance(optimizer, Adagrad):  # older torch makes its state with it, not in a step
        return OwnSteps(started=True, scalars={"step": torch.zeros_like(state["step"])})
    return OwnSteps(started=False, scalars={})


@torch.no_grad()
def resize_cohorts(
    optimizer: Optimizer, parameter: Tensor, axes: Mapping[int, IndexMap], *, keep_own: bool
) -> None:
    """Let what is remembered of a parameter's entries follow its axes; a copy is as old as they.

    Args:
        optimizer: the optimizer.
        parameter: the parameter before it is resized.
        axes: the map of each axis that changes.
        keep_own: whether they go on to count their own steps.
    """
    place = _place(optimizer, parameter)
    if place is None:
        return
    group, position = place
    resized = []
    for cohort in group.get(_COHORTS, {}).get(position, []):
        mask = torch.zeros_like(parameter, dtype=torch.uint8, memory_format=torch.contiguous_format)
        mask.view(-1)[cohort["index"]] = 1
        index = mapped(mask, axes).reshape(-1).nonzero().reshape(-1)
        if len(index):
            own = cohort["own"] if keep_own else None
            resized.append(Cohort(index=index, age=cohort["age"], own=own, rate=cohort["rate"]))
    _keep(group, position, resized)
    if any(True for _ in _all_cohorts(optimizer)):
        _follow(optimizer)  # it may have been loaded


def forget_own_steps(optimizer: Optimizer) -> None:
    """Let no entry count its own steps any more, since all begin anew."""
    for group, position, cohorts in list(_all_cohorts(optimizer)):
        # New dictionaries: a growth that fails puts the old ones back.
        _keep(group, position, [Cohort(**{**cohort, "own": None}) for cohort in cohorts])


def arrange_parameters(group: OptimizerGroup, parameters: Sequence[Tensor]) -> None:
    """Put other parameters into a group; what is remembered by position goes along.

    Args:
        group: of an optimizer; it is changed.
        parameters: those that it had, in any order, and new ones.
    """
    cohorts_by_id = {}
    for position, cohorts in group.get(_COHORTS, {}).items():
        cohorts_by_id[id(group["params"][position])] = cohorts
    group["params"][:] = parameters
    table = {}
    for position, parameter in enumerate(parameters):
        if id(parameter) in cohorts_by_id:
            table[position] = cohorts_by_id[id(parameter)]
    if table:  # a new dictionary: a growth that fails puts the old one back
        group[_COHORTS] = table


def _place(optimizer: Optimizer, parameter: Tensor) -> tuple[OptimizerGroup, int] | None:
    for group in optimizer.param_groups:
        for position, held in enumerate(group["params"]):
            if held is parameter:
                return group, position
    return None


def _all_cohorts(optimizer: Optimizer) -> Iterator[tuple[OptimizerGroup, int, list[Cohort]]]:
    for group in optimizer.param_groups:
        for position, cohorts in group.get(_COHORTS, {}).items():
            yield group, position, cohorts


def _keep(group: OptimizerGroup, position: int, cohorts: list[Cohort]) -> None:
    """Replace the cohorts of a parameter by those of them that still ask for something."""
    table = {key: value for key, value in group.get(_COHORTS, {}).items() if key != position}
    asking = [cohort for cohort in cohorts if cohort["own"] or cohort["rate"]]
    if asking:
        table[position] = asking
    group[_COHORTS] = table
    if not table:
        del group[_COHORTS]


def _age_device(group: OptimizerGroup, device: torch.device) -> torch.device:
    """Where ages are counted: by what is captured into a graph, on the device itself."""
    return device if group.get("capturable") else torch.device("cpu")


@dataclass(frozen=True, eq=False)
class _Snapshot:
    """A cohort before a step: the values of its entries, and what the optimizer kept of them."""

    group: OptimizerGroup
    position: int
    parameter: Tensor
    cohort: Cohort
    values: Tensor
    state: dict[str, Tensor]

    @staticmethod
    def of(
        optimizer: Optimizer, group: OptimizerGroup, position: int, cohort: Cohort
    ) -> "_Snapshot":
        parameter = group["params"][position]
        kept = optimizer.state.get(parameter, {})
        if not kept:  # somebody dropped the state: all entries begin anew, together
            cohort["own"] = None
        state = {}
        if cohort["own"] and cohort["own"]["started"]:
            for key, value in kept.items():
                if _is_per_entry(value, parameter):
                    state[key] = value.take(cohort["index"])
        values = parameter.take(cohort["index"])
        return _Snapshot(group, position, parameter, cohort, values, state)


def _is_per_entry(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


@torch.no_grad()
def _before_step(optimizer: Optimizer, *_: Any) -> None:
    """Keep what the step will change of the cohorts."""
    snapshots = []
    for group, position, cohorts in _all_cohorts(optimizer):
        for cohort in cohorts:
            snapshots.append(_Snapshot.of(optimizer, group, position, cohort))
    vars(optimizer)[_SNAPSHOTS] = snapshots


@torch.no_grad()
def _after_step(optimizer: Optimizer, *_: Any) -> None:
    """Step entries apart that count their own steps, apply rates, and let what is of age go."""
    snapshots: list[_Snapshot] = vars(optimizer).pop(_SNAPSHOTS, [])
    # Parameters without a gradient were not stepped.
    stepped = [snapshot for snapshot in snapshots if snapshot.parameter.grad is not None]
    apart = [snapshot for snapshot in stepped if snapshot.cohort["own"]]
    if apart:
        _step_apart(optimizer, apart)
    for snapshot in stepped:
        _apply_rate(snapshot)
        snapshot.cohort["age"] += 1
    for snapshot in stepped:
        if not snapshot.group.get("capturable"):  # there, to look at an age stops the device
            _let_go(optimizer, snapshot)


def _step_apart(optimizer: Optimizer, snapshots: list[_Snapshot]) -> None:
    """Do the step of some entries again, from what they were before, with their own counts."""
    states: dict[Tensor, dict[str, Any]] = defaultdict(dict)
    groups: dict[int, OptimizerGroup] = {}
    parts = []
    for snapshot in snapshots:
        group, own = snapshot.group, snapshot.cohort["own"]
        part = snapshot.values.clone().requires_grad_()
        part.grad = snapshot.parameter.grad.take(snapshot.cohort["index"])  # type: ignore[union-attr]
        if own and own["started"]:
            states[part] = {**own["scalars"], **snapshot.state}
        options = {key: value for key, value in group.items() if key != _COHORTS}
        groups.setdefault(id(group), {**options, "params": []})["params"].append(part)
        parts.append(part)
    twin = _twin(optimizer, states, list(groups.values()))
    twin.step()
    for snapshot, part in zip(snapshots, parts, strict=True):
        _put_back(optimizer, snapshot, part, twin.state[part])


def _twin(
    optimizer: Optimizer, states: dict[Tensor, Any], groups: list[OptimizerGroup]
) -> Optimizer:
    """An optimizer like another one, of other parameters, as unpickling makes one."""
    twin: Optimizer = type(optimizer).__new__(type(optimizer))
    content = {"defaults": optimizer.defaults, "state": states, "param_groups": groups}
    # It is new in every step, and would say every time that a capturable one should be captured.
    content["_warned_capturable_if_run_uncaptured"] = True
    if hasattr(optimizer, "found_inf"):
        # Of a gradient scaler: the step is skipped if it is set. Gradients are unscaled by now.
        content |= {"found_inf": optimizer.found_inf, "grad_scale": None}
    twin.__setstate__(content)
    return twin


def _put_back(
    optimizer: Optimizer, snapshot: _Snapshot, part: Tensor, state: Mapping[str, Any]
) -> None:
    """Put entries that were stepped apart, and what is kept of them, back into the whole."""
    parameter, kept = snapshot.parameter, optimizer.state[snapshot.parameter]
    index = snapshot.cohort["index"]
    _put(parameter, index, part.detach())
    scalars = {}
    for key, value in state.items():
        if not _is_per_entry(kept.get(key), parameter):
            scalars[key] = value
        elif _is_per_entry(value, part):
            _put(kept[key], index, value)
    snapshot.cohort["own"] = OwnSteps(started=True, scalars=scalars)


def _apply_rate(snapshot: _Snapshot) -> None:
    """Multiply what a step changed of a cohort."""
    rate, before = snapshot.cohort["rate"], snapshot.values
    if rate is None:
        return
    left = (
        1.0
        if rate["half_life"] is None
        else torch.exp2(-snapshot.cohort["age"] / rate["half_life"])
    )
    factor = 1 + (rate["multiplier"] - 1) * left
    index = snapshot.cohort["index"]
    after = snapshot.parameter.take(index)
    _put(snapshot.parameter, index, before + factor * (after - before))


def _put(tensor: Tensor, index: Tensor, values: Tensor) -> None:
    """Put values at places of the flattened tensor."""
    if tensor.is_contiguous():
        tensor.view(-1).scatter_(0, index, values)
    else:  # to compute coordinates takes ten times as long
        tensor.index_put_(torch.unravel_index(index, tensor.shape), values)


def _let_go(optimizer: Optimizer, snapshot: _Snapshot) -> None:
    """End what makes no difference any more beyond rounding."""
    cohort, dtype, age = snapshot.cohort, snapshot.values.dtype, float(snapshot.cohort["age"])
    row, rate = entrywise(optimizer), cohort["rate"]
    if cohort["own"] and row is not None and row.is_of_age(snapshot.group, age, dtype):
        cohort["own"] = None
    if rate is not None and rate["half_life"] is not None:
        left = abs(rate["multiplier"] - 1) * 2 ** (-age / rate["half_life"])
        if left < torch.finfo(dtype).eps:
            cohort["rate"] = None
    if not cohort["own"] and not cohort["rate"]:
        rest = snapshot.group.get(_COHORTS, {}).get(snapshot.position, [])
        _keep(snapshot.group, snapshot.position, rest)
