import pytest

from fxgrow.continual import TaskOutcome, WidthUse
from fxgrow.continual.result import CONTINUAL_DOCUMENT, ContinualResult, StreamPlan
from fxgrow.errors import SpecError
from fxgrow.growth import Budget
from fxgrow.methods import MethodConfig
from fxgrow.methods.random import RandomGrowth

ROWS = ((0.5,), (0.75, 1.0), (0.25, 0.875, 0.5))


def result(
    rows: tuple[tuple[float, ...], ...] = ROWS, plan: StreamPlan | None = None
) -> ContinualResult:
    outcomes = tuple(
        TaskOutcome(
            task=str(number + 1),
            classes=2,
            accuracy=row[-1],
            tried=0.5 if number else None,
            widths={
                "a": WidthUse(locked=4, unlocked=number, new=2 * number, master=4 + 3 * number)
            },
            growing_epochs=1.5 * number,
            parameters=1000 * (number + 1),
            network_parameters=500,
            multiply_adds=10**6,
            seconds=1.0,
        )
        for number, row in enumerate(rows)
    )
    labels = tuple((2 * number, 2 * number + 1) for number in range(5))
    return ContinualResult(
        schema_version=1,
        plan=plan or StreamPlan(),
        labels=labels,
        outcomes=outcomes,
        accuracies=rows,
    )


def test_average_and_forgetting() -> None:
    assert result().average == (0.25 + 0.875 + 0.5) / 3
    # The best of task 1 before the last task was 0.75, of task 2 1.0.
    assert result().forgetting == ((0.75 - 0.25) + (1.0 - 0.875)) / 2
    assert result(ROWS[:1]).forgetting == 0.0
    assert result(((0.5,), (0.5, 0.25))).forgetting == 0.0
    assert result(((0.5,), (0.75, 0.25))).forgetting == -0.25


@pytest.mark.parametrize("method", [StreamPlan().method, MethodConfig(settings=RandomGrowth())])
def test_it_is_read_as_it_was_written(method: MethodConfig) -> None:
    written = result(plan=StreamPlan(method=method, budget=Budget(neurons=3), target=0.5))
    assert CONTINUAL_DOCUMENT.read(written.model_dump_json()) == written


@pytest.mark.parametrize(
    ("rows", "code"),
    [(((0.5,), (0.5,)), "bad-value"), (((0.5,), (0.5, 1.5)), "bad-value"), ((), "bad-value")],
)
def test_wrong_matrices_are_refused(rows: tuple[tuple[float, ...], ...], code: str) -> None:
    text = (
        result()
        .model_dump_json()
        .replace(str([list(row) for row in ROWS]).replace(" ", ""), str(list(map(list, rows))))
    )
    with pytest.raises(SpecError) as caught:
        CONTINUAL_DOCUMENT.read(text, "result.json")
    assert caught.value.code == code


def test_the_first_difference_of_plans() -> None:
    assert StreamPlan().differs(StreamPlan()) == ""
    assert StreamPlan(width=4).differs(StreamPlan(width=5)) == "width is 4, not 5"
