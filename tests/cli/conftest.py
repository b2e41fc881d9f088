from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fxgrow.cli.main import app

Fxgrow = Callable[..., Result]
SHORT = ("--limit", "128", "--epochs", "2", "--grow-steps", "1", "--new", "1", "--batch-size", "32")


@pytest.fixture
def fxgrow() -> Fxgrow:
    """Runs a command in this process; bugs are raised."""

    def run(*words: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], prog_name="fxgrow")

    return run


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a short run, for tests that only read it."""
    directory = tmp_path_factory.mktemp("runs") / "grown"
    words = ["grow", "tests.cli.models:tiny", "--neurons", "0.5", "--out", str(directory), *SHORT]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return directory
