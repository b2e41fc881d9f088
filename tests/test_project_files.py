"""What a release, a citation and a forge read of the repository agrees with the package."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import fxgrow

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
PAGES = (ROOT / "SECURITY.md", ROOT / ".github" / "pull_request_template.md")


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert str(citation["version"]) == fxgrow.__version__
    assert citation["license"] == PYPROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == ["the fxgrow authors"]
    assert PYPROJECT["authors"] == citation["authors"]


def test_the_matrix_begins_with_what_is_required() -> None:
    matrix = read_yaml(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["matrix"]["strategy"][
        "matrix"
    ]
    assert PYPROJECT["requires-python"] == f">={matrix['python'][0]}"
    torch = next(one for one in PYPROJECT["dependencies"] if one.startswith("torch>="))
    assert matrix["versions"][0].startswith(torch.replace(">=", "==") + ".* ")
    assert matrix["versions"][-1] == "torch torchvision", "the newest"


def test_the_workflow_runs_what_exists() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert (ROOT / ".ci" / "run").exists() and "run: .ci/run\n" in workflow
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"run: make ([a-z-]+)", workflow)
    assert targets == ["release-check", "docs"]
    assert all(f"\n{target}: " in makefile for target in targets)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_asks_for_something(path: Path) -> None:
    form = read_yaml(path)
    assert form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert fields and all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_there_are_forms() -> None:
    assert {path.stem for path in FORMS} == {"fault", "idea", "model"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_pages_name_files_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"\]\(([\w./-]+)\)", text) + re.findall(
        r"\b(?:docs/[\w./-]+|[A-Z]+\.md)\b", text
    )
    assert named
    # A sentence may end behind a name.
    assert not [name for name in named if not (ROOT / name.rstrip(".")).exists()]
