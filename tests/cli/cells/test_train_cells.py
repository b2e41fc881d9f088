import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from fxgrow.cells import GENOTYPES, evaluation_network, genotype_text, to_text
from fxgrow.cli.main import app
from fxgrow.spec import load, read_spec
from fxgrow.training import read_recipe
from tests.cells.modules import parameters
from tests.cli.conftest import Fxgrow

SHORT = (
    "--limit",
    "64",
    "--epochs",
    "1",
    "--layers",
    "3",
    "--channels",
    "4",
    "--size",
    "8",
    "--batch-size",
    "32",
)


def train(genotype: object, out: Path, *more: str) -> Result:
    words = ["cells", "train", str(genotype), "--data", "digits", "--out", str(out), *SHORT, *more]
    return CliRunner().invoke(app, words, catch_exceptions=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run with everything, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    return out, train("DARTS_V2", out, "--auxiliary", "--drop-path", "0.3")


def test_a_run_directory(trained: tuple[Path, Result]) -> None:
    out, done = trained
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json", "initial", "log.jsonl", "model.safetensors", "recipe.yaml", "result.json",
    ]  # fmt: skip
    model = load(out).eval()
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    # the second classifier helps to train and is not kept
    size = parameters(evaluation_network(GENOTYPES["DARTS_V2"], 4, 3))
    assert (
        parameters(model) == size == json.loads((out / "result.json").read_text())["params_after"]
    )


def test_the_size_is_said_first(trained: tuple[Path, Result]) -> None:
    out, done = trained
    lines = done.stderr.splitlines()
    cost = read_spec(out).cost
    assert lines[0].split()[1] == f"{cost.parameters:,},"
    helper = evaluation_network(GENOTYPES["DARTS_V2"], 4, 3, auxiliary=True).auxiliary
    assert f"and {parameters(helper):,} of the second classifier" in lines[0]
    assert lines[1].split()[1] == f"{cost.multiply_adds:,}"
    assert lines[2].startswith("1 epoch of ") and lines[3].startswith("epoch 1/1")


def test_its_recipe_repeats_it(
    trained: tuple[Path, Result], fxgrow: Fxgrow, tmp_path: Path
) -> None:
    out, _ = trained
    done = fxgrow("run", out / "recipe.yaml", "--out", tmp_path / "again")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        out / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "again" / "config.json").read_bytes() == (out / "config.json").read_bytes()


def test_a_genotype_in_a_file_and_no_help(trained: tuple[Path, Result], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(to_text(GENOTYPES["DARTS_V2"]))
    done = train(tmp_path / "mine.txt", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["settings"]["grow_steps"] == 0
    assert "second classifier" not in done.stderr
    first, second = read_spec(trained[0] / "initial"), read_spec(tmp_path / "run" / "initial")
    assert first.fingerprint == second.fingerprint
    weights = [(out / "model.safetensors").read_bytes() for out in (trained[0], tmp_path / "run")]
    assert weights[0] != weights[1]


def test_its_settings_are_those_of_the_paper(trained: tuple[Path, Result]) -> None:
    recipe = read_recipe(trained[0] / "recipe.yaml")
    assert (recipe.settings.lr, recipe.settings.weight_decay, recipe.settings.grow_steps) == (
        0.025,
        3e-4,
        0,
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--layers", "0"), "model-options"),
        (("--channels", "0"), "model-options"),
        (("--drop-path", "1"), "model-options"),
        (("--epochs", "0"), "no-epochs"),
        (("--data", "mnist"), "unknown-data"),
    ],
)
def test_wrong_input_is_one_sentence(words: tuple[str, ...], code: str, tmp_path: Path) -> None:
    done = train("DARTS_V2", tmp_path / "run", *words)
    assert done.exit_code == 2, done.output
    assert done.stderr.endswith(f"[{code}]\n")
    assert not any(tmp_path.iterdir())


def test_a_file_name_that_a_recipe_cannot_say(tmp_path: Path) -> None:
    path = tmp_path / "a,b.json"
    path.write_text(genotype_text(GENOTYPES["DARTS_V1"]))
    done = train(path, tmp_path / "run")
    assert (done.exit_code, done.stderr[-16:]) == (2, "[bad-reference]\n")
