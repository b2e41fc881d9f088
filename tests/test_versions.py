"""docs/versions.md says which versions are written and read."""

import re
from pathlib import Path
from typing import Any

from fxgrow.cells.genotype import GENOTYPE_DOCUMENT
from fxgrow.cells.result import SEARCH_DOCUMENT
from fxgrow.continual.result import CONTINUAL_DOCUMENT
from fxgrow.continual.storage import MASTER_DOCUMENT
from fxgrow.spec import Document
from fxgrow.spec.migrations import ARCHITECTURE
from fxgrow.training.recipe import RECIPE_DOCUMENT
from fxgrow.training.result import RUN_RESULT_DOCUMENT

PAGE = (Path(__file__).parents[1] / "docs" / "versions.md").read_text()
ROW = re.compile(r"^\| ([a-z ]+) \| .+ \| (\d+) \| (.+) \|$", re.MULTILINE)
DOCUMENTS: dict[str, Document[Any]] = {
    "architecture": ARCHITECTURE,
    "recipe": RECIPE_DOCUMENT,
    "run result": RUN_RESULT_DOCUMENT,
    "genotype": GENOTYPE_DOCUMENT,
    "cell search": SEARCH_DOCUMENT,
    "master": MASTER_DOCUMENT,
    "continual result": CONTINUAL_DOCUMENT,
}


def test_the_table() -> None:
    rows = {name: (int(now), read) for name, now, read in ROW.findall(PAGE)}
    assert rows == {
        name: (each.version, f"1 to {each.version}" if each.version > 1 else "1")
        for name, each in DOCUMENTS.items()
    }


def test_every_old_version_has_a_migration() -> None:
    for document in DOCUMENTS.values():
        assert set(document.migrations) == set(range(1, document.version))
