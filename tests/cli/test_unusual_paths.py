"""Paths that are unusual: through what is not there, very deep, and in no encoding."""

import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fxgrow.cli.main import app
from tests.cli.conftest import Fxgrow

DRAW = ("cells", "draw", "DARTS_V2", "--out")
GROW = (
    "grow",
    "tests.cli.models:tiny",
    "--epochs",
    "1",
    "--grow-steps",
    "0",
    "--limit",
    "8",
    "--out",
)
DEEP = "x/" * 2000 + "y"


@pytest.mark.parametrize("words", [DRAW, GROW], ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("missing/../new.dot", "leads through 'missing', which is no directory"),
        ("file/../new.dot", "leads through 'file', which is no directory"),
        ("here/missing/../../new.dot", "leads through 'here/missing'"),
        (DEEP, "more than 256 parts"),
    ],
    ids=["missing", "file", "inside", "deep"],
)
def test_nothing_is_done_for_a_path_that_leads_nowhere(
    fxgrow: Fxgrow, words: tuple[str, ...], path: str, sentence: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    Path("file").write_text("precious")
    done = fxgrow(*words, path)
    assert done.exit_code == 2, (done.exception, done.output)
    assert sentence in done.output
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "here"]
    assert fxgrow(*DRAW, "here/../new.dot").exit_code == 0
    assert fxgrow(*DRAW, "../" + tmp_path.name + "/other.dot").exit_code == 0
    assert Path("new.dot").is_file() and Path("other.dot").is_file()


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_names_that_are_no_text(fxgrow: Fxgrow, grown: Path, tmp_path: Path) -> None:
    """As ``ls`` shows them on an old disk: ``caf\\xe9``."""
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    run = odd / odd.name
    run.mkdir()
    for path in grown.iterdir():
        if path.is_file():
            (run / path.name).write_bytes(path.read_bytes())
    diff, report = tmp_path / "diff.html", tmp_path / "report.html"
    pages: tuple[tuple[object, ...], ...] = (
        ("diff", run, grown, "--html", diff),
        ("report", run, "--html", report),
    )
    for words in pages:
        done = fxgrow(*words)
        assert done.exit_code == 0, (words, done.exception, done.output)
    for page in (diff, report):
        assert "caf\\udce9" in page.read_text(encoding="utf-8")
    images = ("--data", "imagefolder", "--data-root")
    refusals: tuple[tuple[object, ...], ...] = (
        ("check", odd / "missing"),
        ("export", grown, "--to", "dot", "--out", odd / "net.dot"),
        ("replay", grown, "--out", odd / "replayed"),
        (*DRAW, odd / "cells.dot"),
        (*GROW, odd / "new"),
        (*GROW, tmp_path / "new", *images, odd),
        ("run", odd / "recipe.yaml", "--out", tmp_path / "new"),
        ("grow", run, "--out", tmp_path / "new"),
    )
    for refusal in refusals:
        refused = fxgrow(*refusal)
        assert refused.exit_code == 2, (refusal, refused.exception, refused.output)
        assert "caf\\udce9" in refused.output
    assert list(odd.iterdir()) == [run]
    assert not (tmp_path / "new").exists()


def test_a_terminal_that_has_no_such_letter(grown: Path, tmp_path: Path) -> None:
    words = ["export", str(grown), "--to", "dot", "--out", str(tmp_path / "\N{SNOWMAN}.dot")]
    done = CliRunner(charset="ascii").invoke(app, words)
    assert done.exit_code == 0, done.exception
    assert "\\u2603.dot" in "".join(done.stdout.split())
