"""Progress of a run: a bar with loss and time left, a line per epoch, tables per growth step."""

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
    GrowthSkipped,
    GrowthStarted,
    Listener,
    RunResumed,
    RunStarted,
)


@contextmanager
def progress_display(console: Console) -> Iterator[Listener]:
    """Show a progress bar on a console, and give a listener that draws the events of one run."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    # The bar disappears at the end (transient); the lines that were printed above it remain.
    with Progress(*columns, console=console, transient=True) as progress:
        yield ProgressDisplay(progress)


class ProgressDisplay:
    """Draws the events of one run.

    Args:
        progress: a display that is running.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        # Both are known when the run has started.
        self.task = TaskID(0)
        self.epochs = 0
        self.handlers: Mapping[type[Event], Callable[[Any], None]] = {
            RunStarted: self._start_run,
            RunResumed: self._resume_run,
            BatchDone: self._show_batch,
            EpochDone: self._show_epoch,
            GrowthStarted: self._start_growth,
            GrowthDone: self._show_growth,
            GrowthSkipped: self._show_skipped,
        }

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        handler = self.handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _start_run(self, event: RunStarted) -> None:
        self.epochs = event.settings.epochs
        batches = self.epochs * event.batches_per_epoch
        self.task = self.progress.add_task("training", total=batches, loss="-")

    def _resume_run(self, event: RunResumed) -> None:
        self.epochs = event.settings.epochs
        batches, done = event.batches_per_epoch, event.epochs
        self.task = self.progress.add_task(
            "training", total=self.epochs * batches, completed=done * batches, loss="-"
        )
        self._print_line(f"{done} of {self.epochs} epochs are done; going on from there")

    def _show_batch(self, event: BatchDone) -> None:
        description = f"epoch {event.epoch}/{self.epochs}"
        loss = number_text(event.loss)
        self.progress.update(self.task, advance=1, description=description, loss=loss)

    def _show_epoch(self, event: EpochDone) -> None:
        parts = [f"epoch {event.epoch}/{self.epochs}", f"loss {number_text(event.loss)}"]
        if event.test_accuracy is not None:
            parts.append(f"test accuracy {percent_text(event.test_accuracy)}")
        if event.seconds is not None:
            parts.append(seconds_text(event.seconds))
        self._print_line("  ".join(parts))

    def _start_growth(self, event: GrowthStarted) -> None:
        self.progress.update(self.task, description=f"growth step {event.step}")

    def _show_growth(self, event: GrowthDone) -> None:
        console = self.progress.console
        console.print(growth_table(event.report, event.step))
        console.print(plan_table(event.report.plan))
        for line in (*plan_lines(event.report.plan), *growth_lines(event.report)):
            console.print(line)
        if event.test_accuracy is not None:
            accuracy = percent_text(event.test_accuracy)
            self._print_line(f"test accuracy of the grown model {accuracy}")

    def _show_skipped(self, event: GrowthSkipped) -> None:
        self._print_line(f"growth step {event.step} is left out: {event.reason}")

    def _print_line(self, line: str) -> None:
        # As ``Text``, because rich would read square brackets in a string as markup.
        self.progress.console.print(Text(line))
