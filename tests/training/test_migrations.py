"""Recipes and results of every version that fxgrow ever wrote are read: see ``tests/golden``."""

import json
from pathlib import Path
from typing import Any

import pytest

from fxgrow.errors import SpecError
from fxgrow.training import read_recipe, read_result, recipe_text
from fxgrow.training.recipe import RECIPE_DOCUMENT
from fxgrow.training.result import RUN_RESULT_DOCUMENT

GOLDEN = Path(__file__).parents[1] / "golden"
LEAST = "schema_version: 1\nmodel: a.b:c\nbudget: {neurons: 0.3}\n"


@pytest.mark.parametrize(
    ("folder", "document"), [("recipes", RECIPE_DOCUMENT), ("run-results", RUN_RESULT_DOCUMENT)]
)
def test_there_is_an_example_of_every_old_version(folder: str, document: Any) -> None:
    versions = {path.name for path in (GOLDEN / folder).iterdir()}
    assert versions == {f"v{version}" for version in range(1, document.version)}


def test_a_recipe_of_version_1() -> None:
    path = GOLDEN / "recipes" / "v1" / "recipe.yaml"
    assert "memory: 2000000000.0" in path.read_text()
    recipe = read_recipe(path)
    assert (recipe.schema_version, recipe.settings.memory_limit) == (2, 2e9)
    assert (recipe.settings.epochs, recipe.notes) == (2, {"paper": "none"})
    assert "memory_limit: 2000000000.0" in recipe_text(recipe)


def test_a_result_of_version_1() -> None:
    directory = GOLDEN / "run-results" / "v1"
    written = json.loads((directory / "result.json").read_text())
    result = read_result(directory)
    assert (result.schema_version, result.settings.memory_limit) == (
        2,
        written["settings"]["memory"],
    )
    assert result.loss_after == written["loss_after"]
    assert len(result.steps) == len(written["steps"]) == 1


def test_settings_may_be_left_out() -> None:
    assert RECIPE_DOCUMENT.read(LEAST).settings.memory_limit is None


@pytest.mark.parametrize(
    ("settings", "code"),
    [("[]", "bad-value"), ("{memory: no}", "bad-value"), ("{memory_limit: 1}", "bad-value")],
)
def test_what_version_1_did_not_allow(settings: str, code: str) -> None:
    with pytest.raises(SpecError) as caught:
        RECIPE_DOCUMENT.read(f"{LEAST}settings: {settings}\n")
    assert caught.value.code == code


def test_version_2_does_not_know_the_old_name() -> None:
    with pytest.raises(SpecError) as caught:
        RECIPE_DOCUMENT.read(LEAST.replace("1", "2", 1) + "settings: {memory: 1}\n")
    assert (caught.value.code, caught.value.path) == ("unknown-key", "settings.memory")
