"""A run in one table and one sentence."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from fxgrow.report.numbers import (
    NO_VALUE,
    count_text,
    number_text,
    percent_text,
    quantity_text,
    ratio_text,
    seconds_text,
)
from fxgrow.report.story import RunStory, Tested
from fxgrow.report.style import cell_texts, make_table
from fxgrow.training import EpochRow, GrowthRow, StepResult, StoppedEarly, StoppedRow

_NUMBERS = (
    "after epoch", "parameters", "multiply-adds", "neurons", "test loss", "test accuracy", "time",
)  # fmt: skip
RUN_COLUMNS = ("", *_NUMBERS)


def run_table(story: RunStory) -> Table:
    """One row before growth, one per growth step, one at the end."""
    table = make_table(run_title(story), *RUN_COLUMNS, right=_NUMBERS)
    for row in run_rows(story):
        table.add_row(*cell_texts(*row))
    return table


def run_title(story: RunStory) -> str:
    """Of the table, with whose losses and accuracies stand in it."""
    return "Run, losses and accuracies of the averaged weights" if story.is_averaged else "Run"


def run_rows(story: RunStory) -> Iterator[tuple[str, ...]]:
    """The cells of the table of a run, row by row."""
    before = story.before_growth
    if before is not None and story.growths:
        first = story.growths[0]
        yield (
            "before growth",
            str(before.epoch),
            _count(first.params_before or story.first_parameters),
            _count(first.multiply_adds_before),
            "",
            *_tested_cells(story.tested(before)),
            seconds_text(sum(row.seconds or 0.0 for row in story.epochs_before_growth)),
        )
    for row in story.growths:
        yield _growth_cells(row, story.tested(row))
    if story.last is not None:
        yield _last_cells(story, story.last)


def _growth_cells(row: GrowthRow, tested: Tested) -> tuple[str, ...]:
    return (
        f"growth step {row.step}",
        "" if row.epoch is None else str(row.epoch),
        _count(row.params),
        _count(row.multiply_adds),
        grown_text(row),
        *_tested_cells(tested),
        seconds_text(row.seconds),
    )


def _last_cells(story: RunStory, last: EpochRow) -> tuple[str, ...]:
    earlier = len(story.epochs_before_growth) if story.growths else 0
    trained = sum(row.seconds or 0.0 for row in story.epochs[earlier:])
    return (
        "so far" if story.end is None else "at the end",
        str(last.epoch),
        _count(story.last_parameters),
        _count(story.last_multiply_adds),
        "",
        *_tested_cells(story.tested_at_last),
        seconds_text(trained),
    )


def _tested_cells(tested: Tested) -> tuple[str, str]:
    return number_text(tested.loss, 4), _percent(tested.accuracy)


def grown_text(row: GrowthRow) -> str:
    """How much a growth step added: +3 split +4 new +1 layer +1 block."""
    parts = [
        f"+{number} {word}" for number, word in ((row.split, "split"), (row.new, "new")) if number
    ]
    if row.layers:
        parts.append(f"+{quantity_text(len(row.layers), 'layer')}")
    blocks = sum(len(record.new) for record in row.blocks)
    if blocks:
        parts.append(f"+{quantity_text(blocks, 'block')}")
    return " ".join(parts) or "none"


def _count(value: int | None) -> str:
    return NO_VALUE if value is None else count_text(value)


def _percent(share: float | None) -> str:
    return NO_VALUE if share is None else percent_text(share)


def run_sentence(story: RunStory, following: str = "") -> Text:
    """What a run gained, what growth was worth against training, and what to do next.

    Args:
        story: the run.
        following: how it goes on, at the end of the sentence; "" for nothing.

    Returns:
        One sentence.
    """
    parts = [_gained(story), *_against_training(story)]
    if story.skipped:
        parts.append(f"{quantity_text(len(story.skipped), 'growth step')} left out")
    if story.stopped is not None:
        parts.append(early_stop_text(story.stopped, story.planned_epochs))
    if following:
        parts.append(following)
    return Text("; ".join(parts))


def early_stop_text(stop: StoppedEarly | StoppedRow, epochs: int | None) -> str:
    """How a run came to end early, and what it left out.

    Args:
        stop: what the run told of it.
        epochs: how many the run was to have; None if that is not known.
    """
    done = str(stop.epoch) if epochs is None else f"{stop.epoch} of {epochs}"
    patience = quantity_text(stop.patience, "epoch")
    text = (
        f"stopped early after epoch {done}, with no better validation loss for more than {patience}"
    )
    if stop.growth_steps_left:
        # A trigger that waits for something might have asked for fewer.
        text += f", before up to {quantity_text(stop.growth_steps_left, 'more growth step')}"
    return text


def _gained(story: RunStory) -> str:
    before, last = story.before_growth, story.last
    if before is None or last is None:
        return "nothing is trained yet"
    start, after = story.tested(before).accuracy, story.tested_at_last.accuracy
    whose = "test accuracy of the averaged weights" if story.is_averaged else "test accuracy"
    if not story.growths:
        accuracy = "" if after is None else f" to {percent_text(after)} {whose}"
        return f"trained {quantity_text(last.epoch, 'epoch')}{accuracy}, and nothing grew"
    first, final = story.growths[0].params_before or story.first_parameters, story.last_parameters
    cost = f"{_count(first)} -> {_count(final)} parameters ({ratio_text(first or 0, final or 0)})"
    if start is None or after is None:
        losses = f"{number_text(before.loss, 4)} -> {number_text(last.loss, 4)}"
        return f"grew {cost}; training loss {losses}"
    # Points, as a share of an accuracy would be mistaken for one.
    points = 100 * (after - start)
    word = "gained" if points >= 0 else "lost"
    epochs = quantity_text(last.epoch - before.epoch, "epoch")
    return (
        f"{word} {abs(points):.2f} points of {whose} ({percent_text(start)} before growth, "
        f"{percent_text(after)} at the end) in growth and {epochs} after it, for {cost}"
    )


def _against_training(story: RunStory) -> Iterator[str]:
    """Growth against training for the same seconds, where that was tried."""
    compared = [row for row in story.growths if row.test_loss_after is not None]
    if not compared:
        return
    # Training that growth is compared with has no average, unlike the table.
    whose = " of the weights themselves" if story.is_averaged else ""
    if len(compared) > 1:
        ahead = sum(is_ahead(row) for row in compared)
        yield (
            f"right after growing, {ahead} of {len(compared)} growth steps were ahead of plain "
            f"training for the same seconds by the test loss{whose}"
        )
        return
    # Of a single one there is room for the numbers.
    (row,) = compared
    word = "ahead of" if is_ahead(row) else "behind"
    trained = "diverged" if row.test_loss_trained is None else number_text(row.test_loss_trained, 4)
    yield (
        f"right after growing it was {word} plain training for the same "
        f"{seconds_text(row.seconds)} (test loss{whose} {number_text(row.test_loss_after, 4)} "
        f"against {trained})"
    )


def is_ahead(row: StepResult) -> bool:
    """Whether growth did at least what training for the same seconds would have done."""
    after, trained = row.test_loss_after, row.test_loss_trained
    return after is not None and (trained is None or after <= trained)
