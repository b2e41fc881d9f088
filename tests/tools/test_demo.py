"""The table of ``make demo``: its arms are equally long, and what it says follows from the numbers."""

from fxgrow.training import read_recipe
from tools.experiments.demo import (
    EQUAL_TIME,
    FINAL_SIZE,
    GROWN,
    NOT_GROWN,
    RECIPE,
    Outcome,
    outcomes,
    table,
    wins,
    with_settings,
)  # fmt: skip


def outcome(arm: str, seed: int, accuracy: float, loss: float) -> Outcome:
    return Outcome(arm, seed, 100, 1000, 2.0, accuracy, loss)


def test_arms_of_a_seed_are_equally_long() -> None:
    recipe = with_settings(read_recipe(RECIPE), epochs=2, grow_steps=1)
    found = {one.arm: one for one in outcomes(recipe, 1)}
    assert found.keys() == {NOT_GROWN, GROWN, EQUAL_TIME, FINAL_SIZE}
    assert found[NOT_GROWN].steps == found[GROWN].steps == found[FINAL_SIZE].steps == 2 * 45
    assert found[EQUAL_TIME].steps > found[GROWN].steps
    assert found[GROWN].parameters == found[FINAL_SIZE].parameters > found[NOT_GROWN].parameters
    assert found[EQUAL_TIME].parameters == found[NOT_GROWN].parameters


def test_what_is_said_follows_from_the_numbers() -> None:
    found = [outcome(GROWN, 0, 0.9, 0.3), outcome(GROWN, 1, 0.8, 0.5)]
    found += [outcome(NOT_GROWN, 0, 0.7, 0.4), outcome(NOT_GROWN, 1, 0.85, 0.4)]
    found += [outcome(EQUAL_TIME, seed, 0.9, 0.3) for seed in (0, 1)]
    found += [outcome(FINAL_SIZE, seed, 0.95, 0.2) for seed in (0, 1)]
    assert wins(found, NOT_GROWN) == "1 of 2 seeds by test accuracy, 1 by test loss"
    assert wins(found, FINAL_SIZE) == "0 of 2 seeds by test accuracy, 0 by test loss"
    lines = list(table(found))
    assert [line.split("  ")[0].strip() for line in lines[1:]] == [
        NOT_GROWN, EQUAL_TIME, GROWN, FINAL_SIZE,
    ]  # fmt: skip
    assert lines[3].split()[-5:] == ["2.0", "85.0%", "0.400", "90.0%", "80.0%"]
