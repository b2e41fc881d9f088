import json
import re
from pathlib import Path

import pytest
import torch

from fxgrow.data.folders import CIFAR10
from fxgrow.spec import load, read_spec
from fxgrow.training import read_recipe
from tests.cli.conftest import SHORT, Fxgrow
from tests.data.test_folders import write_cifar

TRUST = ("--trust", "tests.cli.models")
RECIPE = """
schema_version: 2
model: tests.cli.models:tiny
data: {name: digits, limit: 64}
settings: {epochs: 2, grow_steps: 1}
method: {name: RandomGrowth, settings: {new: 1, draws: 1}}
budget: {neurons: 3}
"""


def test_a_run_is_repeated_bit_for_bit(grown: Path, fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow("run", grown / "recipe.yaml", "--out", tmp_path / "again", *TRUST)
    assert done.exit_code == 0, done.output
    for name in ("config.json", "model.safetensors", "recipe.yaml", "initial/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (grown / name).read_bytes(), name


def test_what_grow_was_told_stands_in_the_recipe(grown: Path) -> None:
    recipe = read_recipe(grown / "recipe.yaml")
    assert recipe.model == "tests.cli.models:tiny"
    assert recipe.budget.amounts == {"neurons": 0.5}
    assert (recipe.data.name, recipe.data.limit) == ("digits", 128)
    assert (recipe.settings.epochs, recipe.settings.batch_size) == (2, 32)
    assert recipe.method.settings.new == 1


def test_another_method_and_the_options(fxgrow: Fxgrow, tmp_path: Path) -> None:
    path, out = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(RECIPE)
    done = fxgrow("run", path, "--out", out, "--json", "--dump-graphs", tmp_path / "graphs", *TRUST)
    assert done.exit_code == 0, done.output
    assert '"data": "digits"' in done.stdout
    assert len(list((tmp_path / "graphs").iterdir())) == 2
    (step,) = read_spec(out).history
    assert step.method.name == "RandomGrowth"
    assert sum(change.split + change.new for change in step.widths) == 3
    assert fxgrow("run", path, "--out", out, *TRUST).exit_code == 2
    assert fxgrow("run", path, "--out", out, "--force", *TRUST).exit_code == 0


def test_the_place_of_the_data_can_be_given(fxgrow: Fxgrow, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("digits", "cifar10").replace("tiny", "unstated?input=1x8x8"))
    refused = fxgrow("run", path, "--out", tmp_path / "run", *TRUST)
    assert refused.exit_code == 2
    assert "[no-root]" in refused.stderr
    (tmp_path / "data").mkdir()
    write_cifar(tmp_path / "data", CIFAR10)
    done = fxgrow("run", path, "--data-root", tmp_path / "data", "--out", tmp_path / "run", *TRUST)
    assert done.exit_code == 0, done.output
    assert read_recipe(tmp_path / "run" / "recipe.yaml").data.root == tmp_path / "data"


@pytest.mark.parametrize(
    ("text", "code"),
    [("model: [", "bad-yaml"), (RECIPE + "surprise: 1", "unknown-key"), (RECIPE[:-2], "bad-yaml")],
)
def test_wrong_recipes_write_nothing(text: str, code: str, fxgrow: Fxgrow, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    done = fxgrow("run", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith(f"[{code}]")
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_lowering_and_layers_are_part_of_a_recipe(fxgrow: Fxgrow, tmp_path: Path) -> None:
    out, again = tmp_path / "run", tmp_path / "again"
    words = (
        "tests.cli.models:attends",
        "--lower",
        "--layers",
        1,
        "--at",
        "mix.0",
        "--round-to",
        2,
        "--neurons",
        4,
    )
    assert fxgrow("grow", *words, "--out", out, *SHORT).exit_code == 0
    recipe = read_recipe(out / "recipe.yaml")
    assert recipe.lower
    assert (recipe.budget.layers, recipe.budget.round_to) == (1, 2)
    assert fxgrow("run", out / "recipe.yaml", "--out", again, *TRUST).exit_code == 0
    torch.testing.assert_close(load(again).state_dict(), load(out).state_dict(), rtol=0, atol=0)


def test_a_recipe_says_when_to_grow(fxgrow: Fxgrow, tmp_path: Path) -> None:
    """The shipped example of a plateau, on few images and a tiny model, twice."""
    shipped = Path(__file__).parents[2] / "specs" / "recipes" / "plateau.yaml"
    text = re.sub("model: .*", "model: tests.cli.models:tiny", shipped.read_text())
    text = text.replace("name: digits", "name: digits\n  limit: 64").replace(
        "epochs: 20", "epochs: 5"
    )
    # So little of a decrease is none: the second and the fourth epoch are no better than the first.
    text = text.replace("min_delta: 0.05", "min_delta: 0.99").replace("patience: 1", "patience: 0")
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    weights = []
    for name in ("one", "two"):
        done = fxgrow("run", path, "--out", tmp_path / name, "--json", *TRUST)
        assert done.exit_code == 0, done.output
        assert [step["epoch"] for step in json.loads(done.stdout)["steps"]] == [2, 3, 4]
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert read_recipe(tmp_path / "one" / "recipe.yaml") == read_recipe(path)


def test_a_recipe_whose_trigger_does_not_fit(fxgrow: Fxgrow, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("grow_steps: 1", "grow_steps: 1, grow_when: {name: ByPromise}"))
    refused = fxgrow("run", path, "--out", tmp_path / "run", *TRUST)
    assert refused.exit_code == 2 and "[no-promise]" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_fields_are_set_from_the_command_line(fxgrow: Fxgrow, tmp_path: Path) -> None:
    path, out = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(RECIPE)
    words = ("settings.lr=1e-3", "settings.optimizer={name: adamw}", "settings.schedule.warmup=1")
    chosen = [word for pair in words for word in ("--set", pair)]
    done = fxgrow("run", path, "--out", out, *chosen, *TRUST)
    assert done.exit_code == 0, done.output
    written = read_recipe(out / "recipe.yaml")
    assert (written.settings.lr, written.settings.optimizer.name) == (1e-3, "adamw")
    assert written.settings.schedule.warmup == 1
    assert fxgrow("run", out / "recipe.yaml", "--out", tmp_path / "again", *TRUST).exit_code == 0
    weights = [(place / "model.safetensors").read_bytes() for place in (out, tmp_path / "again")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("assignment", "code"),
    [
        ("settings.weight_deacy=1", "bad-setting"),
        ("settings.lr=-1", "bad-value"),
        ("model=tests.cli.models:unstated", "untrusted-factory"),
        ("model=os:system", "untrusted-factory"),
    ],
)
def test_what_may_not_be_set_is_refused_before_any_work(
    assignment: str, code: str, fxgrow: Fxgrow, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        RECIPE.replace("tests.cli.models:tiny", "torchvision:resnet18")
    )
    done = fxgrow("run", tmp_path / "recipe.yaml", "--out", tmp_path / "run", "--set", assignment)
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith(f"[{code}]")
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
