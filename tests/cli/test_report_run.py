"""``fxgrow report``: of finished, stopped and foreign runs; its pages replace nothing of anybody's."""

import os
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Fxgrow
from tests.cli.test_resume_run import SHORT, TINY, ended, forked, wait_for

pytest.importorskip("matplotlib")


def test_a_run_in_the_terminal(grown: Path, fxgrow: Fxgrow) -> None:
    done = fxgrow("report", grown)
    assert done.exit_code == 0, done.output
    rows = [line.split("  ")[0].strip() for line in done.stdout.splitlines()]
    assert {"Run", "before growth", "growth step 1", "at the end"} <= set(rows)
    assert "points of test accuracy" in done.stdout and "right after growing it was" in done.stdout


def test_the_page_links_the_diff_beside_it(grown: Path, fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow("report", grown, "--html", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.diff.html", "page.html"]
    assert 'href="page.diff.html"' in (tmp_path / "page.html").read_text()
    assert "<title>fxgrow diff</title>" in (tmp_path / "page.diff.html").read_text()


@pytest.mark.parametrize("name", ["page.html", "page.diff.html"])
def test_pages_replace_nothing_unasked_and_nothing_foreign(
    grown: Path, fxgrow: Fxgrow, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("<p>mine</p>")
    words = ("report", grown, "--html", tmp_path / "page.html")
    for more, code in (((), "path-exists"), (("--force",), "foreign-path")):
        done = fxgrow(*words, *more)
        assert done.exit_code == 2 and code in done.stderr and not done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "<p>mine</p>"
    (tmp_path / name).unlink()
    for more in ((), ("--force",)):
        assert fxgrow(*words, *more).exit_code == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_that_was_stopped_can_be_looked_at(fxgrow: Fxgrow, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "run"
    child = forked(("grow", TINY, "--out", out, *SHORT), tmp_path / "said")
    wait_for(tmp_path, "runs/.run.unfinished/checkpoint-2")
    os.kill(child, signal.SIGKILL)
    ended(child)
    done = fxgrow("report", out, "--html", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    assert "so far" in done.stdout
    assert not (tmp_path / "page.diff.html").exists()


def test_what_is_no_run_is_refused(fxgrow: Fxgrow, tmp_path: Path) -> None:
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "log.jsonl").write_text("dear diary\n")
    for name, code in (("nothing", "missing-file"), ("diary", "bad-json")):
        done = fxgrow("report", tmp_path / name, "--html", tmp_path / "page.html")
        assert done.exit_code == 2 and f"[{code}]" in done.stderr
    assert not (tmp_path / "page.html").exists()
