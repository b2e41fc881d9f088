import json
from pathlib import Path

import pytest

from tests.cli.conftest import Fxgrow
from tests.report.test_continual import RESULT


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text(RESULT.model_dump_json())
    return tmp_path / "run"


def test_tables_and_picture(run: Path, fxgrow: Fxgrow) -> None:
    done = fxgrow("continual", "show", run)
    assert done.exit_code == 0 and "average accuracy 87.50 %" in done.stdout
    pytest.importorskip("matplotlib")
    done = fxgrow("continual", "show", run, "--json", "--png", run / "a.png")
    assert done.exit_code == 0 and json.loads(done.stdout) == json.loads(RESULT.model_dump_json())
    assert (run / "a.png").exists()


def test_wrong_input_is_one_sentence(run: Path, fxgrow: Fxgrow) -> None:
    for words, code in (
        ((run / "a",), "missing-file"),
        ((run, "--png", run / "a.gif"), "picture-format"),
    ):
        done = fxgrow("continual", "show", *words)
        assert done.exit_code == 2 and not done.stdout
        assert done.stderr.rstrip().endswith(f"[{code}]") and done.stderr.count("\n") == 1
