"""MLflow."""

from typing import Any

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Amount, Name
from fxgrow.errors import RunError
from fxgrow.optional import require
from fxgrow.training.listeners.metrics import Metrics
from fxgrow.training.listeners.tracker import EVERY, Tracker

_MAX_PARAM = 500
"""Characters of a parameter that every store of MLflow takes."""


class MlflowLog(Tracker):
    """A listener that sends to MLflow (``pip install 'fxgrow[mlflow]'``).

    A run that is active already is taken and left open; else one is begun and ended. Where to is
    said by MLflow's own environment (``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``).

    Args:
        name: of the run; MLflow makes one up if None.
        every: send the loss of one batch in so many; 0: of none.

    Raises:
        RunError: ``missing-extra``: there is no mlflow.

    Example:
        >>> train_and_grow(model, data, settings, listeners=[MlflowLog()], **growth)
    """

    @checked
    def __init__(self, name: Name | None = None, *, every: Amount = EVERY) -> None:
        super().__init__(every)
        self.name = name
        self._mlflow = require("mlflow", extra="mlflow", error=RunError)

    def _open(self, settings: dict[str, Any], resumed_at: int | None) -> None:
        self._is_own = self._mlflow.active_run() is None
        if self._is_own:
            self._mlflow.start_run(run_name=self.name)
            # Nested settings become text, which is what MLflow compares runs by.
            self._mlflow.log_params(
                {name: str(value)[:_MAX_PARAM] for name, value in settings.items()}
            )

    def _write(self, metrics: Metrics) -> None:
        # MLflow takes slashes in names, as in those of folders.
        self._mlflow.log_metrics(dict(metrics.values), step=metrics.place)

    def _close(self, *, failed: bool) -> None:
        if self._is_own:
            self._mlflow.end_run("FAILED" if failed else "FINISHED")
