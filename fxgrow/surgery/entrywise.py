"""What is known of the optimizers that treat every entry of a parameter by itself.

The step of such an optimizer on a part of a parameter is the part of its step, so that entries may
be stepped apart from the rest, with counts of their own. Adafactor (means over rows), Muon
(orthogonal matrices), LBFGS (one history of everything) and SparseAdam (no dense gradients) are
none.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import (
    ASGD,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
)

OptimizerGroup = dict[str, Any]
"""A parameter group of an optimizer, with its options."""


def _corrections_vanish(group: OptimizerGroup, age: float, dtype: torch.dtype) -> bool:
    """Whether 1 - beta^age is 1 to rounding, as it is for the old entries, which are older."""
    return bool(max(group["betas"]) ** age < torch.finfo(dtype).eps)


def _first_step_is_done(_group: OptimizerGroup, age: float, _dtype: torch.dtype) -> bool:
    """Nothing counts steps; only what the very first step starts from may differ."""
    return age >= 1


def _never(*_: object) -> bool:
    """The count goes on to matter."""
    return False


@dataclass(frozen=True)
class Entrywise:
    """An optimizer that treats every entry by itself.

    Args:
        powers: by key of its state: by which power of a factor the value changes if all gradients
            were that factor as large; what is not named does not change. None: it keeps averages
            of the parameter itself, which follow no gradient.
        is_of_age: whether entries of an age may go on under the count of the old ones, the step
            being the same to rounding.
    """

    powers: Mapping[str, int] | None
    is_of_age: Callable[[OptimizerGroup, float, torch.dtype], bool]


_MOMENTS = {"exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2}

ENTRYWISE: dict[type[Optimizer], Entrywise] = {
    SGD: Entrywise({"momentum_buffer": 1}, _first_step_is_done),
    Adam: Entrywise(_MOMENTS, _corrections_vanish),
    AdamW: Entrywise(_MOMENTS, _corrections_vanish),
    RAdam: Entrywise(_MOMENTS, _corrections_vanish),
    # Its momentum grows with the count for some 100,000 steps.
    NAdam: Entrywise(_MOMENTS, _never),
    Adamax: Entrywise({"exp_avg": 1, "exp_inf": 1}, _corrections_vanish),
    # Momentum is of steps that are divided by the root of the square already.
    RMSprop: Entrywise({"square_avg": 2, "grad_avg": 1}, _first_step_is_done),
    Adadelta: Entrywise({"square_avg": 2}, _first_step_is_done),
    # Both let the rate fall with the count.
    Adagrad: Entrywise({"sum": 2}, _never),
    ASGD: Entrywise(None, _never),
    Rprop: Entrywise({"prev": 1}, _first_step_is_done),
}


def entrywise(optimizer: Optimizer) -> Entrywise | None:
    """What is known of an optimizer that treats every entry by itself.

    Args:
        optimizer: of torch, or of a subclass with the step of its base.

    Returns:
        The row of the table; None if it is not known to be one.
    """
    step = inspect.unwrap(type(optimizer).step)
    for base in type(optimizer).__mro__:
        if base in ENTRYWISE and inspect.unwrap(base.step) is step:
            return ENTRYWISE[base]
    return None


ENTRYWISE_NAMES = ", ".join(kind.__name__ for kind in ENTRYWISE)
"""The optimizers of the table, for messages."""
