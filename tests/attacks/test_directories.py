"""Directories that look like ours and are not: whatever is written to them, nothing in them is lost."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import fxgrow
from fxgrow.continual.storage import save_master
from fxgrow.errors import ArgumentError, FxgrowError, SpecError
from fxgrow.export import export
from fxgrow.spec import load, read_spec
from fxgrow.spec.meta_module import write_architecture
from fxgrow.training import run_directory
from tests.continual.zoo import master
from tools.fuzzing.bases import Base

Damage = Callable[[Path], object]


def written(base: Base, directory: Path) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(base.config))
    (directory / "model.safetensors").write_bytes(base.weights)
    return directory


def a_checkpoint(path: Path) -> None:
    """Of another library, under the names that both use."""
    (path / "config.json").write_text(
        '{"model_type": "bert", "hidden_size": 768, "schema_version": 2}'
    )
    save_file(
        {"embeddings.weight": torch.ones(2)}, path / "model.safetensors", metadata={"format": "pt"}
    )


def their_weights(path: Path) -> None:
    save_file(
        {"embeddings.weight": torch.ones(2)}, path / "model.safetensors", metadata={"format": "pt"}
    )


def linked(name: str) -> Damage:
    def damage(path: Path) -> None:
        (path / name).rename(path.parent / f"their-{name}")
        (path / name).symlink_to(path.parent / f"their-{name}")

    return damage


def a_directory_for_a_file(path: Path) -> None:
    (path / "config.json").unlink()
    (path / "config.json").mkdir()
    (path / "config.json" / "thesis.tex").write_text("x")


def notes_deep_inside(path: Path) -> None:
    (path / "initial").mkdir()
    (path / "initial" / "notes.txt").write_text("x")


OVERWRITTEN: dict[str, Damage] = {
    "checkpoint": a_checkpoint,
    "weights": their_weights,
    "linked config": linked("config.json"),
    "linked weights": linked("model.safetensors"),
    "directory": a_directory_for_a_file,
    "no config": lambda path: (path / "config.json").unlink(),
}
DELETED: dict[str, Damage] = {
    **OVERWRITTEN,
    "notes": lambda path: (path / "notes.txt").write_text("x"),
    "hidden": lambda path: (path / ".env").write_text("x"),
    "repository": lambda path: (path / ".git").mkdir(),
    "deep": notes_deep_inside,
    "diary": lambda path: (path / "log.jsonl").write_text("dear diary\n"),
    "recipe": lambda path: (path / "recipe.yaml").write_text("# mine\nschema_version: 1\n"),
    "dangling": lambda path: (path / "result.json").symlink_to(path / "none"),
}


def everything(directory: Path) -> dict[Path, object]:
    return {
        path: path.readlink()
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in directory.rglob("*")
    }


def replaced_by_a_run(directory: Path, base: Base) -> None:
    with run_directory(directory, replace=True):
        pass


def replaced_by_a_master(directory: Path, base: Base) -> None:
    save_master(master("block"), directory)


def replaced_by_a_hub_directory(directory: Path, base: Base) -> None:
    export(written(base, directory.parent / "sound"), "hub", directory, force=True)


@pytest.mark.parametrize(
    "by", [replaced_by_a_run, replaced_by_a_master, replaced_by_a_hub_directory]
)
@pytest.mark.parametrize("damage", DELETED.values(), ids=DELETED)
def test_what_is_not_ours_is_not_deleted(
    damage: Damage, by: Callable[[Path, Base], None], base: Base, tmp_path: Path
) -> None:
    (tmp_path / "place").mkdir()
    directory = written(base, tmp_path / "place" / "run")
    damage(directory)
    before = everything(directory)
    with pytest.raises(FxgrowError) as caught:
        by(directory, base)
    assert caught.value.code in ("foreign-directory", "foreign-path")
    assert everything(directory) == before


@pytest.mark.parametrize("damage", OVERWRITTEN.values(), ids=OVERWRITTEN)
def test_what_is_not_ours_is_not_overwritten(damage: Damage, base: Base, tmp_path: Path) -> None:
    model = load(written(base, tmp_path / "sound"))
    directory = written(base, tmp_path / "run")
    damage(directory)
    before = everything(tmp_path)
    spec = read_spec(tmp_path / "sound")
    for write in (
        partial(fxgrow.save, model, directory),
        partial(write_architecture, directory, spec),
    ):
        with pytest.raises(SpecError) as caught:
            write()
        assert caught.value.code in ("foreign-directory", "symlink", "not-a-file")
        assert everything(tmp_path) == before


def test_a_run_is_no_master_network(base: Base, tmp_path: Path) -> None:
    directory = written(base, tmp_path / "run")
    with pytest.raises(FxgrowError) as caught:
        save_master(master("block"), directory)
    assert caught.value.code == "foreign-directory"
    load(directory)


@pytest.mark.parametrize("target", ["", ".", "..", "~", "/"])
def test_models_are_not_saved_where_everything_is(
    target: str, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(written(base, tmp_path / "sound"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises((ArgumentError, SpecError)) as caught:
        fxgrow.save(model, target)
    assert caught.value.code == ("unsafe-path" if target else "bad-argument")
    assert not list((tmp_path / "here").iterdir())


def test_a_link_cannot_pose_as_what_lies_aside(base: Base, tmp_path: Path) -> None:
    directory = written(base, tmp_path / "run")
    shutil.move(directory, tmp_path / "secret")
    (tmp_path / f".run.{'0' * 32}.old").symlink_to(tmp_path / "secret")
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "run")
    assert caught.value.code == "missing-file"
    (tmp_path / "secret").rename(tmp_path / f".run.{'1' * 32}.old")
    load(tmp_path / "run")
    assert not (tmp_path / f".run.{'1' * 32}.old").exists()
