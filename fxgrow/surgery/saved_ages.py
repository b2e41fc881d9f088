"""Check the ages of entries in an optimizer that was loaded: what a file says may be anything."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from fxgrow.errors import FxgrowError, GrowthError


def require_ages(optimizer: Optimizer, key: str, new_entry_rate: type[Any]) -> None:
    """Check what an optimizer keeps of entries that growth made, before a step meets it.

    Args:
        optimizer: any optimizer of torch.
        key: the entry of its groups that holds the cohorts, by the position of the parameter.
        new_entry_rate: the class whose settings a ``rate`` holds.

    Raises:
        GrowthError: ``optimizer-state``.
    """
    for group in optimizer.param_groups:
        table = group.get(key, {})
        if not isinstance(table, dict):
            raise _wrong("a table of parameters")
        for position, cohorts in table.items():
            is_position = type(position) is int and 0 <= position < len(group["params"])
            if not is_position or not isinstance(cohorts, list):
                raise _wrong("a list for each parameter of its group")
            for cohort in cohorts:
                _require_cohort(cohort, group["params"][position], new_entry_rate)


def _require_cohort(cohort: Any, parameter: Tensor, new_entry_rate: type[Any]) -> None:
    if not isinstance(cohort, dict) or cohort.keys() != {"index", "age", "own", "rate"}:
        raise _wrong("index, age, own and rate of each growth")
    if not _are_places(cohort["index"], parameter):
        raise _wrong("places inside their parameter")
    age = cohort["age"]
    if not isinstance(age, Tensor) or age.dim() or not age.is_floating_point():
        raise _wrong("a number as their age")
    own, rate = cohort["own"], cohort["rate"]
    if own is not None and not _are_counts(own):
        raise _wrong("counts of their own steps")
    if rate is not None:
        try:
            new_entry_rate(**rate)
        except (FxgrowError, TypeError) as error:
            raise _wrong("a rate that there is") from error


def _are_places(index: Any, parameter: Tensor) -> bool:
    if not isinstance(index, Tensor) or index.dtype != torch.long or index.dim() != 1:
        return False
    inside = (index >= 0) & (index < parameter.numel())
    return bool(inside.all())


def _are_counts(own: Any) -> bool:
    if not isinstance(own, Mapping) or own.keys() != {"started", "scalars"}:
        return False
    scalars = own["scalars"]
    if not isinstance(own["started"], bool) or not isinstance(scalars, dict):
        return False
    return all(isinstance(value, Tensor) and value.dim() == 0 for value in scalars.values())


def _wrong(wanted: str) -> GrowthError:
    return GrowthError(
        "optimizer-state",
        f"the optimizer keeps something else than {wanted} of the entries that growth made, so it "
        "cannot step them; load the state that was saved",
    )
