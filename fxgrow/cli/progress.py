"""A run as it goes on: a bar with loss and time left, a line per epoch, a table per growth step."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fxgrow.report import (
    growth_lines,
    growth_table,
    number_text,
    percent_text,
    plan_lines,
    plan_table,
    seconds_text,
)
from fxgrow.training import (
    BatchDone,
    EpochDone,
    Event,
    GrowthDone,
    GrowthStarted,
    Listener,
    RunStarted,
)


@contextmanager
def progress_display(console: Console) -> Iterator[Listener]:
    """A listener that draws the events of one run on ``console``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield ProgressDisplay(progress)


class ProgressDisplay:
    """Draws events on a progress display."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = TaskID(0)
        self.epochs = 0
        self.rows: Mapping[type[Event], Callable[[Any], None]] = {
            RunStarted: self._started,
            BatchDone: self._batch,
            EpochDone: self._epoch,
            GrowthStarted: self._growing,
            GrowthDone: self._grown,
        }

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        self.rows[type(event)](event)

    def _started(self, event: RunStarted) -> None:
        self.epochs = event.settings.epochs
        self.task = self.progress.add_task(
            "training", total=self.epochs * event.batches_per_epoch, loss="-"
        )

    def _batch(self, event: BatchDone) -> None:
        words = f"epoch {event.epoch}/{self.epochs}"
        self.progress.update(self.task, advance=1, description=words, loss=number_text(event.loss))

    def _epoch(self, event: EpochDone) -> None:
        self._say(
            f"epoch {event.epoch}/{self.epochs}  loss {number_text(event.loss)}  test accuracy "
            f"{percent_text(event.test_accuracy)}  {seconds_text(event.seconds)}"
        )

    def _growing(self, event: GrowthStarted) -> None:
        self.progress.update(self.task, description=f"growth step {event.step}")

    def _grown(self, event: GrowthDone) -> None:
        self.progress.console.print(growth_table(event.report, event.step))
        self.progress.console.print(plan_table(event.report.plan))
        for line in (*plan_lines(event.report.plan), *growth_lines(event.report)):
            self.progress.console.print(line)
        self._say(f"test accuracy of the grown model {percent_text(event.test_accuracy)}")

    def _say(self, words: str) -> None:
        self.progress.console.print(Text(words))
