"""Progress of a run: what it does now, how far it is, and a line for everything that is done.

In a terminal a live display shows the loss, the time left, and the phase of a growth step. Without
one there are plain lines, and never silence for long.
"""

import time
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
    count_text,
    early_stop_text,
    growth_headline,
    growth_lines,
    number_text,
    percent_text,
    plan_lines,
    quantity_text,
    seconds_text,
)
from fxgrow.training import (
    BatchDone,
    EpochDone,
    Event,
    GrowthDone,
    GrowthPhase,
    GrowthSkipped,
    GrowthStarted,
    Listener,
    RunResumed,
    RunStarted,
    StoppedEarly,
)

SILENCE = 10.0
"""Seconds after which a run that no terminal shows says what it is doing."""


@contextmanager
def progress_display(console: Console) -> Iterator[Listener]:
    """Show what a run does on a console, and give a listener that draws its events."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    # The bars disappear at the end (transient); the lines that were printed above them remain.
    with Progress(*columns, console=console, transient=True) as progress:
        yield ProgressDisplay(progress)


class ProgressDisplay:
    """Draws the events of one run.

    Args:
        progress: a display that is running.
        clock: gives the time in seconds.
    """

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self.progress, self.clock = progress, clock
        self.last_line = clock()
        # All are known when the run has started.
        self.task = TaskID(0)
        self.epochs = self.batches = 0
        # The bar of a growth step, while there is one, and the phase that it shows.
        self.growth_task: TaskID | None = None
        self.phase = ""
        self.handlers: Mapping[type[Event], Callable[[Any], None]] = {
            RunStarted: self._start_run,
            RunResumed: self._resume_run,
            BatchDone: self._show_batch,
            EpochDone: self._show_epoch,
            GrowthStarted: self._start_growth,
            GrowthPhase: self._show_phase,
            GrowthDone: self._show_growth,
            GrowthSkipped: self._show_skipped,
            StoppedEarly: self._show_stop,
        }

    def __call__(self, event: Event) -> None:
        """Draw one event; what has no handler is of no interest to who waits."""
        handler = self.handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _start_run(self, event: RunStarted) -> None:
        self._start_training(event, done=0)
        steps = quantity_text(self.batches, "step")
        parameters = count_text(event.parameters)
        epochs = quantity_text(self.epochs, "epoch")
        self._print_line(f"{epochs} of {steps}, {parameters} parameters")

    def _resume_run(self, event: RunResumed) -> None:
        self._start_training(event, event.epochs)
        self._print_line(f"{event.epochs} of {self.epochs} epochs are done; going on from there")

    def _start_training(self, event: RunStarted | RunResumed, done: int) -> None:
        self.epochs, self.batches = event.settings.epochs, event.batches_per_epoch
        total, completed = self.epochs * self.batches, done * self.batches
        self.task = self.progress.add_task("training", total=total, completed=completed, note="")

    def _show_batch(self, event: BatchDone) -> None:
        where, loss = f"epoch {event.epoch}/{self.epochs}", f"loss {number_text(event.loss)}"
        self.progress.update(self.task, advance=1, description=where, note=loss)
        self._break_silence(f"{where}  step {event.batch}/{self.batches}  {loss}")

    def _show_epoch(self, event: EpochDone) -> None:
        parts = [f"epoch {event.epoch}/{self.epochs}", f"loss {number_text(event.loss)}"]
        if event.test_accuracy is not None:
            parts.append(f"test accuracy {_accuracies(event)}")
        if event.seconds is not None:
            parts.append(seconds_text(event.seconds))
        self._print_line("  ".join(parts))

    def _start_growth(self, event: GrowthStarted) -> None:
        self._print_line(f"growth step {event.step} begins")

    def _show_phase(self, event: GrowthPhase) -> None:
        where = f"growth step {event.step}: {event.name}"
        # A bar that has had a total cannot go back to having none, so each phase has its own.
        if self.growth_task is None or where != self.phase:
            self._end_growth()
            self.growth_task = self.progress.add_task(where, total=None, note="")
            self.phase = where
        if event.total:
            self.progress.update(self.growth_task, total=event.total, completed=event.done)
            where += f" {event.done}/{event.total}"
        self._break_silence(where)

    def _end_growth(self) -> None:
        if self.growth_task is not None:
            self.progress.remove_task(self.growth_task)
        self.growth_task = None

    def _show_growth(self, event: GrowthDone) -> None:
        self._end_growth()
        self._print_line(growth_headline(event.report, event.step))
        # Set in, as details of the line above.
        for line in (*plan_lines(event.report.plan), *growth_lines(event.report)):
            self._print_line(Text("  ").append_text(line))
        if event.test_accuracy is not None:
            self._print_line(f"  test accuracy of the grown model {_accuracies(event)}")

    def _show_skipped(self, event: GrowthSkipped) -> None:
        self._end_growth()
        self._print_line(f"growth step {event.step} is left out: {event.reason}")

    def _show_stop(self, event: StoppedEarly) -> None:
        self._print_line(early_stop_text(event, self.epochs))

    def _break_silence(self, line: str) -> None:
        """Say where the run is if nothing shows it and nothing was said for long."""
        is_seen = self.progress.console.is_terminal
        if not is_seen and self.clock() - self.last_line >= SILENCE:
            self._print_line(line)

    def _print_line(self, line: str | Text) -> None:
        # As ``Text``, because rich would read square brackets in a string as markup.
        self.progress.console.print(Text(line) if isinstance(line, str) else line)
        self.last_line = self.clock()


def _accuracies(event: EpochDone | GrowthDone) -> str:
    """The test accuracy, and that of the moving average if there is one."""
    average = event.average_accuracy
    more = "" if average is None else f" (averaged weights {percent_text(average)})"
    return percent_text(event.test_accuracy or 0.0) + more
