"""A run in one table and one sentence."""

import pytest

from fxgrow.report import RunStory, run_sentence, run_table
from fxgrow.report.run import run_rows
from tests.report.stories import (
    END,
    OWN_LOOP,
    SKIPPED,
    START,
    STOPPED,
    STORY,
    averaged,
    epochs,
    growth,
)
from tests.report.test_tables import text


def test_the_table_has_a_row_per_network_that_there_was() -> None:
    assert list(run_rows(STORY)) == [
        ("before growth", "2", "1 k", "20", "", "1.25", "20.00 %", "4 s"),
        (
            "growth step 1",
            "2",
            "1.5 k",
            "30",
            "+1 split +2 new +1 layer",
            "1.125",
            "50.00 %",
            "4 s",
        ),
        ("at the end", "4", "1.5 k", "30", "", "0.625", "50.00 %", "4 s"),
    ]
    assert text(run_table(STORY))[0] == ["Run"] and len(text(run_table(STORY))) == 6


def test_the_sentence_says_what_was_gained_and_at_what_cost() -> None:
    assert run_sentence(STORY, "next: fxgrow check run").plain == (
        "gained 30.00 points of test accuracy (20.00 % before growth, 50.00 % at the end) in growth and 2 epochs after it, "
        "for 1 k -> 1.5 k parameters (x1.50); right after growing it was behind plain training for the same 4 s "
        "(test loss 1.125 against 1); next: fxgrow check run"
    )


def test_a_loss_is_called_one() -> None:
    worse = END.model_copy(update={"after": END.before.model_copy(update={"test_accuracy": 0.125})})
    story = RunStory.of([START, *epochs(4, (0, 0, 1, 1)), growth(), worse])
    assert run_sentence(story).plain.startswith("lost 7.50 points of test accuracy (20.00 % before")


@pytest.mark.parametrize(("trained", "ahead"), [(1.0, 1), (1.125, 2), (None, 2)])
def test_several_growth_steps_are_counted(trained: float | None, ahead: int) -> None:
    rows = (growth(test_loss_trained=None), growth(2, 3, test_loss_trained=trained))
    story = RunStory.of([START, *epochs(4, (0, 0, 1, 2)), *rows, SKIPPED])
    sentence = run_sentence(story).plain
    assert (
        f"{ahead} of 2 growth steps were ahead of plain training for the same seconds" in sentence
    )
    assert sentence.endswith("1 growth step left out")
    assert list(run_rows(story))[-1][0] == "so far"


def test_a_loop_of_ones_own_has_no_test_images() -> None:
    assert run_sentence(OWN_LOOP).plain == (
        "grew 1 k -> 1.5 k parameters (x1.50); training loss 1 -> 0.6667"
    )
    assert next(run_rows(OWN_LOOP))[5:7] == ("-", "-")


def test_runs_without_growth_or_epochs() -> None:
    plain = RunStory.of([START, *epochs(1, (0,))])
    assert run_sentence(plain).plain == "trained 1 epoch to 10.00 % test accuracy, and nothing grew"
    assert [row[:4] for row in run_rows(plain)] == [("so far", "1", "1 k", "20")]
    assert run_sentence(RunStory.of([START])).plain == "nothing is trained yet"
    assert list(run_rows(RunStory.of([]))) == []


@pytest.mark.parametrize("ended", [True, False])
def test_table_and_sentence_are_of_what_the_run_gives(ended: bool) -> None:
    """Of the average if it is published, of the weights if it is not."""
    more = [END] if ended else []
    at_last = "50.00 %" if ended else "37.50 %"
    story = averaged(True, *more)
    assert [row[5:7] for row in run_rows(story)] == [
        ("0.75", "37.50 %"), ("0.75", "37.50 %"), ("0.625" if ended else "0.75", at_last),
    ]  # fmt: skip
    sentence = run_sentence(story).plain
    assert f"of test accuracy of the averaged weights (37.50 % before growth, {at_last}" in sentence
    # Training in the same time has no average, so this is of the weights.
    assert "(test loss of the weights themselves 1.125 against 1)" in sentence
    assert "averaged weights" in str(run_table(story).title)

    plain = averaged(False, *more)
    at_last = "50.00 %" if ended else "40.00 %"
    assert [row[6] for row in run_rows(plain)] == ["20.00 %", "50.00 %", at_last]
    assert f"of test accuracy (20.00 % before growth, {at_last}" in run_sentence(plain).plain
    assert "themselves" not in run_sentence(plain).plain
    assert str(run_table(plain).title) == str(run_table(STORY).title) == "Run"


def test_a_log_that_knows_the_average_of_epochs_alone() -> None:
    """Of an earlier version: what it does not say is no number of something else."""
    first, *others = averaged(True, END).epochs
    rows = [row.model_copy(update={"average_loss": None}) for row in (first, *others)]
    story = RunStory.of([averaged(True).start or START, *rows, growth(), END])
    assert [row[5:7] for row in run_rows(story)] == [
        ("-", "37.50 %"),
        ("-", "-"),
        ("0.625", "50.00 %"),
    ]


def test_an_early_stop_is_told_with_what_it_left_out() -> None:
    story = RunStory.of([*[START], *epochs(4, (0, 0, 1, 1)), growth(), STOPPED, END])
    assert story.planned_epochs == 4
    words = "stopped early after epoch 4 of 4, with no better validation loss for more than 1 epoch"
    assert run_sentence(story, "next").plain.endswith(
        f"; {words}, before up to 2 more growth steps; next"
    )
    last = STOPPED.model_copy(update={"growth_steps_left": 0})
    story = RunStory.of([*epochs(4, (0, 0, 0, 0)), last])
    assert run_sentence(story).plain == (
        "trained 4 epochs to 40.00 % test accuracy, and nothing grew; stopped early after epoch 4, "
        "with no better validation loss for more than 1 epoch"
    )


def test_growth_that_was_left_out_first_is_not_where_growth_begins() -> None:
    """Phases count it, and the table and the sentence do not."""
    skipped = SKIPPED.model_copy(update={"step": 1, "epoch": 1})
    rows = [START, *epochs(4, (0, 1, 1, 2)), skipped, growth(2, 3), END]
    story = RunStory.of(rows)
    before, _, last = run_rows(story)
    assert (before[1], before[6], before[7]) == ("3", "30.00 %", "6 s")
    assert last[7] == "2 s"
    assert "(30.00 % before growth, 50.00 % at the end) in growth and 1 epoch after it" in (
        run_sentence(story).plain
    )
    # Logs of the first versions do not say after which epoch a growth step came.
    old = RunStory.of([*epochs(4, (0, 0, 1, 1)), growth(epoch=None)])
    assert next(run_rows(old))[1] == "2"
