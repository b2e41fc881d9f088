"""Schedulers of learning rates when a ``Grower`` grows copies: they go on with these, or refuse."""

import functools
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from torch.optim import Optimizer

from fxgrow.errors import GrowthError
from fxgrow.surgery import Optimizers


def require_rebindable(schedulers: Sequence[Any], optimizers: Optimizers, *, inplace: bool) -> None:
    """Check that schedulers will go on with what grows.

    Args:
        schedulers: those that were named.
        optimizers: those that grow along.
        inplace: whether they stay the objects that they are.

    Raises:
        GrowthError: ``foreign-scheduler`` if one is of another optimizer, ``lost-scheduler`` if one
            that was not named would go on with an old one.
    """
    named = set()
    for scheduler in _with_parts(schedulers):
        scheduled = getattr(scheduler, "optimizer", None)
        if not any(scheduled is optimizer for optimizer in optimizers):
            raise GrowthError(
                "foreign-scheduler",
                f"the {type(scheduler).__name__} is no scheduler of the optimizer, so it could "
                "not go on with a copy of it; give those of this optimizer",
            )
        named.add(id(scheduled))
    for optimizer in optimizers:
        # A scheduler that nobody named knows the old optimizer alone.
        if not inplace and id(optimizer) not in named and _is_scheduled(optimizer):
            raise GrowthError(
                "lost-scheduler",
                f"a scheduler sets the learning rate of the {type(optimizer).__name__}, and "
                "would go on with the old one when a copy grows; give schedulers=, or inplace=True",
            )


def rebind_schedulers(schedulers: Sequence[Any], old: Optimizers, new: Optimizers) -> None:
    """Let schedulers go on with the copies of their optimizers.

    Args:
        schedulers: of ``old``; changed in place.
        old: the optimizers before.
        new: what grew of each, in the same order; itself if it grew in place.
    """
    grown = {id(before): after for before, after in zip(old, new, strict=True)}
    for scheduler in _with_parts(schedulers):
        optimizer = grown[id(scheduler.optimizer)]
        if optimizer is scheduler.optimizer:
            continue
        scheduler.optimizer = optimizer
        if not _is_scheduled(optimizer):
            _let_steps_be_counted(optimizer)


def _with_parts(schedulers: Iterable[Any]) -> list[Any]:
    """Schedulers, and those that they are made of (``SequentialLR``, ``ChainedScheduler``)."""
    found = []
    for scheduler in schedulers:
        found.append(scheduler)
        found += _with_parts(getattr(scheduler, "_schedulers", ()))
    return found


def _is_scheduled(optimizer: Optimizer) -> bool:
    """Whether a scheduler of torch counts the steps of an optimizer."""
    return hasattr(optimizer.step, "_wrapped_by_lr_sched")


def _let_steps_be_counted(optimizer: Optimizer) -> None:
    """Mark an optimizer's steps as torch's schedulers do, which else warn that they see none."""
    step, reference = type(optimizer).step, weakref.ref(optimizer)

    @functools.wraps(step)
    def counted(*args: Any, **options: Any) -> Any:
        stepped: Any = reference()
        stepped._opt_called = True
        return step(stepped, *args, **options)

    counted._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    optimizer.step = counted  # type: ignore[method-assign]
