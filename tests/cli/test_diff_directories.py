import json
from pathlib import Path

from tests.cli.conftest import Fxgrow


def test_tables(fxgrow: Fxgrow, grown: Path) -> None:
    done = fxgrow("diff", grown / "initial", grown)
    assert done.exit_code == 0, done.output
    for words in (
        "before",
        "after",
        "split",
        "new",
        "score",
        "parameters",
        "multiply-adds",
        "no layers inserted",
    ):
        assert words in done.stdout


def test_json(fxgrow: Fxgrow, grown: Path) -> None:
    record = json.loads(fxgrow("diff", grown / "initial", grown, "--json").stdout)
    assert sum(width["split"] + width["new"] for width in record["widths"]) == 6
    assert all(
        width["after"] - width["before"] == width["split"] + width["new"]
        for width in record["widths"]
    )
    assert record["inserted"] == []
    assert record["cost_before"]["parameters"] < record["cost_after"]["parameters"]


def test_page(fxgrow: Fxgrow, grown: Path, tmp_path: Path) -> None:
    done = fxgrow("diff", grown / "initial", grown, "--html", tmp_path / "diff.html")
    assert done.exit_code == 0 and "parameters" in done.stdout
    assert (tmp_path / "diff.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    kept = fxgrow("diff", grown, grown, "--html", tmp_path / "diff.html")
    assert (
        kept.exit_code == 2 and not kept.stdout and kept.stderr.rstrip().endswith("[path-exists]")
    )
    assert fxgrow("diff", grown, grown, "--html", tmp_path / "diff.html", "--force").exit_code == 0
    (tmp_path / "diff.html").write_text("<!doctype html>my page")
    kept = fxgrow("diff", grown, grown, "--html", tmp_path / "diff.html", "--force")
    assert kept.exit_code == 2 and kept.stderr.rstrip().endswith("[foreign-path]")
    assert (tmp_path / "diff.html").read_text() == "<!doctype html>my page"
    failed = fxgrow("diff", grown, grown, "--html", tmp_path / "none" / "diff.html")
    assert failed.exit_code == 2 and failed.stderr.rstrip().endswith("[unwritable]")


def test_nothing_differs(fxgrow: Fxgrow, grown: Path) -> None:
    assert "are the same" in fxgrow("diff", grown, grown).stdout


def test_a_missing_directory(fxgrow: Fxgrow, grown: Path) -> None:
    done = fxgrow("diff", grown, grown / "none")
    assert done.exit_code == 2
    assert "there is no such file" in done.stderr
    assert done.stderr.rstrip().endswith("[missing-file]")
