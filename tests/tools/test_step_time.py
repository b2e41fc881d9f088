"""The times of growth steps: ratios within a round, and the picture of Figure 4."""

from pathlib import Path
from typing import Any

import pytest

from tools.experiments.figure4 import draw, paper_ratios
from tools.experiments.step_time import METHODS, REFERENCE, markdown, ratios, summary


def a_round(load: float) -> dict[str, Any]:
    """Method number n takes n + 1 seconds, all times the load."""
    costs = {}
    for number, name in enumerate(METHODS):
        seconds = load * (number + 1)
        loss = {"loss_before": 2.0, "loss_after": 1.0, "parameters": 7}
        costs[name] = {"wall": 2 * seconds, "cpu": seconds, **loss}
    return {"plain_step": 0.5 * load, "costs": costs}


ROUNDS = [a_round(1.0), a_round(3.0), a_round(2.0)]
RECORD = {
    "rounds": 3,
    "paper_seconds": {"firefly": 123.78, "splitting": 402.83, "NASH": 1378.9},
    "methods": summary(ROUNDS, {}),
}


def test_ratios_are_within_a_round() -> None:
    """What slows a whole round moves no ratio."""
    assert next(iter(METHODS)) == REFERENCE
    assert ratios(ROUNDS, "splitting, exact", "cpu") == [3.0, 3.0, 3.0]
    row = RECORD["methods"]["splitting, exact"]  # type: ignore[index]
    assert (row["cpu"], row["wall"], row["plain_steps"]) == (6.0, 12.0, 6.0)
    assert row["cpu_ratio_range"] == [3.0, 3.0]


def test_flops_are_told_if_they_were_counted() -> None:
    counted = summary(ROUNDS, {name: 10 * (n + 1) for n, name in enumerate(METHODS)})
    assert counted["NASH"]["flops_ratio"] == counted["NASH"]["cpu_ratio"]
    assert "flops_ratio" not in RECORD["methods"]["NASH"]  # type: ignore[index]


def test_the_table() -> None:
    line = "| splitting, exact | 12.00 | 6.00 | 3.00 (3.00 to 3.00) | 3.00 (3.00 to 3.00) |  | 3.25 | 6 | 2.000 -> 1.000 |"
    assert line in markdown(RECORD).splitlines()


def test_the_papers_numbers() -> None:
    found = paper_ratios(RECORD)
    assert found[REFERENCE] == 1
    assert found["splitting, exact"] == pytest.approx(3.254, abs=1e-3)
    assert found["NASH"] == pytest.approx(11.14, abs=1e-2)


def test_the_picture_without_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(RECORD, None, tmp_path / "figure4.png")
    assert (tmp_path / "figure4.png").stat().st_size > 10_000
