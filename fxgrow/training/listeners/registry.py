"""The listeners that a command may ask for by name (``--log``)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fxgrow.training.events import Listener
from fxgrow.training.listeners.csv_log import CsvLog
from fxgrow.training.listeners.mlflow_log import MlflowLog
from fxgrow.training.listeners.tensorboard_log import TensorBoardLog
from fxgrow.training.listeners.trackio_log import TrackioLog
from fxgrow.training.listeners.wandb_log import WandbLog

CSV_FILE, TENSORBOARD_DIRECTORY = "metrics.csv", "tensorboard"


@dataclass(frozen=True)
class LogPlace:
    """Where a run writes to while it goes on, and its name.

    Args:
        directory: of the run, as long as it is not finished.
        name: of the run.
    """

    directory: Path
    name: str


@dataclass(frozen=True)
class LoggerEntry:
    """A listener by name.

    Args:
        make: from the place of a run.
        output: the file or directory that it leaves there; None if it sends everything away.
    """

    make: Callable[[LogPlace], Listener]
    output: str | None = None


LOGGERS: Mapping[str, LoggerEntry] = {
    "csv": LoggerEntry(lambda run: CsvLog(run.directory / CSV_FILE), CSV_FILE),
    "tensorboard": LoggerEntry(
        lambda run: TensorBoardLog(run.directory / TENSORBOARD_DIRECTORY), TENSORBOARD_DIRECTORY
    ),
    "wandb": LoggerEntry(lambda run: WandbLog(run.name)),
    "mlflow": LoggerEntry(lambda run: MlflowLog(run.name)),
    "trackio": LoggerEntry(lambda run: TrackioLog(name=run.name)),
}
"""``log.jsonl`` is not among them: every run writes it."""
