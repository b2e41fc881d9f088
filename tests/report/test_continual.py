from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from fxgrow.continual import TaskOutcome, WidthUse
from fxgrow.continual.result import ContinualResult, StreamPlan
from fxgrow.errors import FxgrowError
from fxgrow.report import continual_lines, continual_tables, draw_continual, task_line

PNG = b"\x89PNG\r\n\x1a\n"


def outcome(task: str, width: WidthUse, tried: float | None, epochs: float) -> TaskOutcome:
    return TaskOutcome(
        task=task, classes=2, accuracy=0.5, tried=tried, widths={"a[0]": width}, growing_epochs=epochs,
        parameters=1234, network_parameters=567, multiply_adds=10**6, seconds=2.0,
    )  # fmt: skip


RESULT = ContinualResult(
    schema_version=1,
    plan=StreamPlan(tasks=3),
    labels=((4, 1), (0, 3), (2, 5)),
    outcomes=(
        outcome("1", WidthUse(locked=4, unlocked=0, new=0, master=4), None, 0),
        outcome("2", WidthUse(locked=2, unlocked=1, new=3, master=8), 0.25, 6.25),
    ),
    accuracies=((0.75,), (0.75, 1.0)),
)


def words(*parts: RenderableType) -> list[list[str]]:
    out = Console(file=StringIO(), width=200)
    for part in parts:
        out.print(part)
    assert isinstance(out.file, StringIO)
    return [line.split() for line in out.file.getvalue().splitlines() if line.split()]


def test_tables() -> None:
    lines = words(*continual_tables(RESULT))
    for line in (
        "1 75.00", "2 75.00 100.00",
        "1 4 1 - 50.00 % 75.00 % 4 0 0 1,234 567 1 M 0 2 s",
        "2 0 3 25.00 % 50.00 % 100.00 % 2 1 3 1,234 567 1 M 6.25 2 s",
        "width a[0]",
        "task 1 4+0+0",
        "task 2 2+1+3",
        "master 8",
    ):  # fmt: skip
        assert line.split() in lines, line


def test_lines() -> None:
    assert [str(line) for line in continual_lines(RESULT)] == [
        "average accuracy 87.50 %, forgetting 0.00 % (2 of 3 tasks so far)",
        "1,234 parameters for 2 tasks; 4 s",
    ]
    line = "task 2 of 3  accuracy 100.00 %  neurons 2 locked, 1 unlocked, 3 new  1.23 k parameters  2 s"
    assert task_line(RESULT) == line


@pytest.mark.parametrize("widths", [1, 5])
def test_the_picture(widths: int, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    many = {
        f"layer{number}[$x^$]": WidthUse(locked=1, unlocked=2, new=3, master=6)
        for number in range(widths)
    }
    outcomes = tuple(one.model_copy(update={"widths": many}) for one in RESULT.outcomes)
    draw_continual(RESULT.model_copy(update={"outcomes": outcomes}), tmp_path / "a.PNG")
    assert (tmp_path / "a.PNG").read_bytes().startswith(PNG)


def test_pictures_that_cannot_be_written(tmp_path: Path) -> None:
    for path, code in (
        (tmp_path / "a.svg", "picture-format"),
        (tmp_path / "none" / "a.png", "unwritable-run"),
    ):
        with pytest.raises(FxgrowError) as caught:
            draw_continual(RESULT, path)
        assert caught.value.code == code
    assert not list(tmp_path.iterdir())
