"""Weights & Biases."""

from typing import Any

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Amount, Name
from fxgrow.errors import RunError
from fxgrow.optional import require
from fxgrow.training.listeners.metrics import EPOCH_METRICS, GROWTH_METRICS, Metrics
from fxgrow.training.listeners.tracker import EVERY, Tracker

_AXIS = "optimizer_step"


class WandbLog(Tracker):
    """A listener that sends to Weights & Biases (``pip install 'fxgrow[wandb]'``).

    A run that is active already is taken and left open; else one is begun and finished. Where to
    and whether at all is said by W&B's own environment (``WANDB_PROJECT``, ``WANDB_MODE``).

    Args:
        name: of the run; W&B makes one up if None.
        every: send the loss of one batch in so many; 0: of none.

    Raises:
        RunError: ``missing-extra``: there is no wandb.

    Example:
        >>> train_and_grow(model, data, settings, listeners=[WandbLog()], **growth)
    """

    @checked
    def __init__(self, name: Name | None = None, *, every: Amount = EVERY) -> None:
        super().__init__(every)
        self.name = name
        self._wandb = require("wandb", extra="wandb", error=RunError)

    def _open(self, settings: dict[str, Any], resumed_at: int | None) -> None:
        self._is_own = self._wandb.run is None
        # If one is active, this gives it.
        self._run: Any = self._wandb.init(name=self.name, config=settings)
        # An axis of their own: W&B drops what comes at an earlier step than something else did.
        for metric in ("loss/batch", *EPOCH_METRICS, *GROWTH_METRICS):
            self._run.define_metric(metric, step_metric=_AXIS)

    def _write(self, metrics: Metrics) -> None:
        self._run.log({**metrics.values, "epoch": metrics.epoch, _AXIS: metrics.place})

    def _close(self, *, failed: bool) -> None:
        if self._is_own:
            self._run.finish(exit_code=int(failed))
