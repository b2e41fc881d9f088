"""What fxgrow writes is told from what others write by its content."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fxgrow.cells import Genotype
from fxgrow.cells.result import SearchResult
from fxgrow.continual.result import ContinualResult
from fxgrow.continual.storage import MasterRecord
from fxgrow.documents.recognition import (
    ANY_DIRECTORY,
    CONTINUAL_DIRECTORY,
    MASTER_DIRECTORY_FORMAT,
    RUN_DIRECTORY,
    SEARCH_DIRECTORY,
    DirectoryFormat,
    begins_with,
    foreign_file,
    foreign_in_directory,
)
from fxgrow.spec import ArchitectureSpec, StrictModel
from fxgrow.training.result import RunResult

DOCUMENTS: dict[type[StrictModel], tuple[DirectoryFormat, str]] = {
    ArchitectureSpec: (RUN_DIRECTORY, "config.json"),
    RunResult: (RUN_DIRECTORY, "result.json"),
    ContinualResult: (CONTINUAL_DIRECTORY, "result.json"),
    MasterRecord: (MASTER_DIRECTORY_FORMAT, "master.json"),
    SearchResult: (SEARCH_DIRECTORY, "search.json"),
}


@pytest.mark.parametrize("model", DOCUMENTS)
def test_the_table_knows_the_documents(model: type[StrictModel], tmp_path: Path) -> None:
    """Every required field is there in what is written, so that is what must do."""
    folder, name = DOCUMENTS[model]
    required = [key for key, field in model.model_fields.items() if field.is_required()]
    (tmp_path / name).write_text(json.dumps(dict.fromkeys((*required, "schema_version"), 1)))
    assert foreign_in_directory(folder)(tmp_path) is None
    assert foreign_in_directory(ANY_DIRECTORY)(tmp_path) is None
    (tmp_path / name).write_text(json.dumps(dict.fromkeys(required[2:], 1)))
    assert name in (foreign_in_directory(folder)(tmp_path) or "")


def test_a_genotype_alone_is_no_search(tmp_path: Path) -> None:
    (tmp_path / "genotype.json").write_text(json.dumps(dict.fromkeys(Genotype.model_fields, 1)))
    assert foreign_in_directory(SEARCH_DIRECTORY)(tmp_path) == "it holds no search.json"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "\xff", '{"a": NaN}', '{"schema_version": 1}', "[" * 9999]
)
def test_texts_that_are_no_document(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    assert (
        foreign_in_directory(ANY_DIRECTORY)(tmp_path)
        == "it holds 'config.json', which fxgrow did not write"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "recipe.yaml",
            "schema_version: 1\nmodel: x\nsettings: {}\nbudget: {}\n# the third try, by hand\n",
        ),
        ("recipe.yaml", "model: [\n"),
        ("log.jsonl", "my diary\n"),
        ("log.jsonl", '["event"]\n'),
        ("log.jsonl", "[" * 60_000),
        ("model.safetensors", "not tensors"),
        ("master.safetensors", "not tensors"),
        ("notes.txt", ""),
        (".git", ""),
    ],
)
def test_foreign_files_are_named(name: str, text: str, tmp_path: Path) -> None:
    config = {"schema_version": 2, "fingerprint": "", "inputs": [], "nodes": [], "cost": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert foreign_in_directory(ANY_DIRECTORY)(tmp_path) is None
    (tmp_path / name).write_text(text)
    assert (
        foreign_in_directory(ANY_DIRECTORY)(tmp_path)
        == f"it holds {name!r}, which fxgrow did not write"
    )


def test_tensors_of_others(tmp_path: Path) -> None:
    for name in ("model.safetensors", "master.safetensors"):
        save_file({"embeddings.weight": torch.ones(1)}, tmp_path / name, metadata={"format": "pt"})
        assert name in (foreign_in_directory(ANY_DIRECTORY)(tmp_path) or "")
        (tmp_path / name).unlink()


def test_files_by_their_beginning(tmp_path: Path) -> None:
    foreign_check = foreign_file(begins_with(b"%PDF"))
    assert foreign_check(tmp_path) == "it is no regular file"
    for text, known in (("%PDF-1.4", True), ("PDF", False), ("", True)):
        (tmp_path / "a").write_text(text)
        assert (foreign_check(tmp_path / "a") is None) == known
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert foreign_check(tmp_path / "link") == "it is no regular file"
