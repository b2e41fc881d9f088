"""No wrong call raises anything but an error of fxgrow: every public function and class, every argument, wrong values."""

import importlib
import re
from pathlib import Path

import pytest

from tests.wrong_calls import (
    CALLED_BY_FXGROW,
    ROWS,
    Right,
    failures_of,
    is_checked_kind,
    public_callables,
)

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py"))
IMPORTS = re.compile(r"^from (fxgrow\.[a-z_.]+) import ([\w, ]+)", re.MULTILINE)

CALLABLES = dict(public_callables())


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Right:
    return Right(tmp_path_factory.mktemp("right"))


def test_everything_public_has_a_row() -> None:
    assert CALLABLES.keys() - CALLED_BY_FXGROW == ROWS.keys()


def test_everything_that_the_documentation_imports_has_a_row() -> None:
    missing, found = [], 0
    for document in DOCUMENTS:
        for module, names in IMPORTS.findall(document.read_text(encoding="utf-8")):
            # Integrations have rows of their own; a coupling rule is called by the coupling.
            if module.startswith("fxgrow.integrations.") or module == "fxgrow.coupling.rules":
                continue
            for name in names.replace(" ", "").split(","):
                value = getattr(importlib.import_module(module), name)
                found += 1
                if is_checked_kind(value) and value not in CALLABLES.values():
                    missing.append(f"{module}.{name}, in {document.name}")
    assert not missing
    assert found > 30


@pytest.mark.parametrize("name", sorted(ROWS))
def test_wrong_values(
    name: str, right: Right, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # texts such as "x" are paths there
    failures = failures_of(name, CALLABLES[name], ROWS[name], right)
    assert not failures, "\n".join(failures)
