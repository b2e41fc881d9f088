"""What all listeners that talk to a tracker have in common: which numbers, and when they end."""

from abc import ABC, abstractmethod
from typing import Any

from fxgrow.training.events import (
    BatchDone,
    Event,
    RunEnded,
    RunResumed,
    RunStarted,
    RunStopped,
)
from fxgrow.training.listeners.metrics import Metrics, metrics_of

EVERY = 10
"""Of so many batches the loss of one is sent, by default."""


class Tracker(ABC):
    """Sends the numbers of a run to a tracker, which is opened with the first of them.

    Args:
        every: send the loss of one batch in so many; 0: of none.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._is_open = False

    def __call__(self, event: Event) -> None:
        """Send what an event measured."""
        # Whatever else is told is of no interest to a tracker, and has no numbers.
        if isinstance(event, RunStarted):
            self._start(event.settings.model_dump(mode="json"), resumed_at=None)
        elif isinstance(event, RunResumed):
            done = event.epochs * event.batches_per_epoch
            self._start(event.settings.model_dump(mode="json"), resumed_at=done)
        elif isinstance(event, RunEnded | RunStopped) and self._is_open:
            self._is_open = False
            self._close(failed=isinstance(event, RunStopped))
        elif not isinstance(event, BatchDone) or self._is_due(event):
            self._send(metrics_of(event))

    def _is_due(self, event: BatchDone) -> bool:
        return self.every > 0 and event.optimizer_step % self.every == 0

    def _send(self, metrics: Metrics | None) -> None:
        if metrics is None:
            return
        if not self._is_open:  # in a loop of the user's own nobody says when it starts
            self._start({}, resumed_at=None)
        self._write(metrics)

    def _start(self, settings: dict[str, Any], resumed_at: int | None) -> None:
        self._open(settings, resumed_at)
        self._is_open = True

    @abstractmethod
    def _open(self, settings: dict[str, Any], resumed_at: int | None) -> None:
        """Begin.

        Args:
            settings: of the run; empty in a loop of the user's own.
            resumed_at: how many steps of the optimizer are done if a run goes on; else None.
        """

    @abstractmethod
    def _write(self, metrics: Metrics) -> None:
        """Send some numbers."""

    @abstractmethod
    def _close(self, *, failed: bool) -> None:
        """End, and wait until all is sent."""
