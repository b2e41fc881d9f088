"""What a run has measured so far: what triggers read, and nothing else."""

import math
from dataclasses import dataclass

from fxgrow.argument_checks import checked
from fxgrow.documents import limits


@dataclass(frozen=True)
class Spectrum:
    """The singular values of the activations of one width.

    Args:
        width: name of the width.
        values: as many as it could have, largest first.

    Example:
        >>> Spectrum("conv1", (2.0, 1.0, 0.0)).rank_share(0.01)
        0.6666666666666666
    """

    width: str
    values: tuple[float, ...]

    @checked
    def rank_share(self, threshold: float) -> float:
        """The effective rank as a share of the full one.

        Args:
            threshold: singular values above this share of the largest count.
        """
        largest = max(self.values, default=0.0)
        counted = [value for value in self.values if value > threshold * largest]
        return len(counted) / max(len(self.values), 1)


@dataclass(frozen=True)
class Promise:
    """What a search promises, and what it cost.

    Args:
        gain: by how much the scores of what it selected say that the loss will fall.
        multiply_adds: of the passes of the search.

    Example:
        >>> Promise(gain=0.1, multiply_adds=2e9)
        Promise(gain=0.1, multiply_adds=2000000000.0)
    """

    gain: float
    multiply_adds: float


@dataclass(frozen=True)
class Measurement:
    """What is known at one moment of training, usually the end of an epoch.

    Args:
        epoch: epochs done.
        step: steps of the optimizer done.
        loss: mean training loss since the measurement before.
        multiply_adds: of all training so far.
        validation_loss: mean loss on images that are set aside; None if there are none.
        validation_accuracy: accuracy on them, from 0 to 1.
        spectra: of the activations of each width, if the trigger asks for them.
        promise: of a search now, if the trigger asks for one.

    Example:
        >>> Measurement(epoch=1, step=100, loss=2.1).validation_loss is None
        True
    """

    epoch: int
    step: int
    loss: float
    multiply_adds: float = 0.0
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    spectra: tuple[Spectrum, ...] = ()
    promise: Promise | None = None


@dataclass(frozen=True)
class TrainingHistory:
    """What has been measured, and where growth steps lie in between.

    Args:
        measurements: in order; the last one is now.
        growths: per growth step, how many measurements there were before it.
        epochs: how many the whole run has.
        grow_steps: the most growth steps that it may have.

    Example:
        >>> measured = (Measurement(1, 9, 2.0), Measurement(2, 18, 1.9))
        >>> history = TrainingHistory(measured, growths=(1,))
        >>> history.epochs_since_growth
        1
    """

    measurements: tuple[Measurement, ...]
    growths: tuple[int, ...] = ()
    epochs: int = 0
    grow_steps: int = 0

    @property
    def now(self) -> Measurement:
        """The last measurement; without any, the start of training."""
        return self.measurements[-1] if self.measurements else Measurement(0, 0, math.inf)

    @property
    def since_growth(self) -> tuple[Measurement, ...]:
        """The measurements since the last growth step."""
        start = self.growths[-1] if self.growths else 0
        return self.measurements[start:]

    @property
    def at_growth(self) -> Measurement:
        """The measurement before the last growth step; without one, the start of training."""
        count = self.growths[-1] if self.growths else 0
        return TrainingHistory(self.measurements[:count]).now

    @property
    def epochs_since_growth(self) -> int:
        """Epochs since the last growth step, or since the start."""
        return self.now.epoch - self.at_growth.epoch

    @property
    def contradiction(self) -> str:
        """What no training can have measured, as a sentence; "" if there is none.

        Fields are checked one by one where a history is read from a file; this looks at all.
        """
        if not 0 <= self.epochs <= limits.AMOUNT or not 0 <= self.grow_steps <= limits.AMOUNT:
            return "it has a number of epochs or growth steps that no training has"
        for measurement in self.measurements:
            if not 0 <= measurement.epoch <= limits.AMOUNT:
                return "it counts epochs that no training has"
            if not 0 <= measurement.step <= limits.AMOUNT:
                return "it counts steps that no training has"
        last = len(self.measurements)
        if not all(0 <= growth <= last for growth in self.growths):
            return "it grew before it began, or after its end"
        if list(self.growths) != sorted(self.growths):
            return "its growth steps lie in no order"
        return ""
