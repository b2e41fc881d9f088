"""What growth cannot work under in the trainers of other libraries, refused before training."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from fxgrow.errors import TrainingError
from fxgrow.training import Trigger


@dataclass(frozen=True)
class Unsupported:
    """A setting that growth cannot work under.

    Args:
        find: the setting's name in what a trainer was given; None if it was not.
        consequence: what would happen, and what to do instead.
    """

    find: Callable[[Any], str | None]
    consequence: str


def require_supported(rows: Iterable[Unsupported], given: Any) -> None:
    """Check what a trainer was given.

    Args:
        rows: what cannot work.
        given: the trainer, or its arguments.

    Raises:
        TrainingError: ``trainer-setting``: a setting cannot work.
    """
    for row in rows:
        name = row.find(given)
        if name is not None:
            raise TrainingError("trainer-setting", f"{name} {row.consequence}")


def require_one_process(processes: int) -> None:
    """Check that nobody else trains the same model.

    Args:
        processes: how many there are, or devices that copies of the model lie on.

    Raises:
        TrainingError: ``distributed``: there are several.
    """
    if processes > 1:
        raise TrainingError(
            "distributed",
            f"{processes} processes or devices train the model, and each would grow in its own "
            "way; train in one process on one device",
        )


def require_no_group() -> None:
    """Check that no process group is there, under which trainers wrap a model even of one process.

    Raises:
        TrainingError: ``distributed``: there is one.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise TrainingError(
            "distributed",
            "a process group of torch.distributed is there, so the trainer wraps the model in "
            "DistributedDataParallel, whose buckets keep the sizes of before growth; train without "
            "torchrun, or call torch.distributed.destroy_process_group() first",
        )


def require_no_promise(when: Trigger) -> None:
    """Check that a trigger does not compare growth with what training costs.

    Args:
        when: the trigger.

    Raises:
        TrainingError: ``no-promise``: it does, and would never say that it is time.
    """
    if "gains" in when.needs:
        raise TrainingError(
            "no-promise",
            f"{type(when).__name__} compares growth with the multiply-adds of training, which this "
            "trainer does not count; choose another trigger, or fxgrow.Grower in a loop of your "
            "own",
        )
