"""When to stop before all epochs are over."""

from pydantic import ConfigDict, Field

from fxgrow.argument_checks import checked
from fxgrow.documents import Settings, limits
from fxgrow.training.history import TrainingHistory
from fxgrow.training.triggers import AtEpochs, AtSteps, GrowWhen, OnPlateau


class EarlyStop(Settings):
    """Stop when the loss on images that are set aside has stopped falling.

    Epochs are counted as ``OnPlateau`` counts them, from the last growth step on: a grown model
    gets as many as the one before. A growth step that is due comes first, but those that would
    come later are left out.

    Args:
        patience: epochs that may pass without a better loss.
        min_delta: by which share of the best loss a better one is lower.

    Raises:
        ArgumentError: ``bad-setting``: a value is out of range.

    Example:
        >>> fxgrow.training.RunSettings(early_stop=EarlyStop(patience=5), validation=0.1)
    """

    model_config = ConfigDict(allow_inf_nan=False)

    patience: int = Field(default=10, ge=0, le=limits.EPOCHS)
    min_delta: float = Field(default=1e-4, ge=0, lt=1)

    @checked
    def is_due(self, history: TrainingHistory) -> bool:
        """Whether the run should stop now."""
        if not history.since_growth:  # a model that has just grown is not measured yet
            return False
        plateau = OnPlateau(patience=self.patience, min_delta=self.min_delta, of="validation_loss")
        return plateau.should_grow(history)


def growth_steps_left(trigger: GrowWhen, history: TrainingHistory) -> int:
    """How many growth steps might still follow if a run went on, at most.

    Args:
        trigger: asks for them; those at given points say how many, others may wait for ever.
        history: of the run; the trigger has decided about its last measurement.
    """
    now = history.now
    # None lies after the last epoch, and one at most between two of them.
    bounds = [history.grow_steps - len(history.growths), history.epochs - 1 - now.epoch]
    if isinstance(trigger, AtEpochs):
        bounds.append(len({epoch for epoch in trigger.epochs if epoch > now.epoch}))
    if isinstance(trigger, AtSteps):
        bounds.append(len({step for step in trigger.steps if step > now.step}))
    return max(min(bounds), 0)
