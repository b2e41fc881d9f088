"""What a ``Grower`` cannot do, or would do nothing with, is said before anything is trained."""

from collections.abc import Sequence
from typing import Any

from fxgrow.errors import ArgumentError, TrainingError
from fxgrow.training.history import Measurement, TrainingHistory
from fxgrow.training.triggers import EqualPhases, Trigger, first_epoch


def require_scheduled(schedulers: Sequence[Any], optimizers: Sequence[Any]) -> None:
    """Check that schedulers have an optimizer to go on with.

    Raises:
        ArgumentError: ``unused-option``.
    """
    if schedulers and not optimizers:
        raise ArgumentError(
            "unused-option",
            "Grower() has no optimizer, so schedulers= has no effect; give the optimizer, or leave "
            "them out",
        )


def require_reachable(trigger: Trigger, epochs: int) -> None:
    """Check that a trigger can ask for growth while the training lasts.

    Args:
        trigger: any; of one that is not fxgrow's nothing is known.
        epochs: of the whole training; 0: nobody has said.

    Raises:
        TrainingError: ``bad-setting``; ``no-epochs`` where the trigger has to know them.
    """
    if isinstance(trigger, EqualPhases) and not epochs:
        raise TrainingError(
            "no-epochs",
            "EqualPhases divides the epochs of a training, and was not told how many there are, so "
            "nothing would ever grow; give epochs=, or choose another trigger",
        )
    first = first_epoch(trigger)
    if epochs and first > epochs:
        raise TrainingError(
            "bad-setting",
            f"{type(trigger).__name__} asks for no growth before epoch {first}, and the training "
            f"has {epochs}, so nothing would grow; correct one of these",
        )


def require_forward(history: TrainingHistory, measured: Measurement) -> None:
    """Check that a measurement is none of the past: triggers count what lies between two.

    Raises:
        ArgumentError: ``bad-argument``.
    """
    now = history.now
    counts = {
        "epoch": (now.epoch, measured.epoch),
        "step": (now.step, measured.step),
        # 0 is what a loop tells that does not count them.
        "multiply_adds": (now.multiply_adds, measured.multiply_adds or now.multiply_adds),
    }
    for name, (before, after) in counts.items():
        if after < before:
            raise ArgumentError(
                "bad-argument",
                f"Grower.step() cannot use {name}={after:g} after {before:g}, for triggers count "
                "what has passed; give what is done so far, in order",
            )
