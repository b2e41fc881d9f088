"""``--memory-limit``: a limit that one graph of all candidates does not meet."""

from pathlib import Path

import pytest

from tests.cli.conftest import SHORT, Fxgrow
from tests.cli.test_grow_model import TINY


def test_without_a_limit_all_candidates_are_searched_at_once(
    fxgrow: Fxgrow, tmp_path: Path
) -> None:
    done = fxgrow("grow", TINY, "--out", tmp_path / "run", *SHORT)
    assert done.exit_code == 0, done.output
    assert "groups of widths" not in done.output


@pytest.mark.parametrize("option", ["--memory-limit", "--memory"])
def test_an_impossible_limit(fxgrow: Fxgrow, tmp_path: Path, option: str) -> None:
    """Under its name today, and under that of earlier versions."""
    done = fxgrow("grow", TINY, "--out", tmp_path / "run", option, "10", *SHORT)
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith("[memory-bound]")
    assert not (tmp_path / "run").exists()
