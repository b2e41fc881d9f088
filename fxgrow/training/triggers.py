"""When to grow: a trigger reads what a run has measured so far, and says whether to grow now.

References:
- ``OnPlateau`` counts as ``torch.optim.lr_scheduler.ReduceLROnPlateau`` does.
- ``UntilNoGain``: Wen, Yan, Chen, Li, "AutoGrow", KDD 2020: grow every K epochs, until the accuracy
  gains no more than tau. How we differ: one stop for the whole network; theirs stop sub-network by
  sub-network.
- ``OnFullRank``: Maile, Rachelson, Luga, Wilson, "When, Where, and How to Add New Neurons to ANNs",
  AutoML 2022 (NORTH): the effective rank of a layer's activations H [neurons, samples] is the
  number of singular values of H / sqrt(samples) above 0.01, and a layer grows when that is near its
  width. How we differ: singular values count relative to the largest, so that the scale of a layer
  does not matter, and the mean over layers decides, since a growth step grows all of them within
  one budget.
- ``ByPromise`` is ours: growth is worth its price when it promises a larger decrease of the loss
  per multiply-add than training delivers.

A trigger keeps no state: the same history gives the same answer, so runs are reproducible, and the
triggers serve in anybody's own training loop. In a run the learning rate falls while they wait,
whatever they say.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field, model_validator

from fxgrow.argument_checks import checked
from fxgrow.documents import Settings, limits
from fxgrow.errors import TrainingError
from fxgrow.training.history import Measurement, TrainingHistory

Request = Literal["spectra", "promise"]
"""What a run measures only if the trigger asks for it."""

Need = Literal["validation", "accuracy", "gains"]
"""Images that are set aside, the accuracy on them, or a method whose scores are gains of the loss.

What needs the accuracy needs the images, too."""


class Trigger(Protocol):
    """Says when to grow; frozen settings without a state.

    Example:
        In a training loop of one's own:

        >>> trigger, history = OnPlateau(patience=2), TrainingHistory(())
        >>> for epoch in range(1, 31):
        ...     measured = Measurement(epoch, epoch * len(loader), train(model, loader))
        ...     history = replace(history, measurements=(*history.measurements, measured))
        ...     if trigger.should_grow(history):
        ...         model = fxgrow.grow(model, loader, loss_fn).module
        ...         history = replace(history, growths=(*history.growths, epoch))
    """

    @property
    def needs(self) -> frozenset[Need]:
        """What the run must have for it."""
        ...

    def asks(self, history: TrainingHistory) -> Request | None:
        """What must be measured now before it can say."""
        ...

    def should_grow(self, history: TrainingHistory) -> bool:
        """Whether to grow now."""
        ...


class _OfTheLoss(Settings):
    """A trigger that needs what every run measures."""

    @property
    def needs(self) -> frozenset[Need]:
        """What the run must have for it: nothing."""
        return frozenset()

    @checked
    def asks(self, history: TrainingHistory) -> Request | None:
        """What must be measured now before it can say: nothing."""
        return None


@checked
def equal_phases(epochs: int, grow_steps: int) -> tuple[int, ...]:
    """The epochs at whose end a run grows that is cut into phases of equal length, to one epoch.

    Args:
        epochs: of the whole run.
        grow_steps: between two phases.

    Returns:
        One epoch per growth step.

    Example:
        >>> equal_phases(epochs=7, grow_steps=2)
        (2, 5)
    """
    # The ends of phases are rounded, not their lengths, so the lengths add up to ``epochs``.
    return tuple(round(epochs * phase / (grow_steps + 1)) for phase in range(1, grow_steps + 1))


class EqualPhases(_OfTheLoss):
    """Grow ``grow_steps`` times, at equal distances over the whole run: the default.

    Args:
        name: that of the class, as of all triggers; it tells them apart in a recipe.

    Example:
        >>> fxgrow.training.RunSettings(epochs=6, grow_steps=2, grow_when=EqualPhases())
    """

    name: Literal["EqualPhases"] = "EqualPhases"

    @checked
    def should_grow(self, history: TrainingHistory) -> bool:
        """Whether a phase ends now."""
        return history.now.epoch in equal_phases(history.epochs, history.grow_steps)


class EveryEpochs(_OfTheLoss):
    """Grow whenever some epochs have passed since the last growth step.

    Args:
        epochs: how many.

    Example:
        >>> fxgrow.training.RunSettings(epochs=9, grow_steps=4, grow_when=EveryEpochs(epochs=2))
    """

    name: Literal["EveryEpochs"] = "EveryEpochs"
    epochs: int = Field(default=1, ge=1, le=limits.EPOCHS)

    @checked
    def should_grow(self, history: TrainingHistory) -> bool:
        """Whether enough epochs have passed."""
        return history.epochs_since_growth >= self.epochs


_Epoch = Annotated[int, Field(ge=1, le=limits.EPOCHS)]
_Step = Annotated[int, Field(ge=1, le=limits.TRAINING_STEPS)]


class AtEpochs(_OfTheLoss):
    """Grow when these epochs are done.

    Args:
        epochs: numbers of epochs, from 1.

    Example:
        >>> fxgrow.training.RunSettings(epochs=9, grow_steps=2, grow_when=AtEpochs(epochs=(1, 3)))
    """

    name: Literal["AtEpochs"] = "AtEpochs"
    epochs: tuple[_Epoch, ...] = Field(min_length=1, max_length=limits.GROWTH_STEPS)

    @checked
    def should_grow(self, history: TrainingHistory) -> bool:
        """Whether one of the epochs was reached since the measurement before."""
        # Epochs between two measurements count too, for loops that measure less often.
        before = TrainingHistory(history.measurements[:-1]).now.epoch
        return any(before < epoch <= history.now.epoch for epoch in self.epochs)


class AtSteps(_OfTheLoss):
    """Grow when so many steps of the optimizer are done; a run looks at the end of each epoch.

    Args:
        steps: numbers of steps, from 1.

    Example:
        >>> fxgrow.training.RunSettings(epochs=9, grow_steps=1, grow_when=AtSteps(steps=(400,)))
    """

    name: Literal["AtSteps"] = "AtSteps"
    steps: tuple[_Step, ...] = Field(min_length=1, max_length=limits.GROWTH_STEPS)

    @checked
    def should_grow(self, history: TrainingHistory) -> bool:
        """Whether one of the steps was reached since the measurement before."""
        # A step inside the epoch is reached when the epoch is over.
        before = TrainingHistory(history.measurements[:-1]).now.step
        return any(before < step <= history.now.step for step in self.steps)


class OnPlateau(_OfTheLoss):
    """Grow when the loss has stopped falling, counted as ``ReduceLROnPlateau`` of torch counts.

    A loss is better if it is below best (1 - min_delta), or below best - min_delta in the mode
    ``abs``. After more than ``patience`` measurements in a row that are not, the model grows, and
    counting starts again; the best loss stays.

    Args:
        patience: measurements that may pass without a better loss.
        min_delta: by how much a better loss is lower (torch's ``threshold``).
        mode: whether that is a share of the best loss or a difference (torch's ``threshold_mode``).
        of: the loss on the training images or on those that are set aside.

    Example:
        >>> fxgrow.training.RunSettings(epochs=30, grow_steps=4, grow_when=OnPlateau(patience=2))
    """

    name: Literal["OnPlateau"] = "OnPlateau"
    patience: int = Field(default=10, ge=0, le=limits.EPOCHS)
    min_delta: float = Field(default=1e-4, ge=0, le=limits.RATE)
    mode: Literal["rel", "abs"] = "rel"
    of: Literal["loss", "validation_loss"] = "loss"

    @model_validator(mode="after")
    def _is_a_share(self) -> "OnPlateau":
        if self.mode == "rel" and self.min_delta >= 1:
            raise ValueError("a loss cannot fall by a share of 1 or more; give mode=abs")
        return self

    @property
    def needs(self) -> frozenset[Need]:
        """What the run must have for it: images that are set aside, if their loss decides."""
        return frozenset(("validation",)) if self.of == "validation_loss" else frozenset()

    @checked
    def should_grow(self, history: TrainingHistory) -> bool:
        """Whether the loss was no better for too long."""
        # The whole history is counted again, so that there is no state to be saved with a run.
        best, not_better = math.inf, 0
        for index, measurement in enumerate(history.measurements):
            # A growth step lies before this measurement: torch counts anew after a reduction.
            if index in history.growths:
                not_better = 0
            loss = measurement.loss
            if self.of == "validation_loss":
                loss = _validated(measurement.validation_loss)
            if loss < self._bound(best):
                best, not_better = loss, 0
            else:
                not_better += 1
        return not_better > self.patience

    def _bound(self, best: float) -> float:
        """What a better loss is below."""
        return best * (1 - self.min_delta) if self.mode == "rel" else best - self.min_delta


class UntilNoGain(_OfTheLoss):
    """Grow every few epochs, until the accuracy has gained too little since the last growth step.

    It decides once, ``epochs`` after a growth step: what stops growing does not start again.

    Args:
        epochs: between two growth steps (K in AutoGrow).
        min_delta: growth goes on if the validation accuracy has gained more (tau in AutoGrow).

    Example:
        >>> trigger = UntilNoGain(epochs=3, min_delta=0.0005)
        >>> fxgrow.training.RunSettings(epochs=60, grow_steps=19, grow_when=trigger, validation=0.1)
    """

    name: Literal["UntilNoGain"] = "UntilNoGain"
    epochs: int = Field(default=3, ge=1, le=limits.EPOCHS)
    min_delta: float = Field(default=5e-4, ge=0, le=1)

    @property
    def needs(self) -> frozenset[Need]:
        """What the run must have for it: images that are set aside, and the accuracy on them."""
        return frozenset(("validation", "accuracy"))

    @checked
    def should_grow(self, history: TrainingHistory) -> bool:
        """Whether it is time, and the last growth step was worth something."""
        start = history.at_growth.epoch
        late = [one for one in history.since_growth if one.epoch - start >= self.epochs]
        if len(late) != 1:  # too early, or decided already
            return False
        # Of the first growth step there is nothing to judge it by.
        if not history.growths:
            return True
        before = _validated(history.at_growth.validation_accuracy)
        return _validated(history.now.validation_accuracy) - before > self.min_delta


class OnFullRank(_OfTheLoss):
    """Grow when the activations use nearly all dimensions that the widths have.

    Args:
        share: of the full rank that the effective rank must reach, in the mean over all widths.
        threshold: singular values above this share of the largest count.
        epochs: least number of epochs between two growth steps.

    Example:
        >>> fxgrow.training.RunSettings(epochs=30, grow_steps=4, grow_when=OnFullRank(share=0.9))
    """

    name: Literal["OnFullRank"] = "OnFullRank"
    share: float = Field(default=0.95, gt=0, le=1)
    threshold: float = Field(default=0.01, ge=0, lt=1)
    epochs: int = Field(default=1, ge=1, le=limits.EPOCHS)

    @checked
    def asks(self, history: TrainingHistory) -> Request | None:
        """What must be measured now before it can say."""
        return "spectra" if history.epochs_since_growth >= self.epochs else None

    @checked
    def should_grow(self, history: TrainingHistory) -> bool:
        """Whether the mean effective rank is near the full one."""
        spectra = history.now.spectra
        if history.epochs_since_growth < self.epochs or not spectra:
            return False
        shares = [spectrum.rank_share(self.threshold) for spectrum in spectra]
        return sum(shares) / len(shares) >= self.share


class ByPromise(_OfTheLoss):
    """Grow when a search promises more per multiply-add than training has delivered lately.

    With g the gain that the scores of the selected candidates add up to, and F the multiply-adds of
    the search, growth is worth its price if

        g / F  >  (loss[t - window] - loss[t]) / (multiply-adds of those epochs).

    The search is a growth step that is thrown away if the answer is no, and is paid for either way.

    Args:
        epochs: between two searches.
        window: epochs that the slope of the loss is taken over.

    Example:
        >>> trigger = ByPromise(epochs=2, window=2)
        >>> fxgrow.training.RunSettings(epochs=20, grow_steps=4, grow_when=trigger)
    """

    name: Literal["ByPromise"] = "ByPromise"
    epochs: int = Field(default=1, ge=1, le=limits.EPOCHS)
    window: int = Field(default=1, ge=1, le=limits.EPOCHS)

    @property
    def needs(self) -> frozenset[Need]:
        """What the run must have for it: a method whose scores are gains."""
        return frozenset(("gains",))

    @checked
    def asks(self, history: TrainingHistory) -> Request | None:
        """What must be measured now before it can say."""
        waited = history.epochs_since_growth
        is_due = waited % self.epochs == 0 and len(self._recent(history)) > self.window
        return "promise" if is_due else None

    @checked
    def should_grow(self, history: TrainingHistory) -> bool:
        """Whether growth promises more per multiply-add than training."""
        recent, now = self._recent(history), history.now
        if now.promise is None or len(recent) <= self.window:
            return False
        # [loss[t - window], ..., loss[t]], all measured on the same architecture.
        spent = now.multiply_adds - recent[0].multiply_adds
        fallen = recent[0].loss - now.loss
        # g / F > fallen / spent, without a division by a cost that may be 0.
        return now.promise.gain * spent > fallen * now.promise.multiply_adds

    def _recent(self, history: TrainingHistory) -> Sequence[Measurement]:
        """The last measurements since growth: as many as the slope needs, if there are so many."""
        return history.since_growth[-(self.window + 1) :]


def _validated(value: float | None) -> float:
    """What was measured on the images that are set aside.

    Raises:
        TrainingError: ``no-validation``, if nothing was.
    """
    if value is None:
        raise without_validation("the trigger")
    return value


def without_validation(who: str) -> TrainingError:
    """The error of somebody who decides by images that are set aside where there are none."""
    return TrainingError(
        "no-validation",
        f"{who} decides by images that are set aside, and there are none; give validation=0.1, say",
    )


def first_epoch(trigger: Trigger) -> int:
    """The first epoch after which a trigger may ask for growth, however training goes.

    Args:
        trigger: any; of one that is not fxgrow's nothing is known, so it is 1.

    Returns:
        The number of epochs, counted as one per measurement.
    """
    if isinstance(trigger, AtEpochs):
        return min(trigger.epochs)
    if isinstance(trigger, EveryEpochs | UntilNoGain | OnFullRank):
        return trigger.epochs
    if isinstance(trigger, OnPlateau):
        return trigger.patience + 1  # if no loss is a number
    if isinstance(trigger, ByPromise):
        # The slope takes one measurement more than its window, and searches are epochs apart.
        return math.ceil((trigger.window + 1) / trigger.epochs) * trigger.epochs
    return 1


GrowWhen = Annotated[
    EqualPhases
    | EveryEpochs
    | AtEpochs
    | AtSteps
    | OnPlateau
    | UntilNoGain
    | OnFullRank
    | ByPromise,
    Field(discriminator="name"),
]
"""Any trigger; in a recipe its ``name`` says which."""

TRIGGERS: dict[str, type[Settings]] = {
    "EqualPhases": EqualPhases,
    "EveryEpochs": EveryEpochs,
    "AtEpochs": AtEpochs,
    "AtSteps": AtSteps,
    "OnPlateau": OnPlateau,
    "UntilNoGain": UntilNoGain,
    "OnFullRank": OnFullRank,
    "ByPromise": ByPromise,
}
"""All triggers by name."""
