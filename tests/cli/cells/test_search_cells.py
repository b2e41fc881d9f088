import json
from pathlib import Path

import pytest

from fxgrow.cells import read_genotype
from fxgrow.cells.registry import read_search
from tests.cli.conftest import Fxgrow

TINY = (
    "--cells",
    "3",
    "--channels",
    "2",
    "--nodes",
    "1",
    "--size",
    "8",
    "--limit",
    "64",
    "--batch-size",
    "16",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


def test_growth_and_what_is_derived(fxgrow: Fxgrow, found: Path, tmp_path: Path) -> None:
    out = found / "run"
    schedule = ("--epochs", "2", "--grow-every", "1")
    treatment = ("--state", "own-age", "--new-entry-rate", "2")
    done = fxgrow("cells", "search", *schedule, *treatment, "--out", out, *TINY)
    assert done.exit_code == 0, done.output
    result = read_search(out / "search.json")
    assert result.settings["state"] == "own-age"
    assert result.settings["new_entry_rate"] == {"multiplier": 2.0, "half_life": 300.0}
    assert result.method == "FireflySearch" and len(result.grown) == 3
    assert read_genotype(out / "genotype.json") == result.genotype
    assert done.stdout.startswith("Genotype(normal=[")
    assert fxgrow("check", out / "genotype.json").exit_code == 0

    same = fxgrow("cells", "derive", out)
    assert json.loads(same.stdout) == json.loads((out / "genotype.json").read_text())
    # The names of the options today, and those of earlier versions.
    for threshold, average in (
        ("--identity-threshold", "--no-normalize-by-operation"),
        ("--little", "--no-against-average"),
    ):
        idle_path = tmp_path / f"idle{threshold}.json"
        words = (threshold, "99", average, "--keep-all", "--out", idle_path)
        done = fxgrow("cells", "derive", out, *words)
        assert done.exit_code == 0, done.output
        idle = read_genotype(idle_path)
        assert {edge.operation for edges in idle.normal.nodes for edge in edges} == {"skip_connect"}


def test_a_baseline_leaves_the_same_files(fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow(
        "cells",
        "search",
        "--method",
        "darts-first",
        "--epochs",
        "1",
        "--out",
        tmp_path / "darts",
        *TINY,
    )
    assert done.exit_code == 0, done.output
    assert read_search(tmp_path / "darts" / "search.json").method == "Darts"
    done = fxgrow("cells", "derive", tmp_path / "darts")
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith("[bad-value]")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--method", "luck"), "bad-setting"),
        (("--method", "darts-first", "--grow-every", "2"), "bad-setting"),
        (("--method", "darts-first", "--state", "reset"), "bad-setting"),
        (("--method", "darts-first", "--new-entry-rate", "2"), "bad-setting"),
        (("--state", "forgotten"), "bad-setting"),
        (("--new-entry-rate", "-1"), "bad-setting"),
        (("--cells", "1"), "bad-setting"),
    ],
)
def test_wrong_input_is_one_sentence(
    fxgrow: Fxgrow, tmp_path: Path, words: tuple[str, ...], code: str
) -> None:
    done = fxgrow("cells", "search", "--out", tmp_path / "out", *TINY, *words)
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith(f"[{code}]") and done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())
