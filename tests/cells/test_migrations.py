"""Searches of every version that fxgrow ever wrote are read: see ``tests/golden/cell-searches``."""

import json
from pathlib import Path
from typing import Any

import pytest

from fxgrow.cells import Derivation, FireflySearch, derive_again, read_search
from fxgrow.cells.result import SEARCH_DOCUMENT, SEARCH_VERSION
from fxgrow.errors import SpecError

GOLDEN = Path(__file__).parents[1] / "golden" / "cell-searches"


def written() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((GOLDEN / "v1" / "search.json").read_text())
    return data


def test_there_is_an_example_of_every_old_version() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"v{n}" for n in range(1, SEARCH_VERSION)}


def test_a_search_of_version_1() -> None:
    """Its cells can be derived again as they were: the settings have found their new names."""
    old = written()["settings"]["derivation"]
    result = read_search(GOLDEN / "v1" / "search.json")
    assert result.schema_version == SEARCH_VERSION
    settings = FireflySearch.model_validate(result.settings)
    assert settings.derivation == Derivation(
        identity_threshold=old["little"],
        keep_all=old["keep_all"],
        normalize_by_operation=old["against_average"],
    )
    assert derive_again(result, settings.derivation) == result.genotype
    assert SEARCH_DOCUMENT.read(result.model_dump_json()) == result


def test_a_search_without_a_derivation() -> None:
    data = {**written(), "method": "RandomCells", "settings": {}, "grown": []}
    assert SEARCH_DOCUMENT.read(json.dumps(data)).settings == {}


@pytest.mark.parametrize("settings", [None, [], {"derivation": {"identity_threshold": 0.5}}])
def test_what_version_1_did_not_allow(settings: object) -> None:
    with pytest.raises(SpecError) as caught:
        SEARCH_DOCUMENT.read(json.dumps({**written(), "settings": settings}))
    assert caught.value.code == "bad-value"
