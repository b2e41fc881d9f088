"""What a run shows while it goes on, in a terminal and without one."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from fxgrow.cli.progress import SILENCE, ProgressDisplay, progress_display
from fxgrow.training import (
    BatchDone,
    CheckpointSaved,
    EpochDone,
    Event,
    GrowthDone,
    GrowthPhase,
    GrowthSkipped,
    GrowthStarted,
    RunResumed,
    RunSettings,
    RunStarted,
    StoppedEarly,
)
from tests.report.test_tables import REPORT

SETTINGS = RunSettings(epochs=3, grow_steps=1)
START = RunStarted(SETTINGS, 20, 1500)


def console(terminal: bool) -> Console:
    return Console(file=StringIO(), force_terminal=terminal, width=120, _environ={})


def said(shown: Console) -> list[str]:
    assert isinstance(shown.file, StringIO)
    return [line.strip() for line in shown.file.getvalue().splitlines() if line.strip()]


class Clock:
    """A time that tests move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_display_shows_the_loss_and_the_phase_of_a_growth_step() -> None:
    progress = Progress(console=console(terminal=True), auto_refresh=False)
    draw = ProgressDisplay(progress)

    def bars() -> list[tuple[str, float, float | None]]:
        return [(task.description, task.completed, task.total) for task in progress.tasks]

    draw(START)
    draw(BatchDone(1, 1, 0.5, 1))
    assert bars() == [("epoch 1/3", 1, 60)]
    assert progress.tasks[0].fields["note"] == "loss 0.5"
    draw(GrowthStarted(1, 1))
    draw(GrowthPhase(1, "capture"))
    assert bars()[1:] == [("growth step 1: capture", 0, None)]
    draw(GrowthPhase(1, "search"))
    draw(GrowthPhase(1, "search", 13, 20))
    assert bars()[1:] == [("growth step 1: search", 13, 20)]
    draw(GrowthPhase(1, "emit"))
    assert bars()[1:] == [("growth step 1: emit", 0, None)]
    draw(GrowthDone(1, 1, REPORT))
    assert bars() == [("epoch 1/3", 1, 60)]


@pytest.mark.parametrize(
    "end", [GrowthSkipped(1, 1, "gained nothing"), GrowthDone(1, 1, REPORT, 0.5)]
)
def test_everything_that_is_done_has_a_line(end: Event) -> None:
    shown = console(terminal=False)
    events = (START, EpochDone(1, 0, 0.5, 0.25, 0.1, 2.0), GrowthStarted(1, 1), end)
    with progress_display(shown) as draw:
        for event in events:
            draw(event)
    first, epoch, begins, *rest = said(shown)
    assert first == "3 epochs of 20 steps, 1.5 k parameters"
    assert epoch == "epoch 1/3  loss 0.5  test accuracy 25.00 %  2 s"
    assert begins == "growth step 1 begins"
    if isinstance(end, GrowthSkipped):
        assert rest == ["growth step 1 is left out: gained nothing"]
    else:
        assert rest[0] == "growth step 1: a[0] 4 -> 7, new layer grown_layers.relu (3 neurons)"
        assert rest[-1] == "test accuracy of the grown model 50.00 %"
        assert any(line.startswith("budget: 500 of 600 parameters spent") for line in rest)


@pytest.mark.parametrize("terminal", [False, True])
def test_without_a_terminal_there_is_no_long_silence(terminal: bool) -> None:
    shown, clock = console(terminal), Clock()
    draw = ProgressDisplay(Progress(console=shown, auto_refresh=False), clock)
    draw(START)
    for batch in range(1, 8):
        clock.now += SILENCE / 2
        draw(BatchDone(1, batch, 0.5, batch))
    draw(GrowthPhase(1, "search", 1, 20))
    clock.now += SILENCE
    draw(GrowthPhase(1, "search", 7, 20))
    lines = said(shown)[1:]
    if terminal:
        assert lines == []
    else:
        assert lines == [
            *(f"epoch 1/3  step {batch}/20  loss 0.5" for batch in (2, 4, 6)),
            "growth step 1: search 7/20",
        ]


def test_the_average_stands_beside_the_weights() -> None:
    shown = console(terminal=False)
    epoch = EpochDone(1, 0, 0.5, 0.25, average_accuracy=0.375)
    grown = GrowthDone(1, 1, REPORT, 0.5, average_accuracy=0.625)
    with progress_display(shown) as draw:
        for event in (START, epoch, GrowthStarted(1, 1), grown):
            draw(event)
    lines = said(shown)
    assert lines[1] == "epoch 1/3  loss 0.5  test accuracy 25.00 % (averaged weights 37.50 %)"
    accuracies = "50.00 % (averaged weights 62.50 %)"
    assert lines[-1] == f"test accuracy of the grown model {accuracies}"


def test_an_early_stop_has_a_line_that_says_what_it_leaves_out() -> None:
    shown = console(terminal=False)
    with progress_display(shown) as draw:
        draw(START)
        draw(StoppedEarly(2, 1, growth_steps_left=1))
    assert said(shown)[1] == (
        "stopped early after epoch 2 of 3, with no better validation loss for more than 1 epoch, "
        "before up to 1 more growth step"
    )


def test_a_run_that_goes_on_says_where() -> None:
    shown = console(terminal=False)
    with progress_display(shown) as draw:
        draw(RunResumed(SETTINGS, 20, 2, undecided=False))
        assert draw.progress.tasks[0].completed == 40  # type: ignore[attr-defined]
        draw(CheckpointSaved(2, Path()))
    assert said(shown) == ["2 of 3 epochs are done; going on from there"]
