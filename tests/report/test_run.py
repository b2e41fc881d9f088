"""A run in one table and one sentence."""

import pytest

from fxgrow.report import RunStory, run_sentence, run_table
from fxgrow.report.run import run_rows
from tests.report.stories import END, OWN_LOOP, SKIPPED, START, STORY, epochs, growth
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
        "gained 25.00 points of test accuracy (25.00 % before growth, 50.00 % at the end) in growth and 2 epochs after it, "
        "for 1 k -> 1.5 k parameters (x1.50); right after growing it was behind plain training for the same 4 s "
        "(test loss 1.125 against 1); next: fxgrow check run"
    )


def test_a_loss_is_called_one() -> None:
    worse = END.model_copy(update={"after": END.before.model_copy(update={"test_accuracy": 0.125})})
    story = RunStory.of([START, *epochs(4, (0, 0, 1, 1)), growth(), worse])
    assert run_sentence(story).plain.startswith(
        "lost 12.50 points of test accuracy (25.00 % before"
    )


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
    assert (
        run_sentence(plain).plain
        == "trained 1 epoch, and nothing grew at a test accuracy of 10.00 %"
    )
    assert [row[0] for row in run_rows(plain)] == ["so far"]
    assert run_sentence(RunStory.of([START])).plain == "nothing is trained yet"
    assert list(run_rows(RunStory.of([]))) == []
