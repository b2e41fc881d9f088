"""TensorBoard: curves of the losses, and growth steps as text at their place."""

from pathlib import Path
from typing import Any

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Amount
from fxgrow.errors import RunError
from fxgrow.optional import require
from fxgrow.training.listeners.metrics import Metrics
from fxgrow.training.listeners.tracker import EVERY, Tracker


class TensorBoardLog(Tracker):
    """A listener that writes event files for TensorBoard (``pip install 'fxgrow[tensorboard]'``).

    When a run is resumed, TensorBoard drops what was written after the checkpoint.

    Args:
        directory: of the event files, as for ``tensorboard --logdir``.
        every: write the loss of one batch in so many; 0: of none.

    Raises:
        RunError: ``missing-extra``: there is no tensorboard.

    Example:
        >>> log = TensorBoardLog(Path("runs/mine/tensorboard"))
        >>> train_and_grow(model, data, settings, listeners=[log], **growth)
    """

    @checked
    def __init__(self, directory: Path, *, every: Amount = EVERY) -> None:
        super().__init__(every)
        # torch has the writer, and says too little if the package that it needs is missing.
        require("tensorboard", extra="tensorboard", error=RunError)
        self.directory = directory
        from torch.utils.tensorboard import SummaryWriter

        self._make_writer = SummaryWriter

    def _open(self, settings: dict[str, Any], resumed_at: int | None) -> None:
        # TensorBoard hides what an earlier writer to the directory has from that step on.
        purged = None if resumed_at is None else resumed_at + 1
        self._writer = self._make_writer(str(self.directory), purge_step=purged)

    def _write(self, metrics: Metrics) -> None:
        for name, value in metrics.values.items():
            self._writer.add_scalar(name, value, metrics.place)
        if metrics.note:
            self._writer.add_text("growth", metrics.note, metrics.place)
        # Whoever watches sees every epoch at once, and batches when some have come together.
        if metrics.event != "batch":
            self._writer.flush()

    def _close(self, *, failed: bool) -> None:
        self._writer.close()
