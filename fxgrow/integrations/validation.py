"""What a trainer measures on validation data, for triggers that decide by it."""

from collections.abc import Mapping
from typing import Any

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Name
from fxgrow.errors import SpecError, TrainingError
from fxgrow.training import Trigger


class Validation:
    """The last validation loss and accuracy, by the names that a trainer logs them under.

    Args:
        loss: the name of the loss; None if it is not to be read.
        accuracy: the name of the accuracy, from 0 to 1.

    Example:
        >>> validation = Validation("eval_loss", None)
        >>> validation.read({"eval_loss": 0.5, "epoch": 1.0})
        >>> validation.values
        {'validation_loss': 0.5}
    """

    @checked
    def __init__(self, loss: Name | None, accuracy: Name | None) -> None:
        names = {"validation_loss": loss, "validation_accuracy": accuracy}
        self._names = {field: name for field, name in names.items() if name is not None}
        self.values: dict[str, float] = {}

    @checked
    def read(self, metrics: Mapping[str, Any]) -> bool:
        """Keep what is there.

        Args:
            metrics: numbers, or tensors of one, by name.

        Returns:
            Whether anything was.
        """
        found = {field: metrics[name] for field, name in self._names.items() if name in metrics}
        self.values |= {field: float(value) for field, value in found.items()}
        return bool(found)

    @checked
    def require_names(self, when: Trigger) -> None:
        """Check, before training, that what a trigger decides by has a name.

        Args:
            when: the trigger.

        Raises:
            TrainingError: ``no-validation``: it has none.
        """
        wanted = self._wanted(when)
        if wanted is not None and wanted not in self._names:
            option = "monitor_accuracy" if wanted == "validation_accuracy" else "monitor"
            raise TrainingError(
                "no-validation",
                f"{type(when).__name__} decides by the {wanted.replace('_', ' ')}, and the "
                f"callback does not know its name; give {option}=, the name that it is logged by",
            )

    @checked
    def require_values(self, when: Trigger, metrics: Mapping[str, Any]) -> None:
        """Check that what a trigger decides by was measured.

        Args:
            when: the trigger.
            metrics: all that was, to be named.

        Raises:
            TrainingError: ``no-validation``: it was not.
        """
        wanted = self._wanted(when)
        if not self.knows(when):
            names = ", ".join(sorted(metrics)) or "nothing"
            raise TrainingError(
                "no-validation",
                f"{type(when).__name__} decides by {self._names.get(str(wanted))!r}, and what was "
                f"measured is {names}; give the name of one of these, or another trigger",
            )

    @checked
    def knows(self, when: Trigger) -> bool:
        """Whether what a trigger decides by was measured since the last ``take``.

        Args:
            when: the trigger.
        """
        wanted = self._wanted(when)
        return wanted is None or wanted in self.values

    def take(self) -> dict[str, float]:
        """The values, as arguments of ``Grower.step``; what is read next begins anew."""
        values, self.values = self.values, {}
        return values

    def _wanted(self, when: Trigger) -> str | None:
        """What a trigger reads: the accuracy, the loss or neither."""
        if "accuracy" in when.needs:
            return "validation_accuracy"
        return "validation_loss" if "validation" in when.needs else None

    def state_dict(self) -> dict[str, Any]:
        """The values, as plain ones."""
        return dict(self.values)

    @checked
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the values of another one.

        Args:
            state: what its ``state_dict`` gave.

        Raises:
            SpecError: ``bad-value``: it holds something else.
        """
        for field, value in state.items():
            is_known = field in ("validation_loss", "validation_accuracy")
            if not is_known or not isinstance(value, float | int):
                raise SpecError(
                    "bad-value",
                    f"{field!r} with the value {value!r} is nothing that was measured on "
                    "validation data; give another checkpoint",
                )
        self.values = dict(state)
