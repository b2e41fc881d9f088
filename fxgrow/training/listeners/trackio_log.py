"""Trackio: a tracker that keeps its data on this machine, from Hugging Face."""

import sys
from contextlib import AbstractContextManager, redirect_stdout
from typing import Any

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Amount, Name
from fxgrow.errors import RunError
from fxgrow.optional import require
from fxgrow.training.listeners.metrics import Metrics
from fxgrow.training.listeners.tracker import EVERY, Tracker


class TrackioLog(Tracker):
    """A listener that writes to Trackio (``pip install 'fxgrow[trackio]'``; ``trackio show``).

    Args:
        project: that the run is part of.
        name: of the run; Trackio makes one up if None.
        every: write the loss of one batch in so many; 0: of none.

    Raises:
        RunError: ``missing-extra``: there is no trackio.

    Example:
        >>> train_and_grow(model, data, settings, listeners=[TrackioLog()], **growth)
    """

    @checked
    def __init__(
        self, project: Name = "fxgrow", name: Name | None = None, *, every: Amount = EVERY
    ) -> None:
        super().__init__(every)
        self.project, self.name = project, name
        self._trackio = require("trackio", extra="trackio", error=RunError)

    def _open(self, settings: dict[str, Any], resumed_at: int | None) -> None:
        # A run of that name goes on, as when it was stopped.
        with _on_standard_error():
            self._run = self._trackio.init(
                project=self.project, name=self.name, config=settings, resume="allow", embed=False
            )

    def _write(self, metrics: Metrics) -> None:
        self._run.log({**metrics.values, "epoch": metrics.epoch}, step=metrics.place)

    def _close(self, *, failed: bool) -> None:
        with _on_standard_error():
            self._trackio.finish()


def _on_standard_error() -> AbstractContextManager[object]:
    """Trackio says what it does, where commands print what machines read."""
    return redirect_stdout(sys.stderr)
