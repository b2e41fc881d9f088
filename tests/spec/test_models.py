"""The schema: closed, frozen, and documented codes."""

import ast
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from fxgrow.errors import ArgumentError
from fxgrow.spec import ArchitectureSpec, SpecDiff, arguments, models
from fxgrow.spec.error_codes import CODES

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "fxgrow").rglob("*.py"))


def test_every_model_is_frozen_and_closed() -> None:
    found: list[type[BaseModel]] = [SpecDiff]
    for module in (arguments, models):
        found += [
            item
            for item in vars(module).values()
            if isinstance(item, type) and issubclass(item, BaseModel)
        ]
    assert len(found) > 20
    assert all(item.model_config.get("frozen") for item in found)
    assert all(item.model_config.get("extra") == "forbid" for item in found)


def test_a_spec_cannot_be_changed() -> None:
    cost = models.Cost(parameters=1, multiply_adds=2)
    with pytest.raises(ArgumentError, match="immutable"):
        cost.parameters = 3  # type: ignore[misc]


def test_the_json_schema_can_be_made() -> None:
    schema = ArchitectureSpec.model_json_schema()
    assert schema["additionalProperties"] is False
    assert {"schema_version", "fingerprint", "nodes"} <= set(schema["required"])


def codes_raised(path: Path) -> set[str]:
    """Every string literal that stands first in a call of SpecError or of a helper that makes one."""
    makers = ("SpecError", "self._error", "self.error", "file.error")
    calls = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and node.args
    )
    first = (call.args[0] for call in calls if ast.unparse(call.func) in makers)
    return {
        item.value
        for item in first
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    }


def test_codes_are_those_of_the_documentation() -> None:
    documented = re.findall(
        r"^\| `([a-z-]+)` \| (.+) \|$", (ROOT / "docs" / "spec.md").read_text(), re.MULTILINE
    )
    assert dict(documented) == CODES


def test_codes_are_those_that_are_raised() -> None:
    raised = set().union(*map(codes_raised, SOURCES))
    from_table = {"unknown-key", "missing-key", "bad-value", "not-finite"}
    assert raised | from_table == set(CODES)


def test_every_code_has_a_test_that_meets_it() -> None:
    tests = "".join(
        path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)
    )
    exempt = {"missing-package"}  # would need an installation without torchvision
    assert {code for code in CODES if f'"{code}"' not in tests} == exempt
