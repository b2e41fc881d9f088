"""``--memory``: a bound that one graph of all candidates does not meet."""

from pathlib import Path

from tests.cli.conftest import SHORT, Fxgrow
from tests.cli.test_grow_model import TINY


def test_candidates_are_searched_in_groups(fxgrow: Fxgrow, tmp_path: Path) -> None:
    whole = fxgrow("grow", TINY, "--out", tmp_path / "whole", *SHORT)
    assert whole.exit_code == 0, whole.output
    assert "groups of widths" not in whole.output
    impossible = fxgrow("grow", TINY, "--out", tmp_path / "none", "--memory", "10", *SHORT)
    assert impossible.exit_code == 2
    assert "memory" in impossible.output
    assert not (tmp_path / "none").exists()
