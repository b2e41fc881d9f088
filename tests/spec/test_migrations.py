"""Specs of every version that fxgrow ever wrote, as it wrote them, load: see ``tests/golden/specs``."""

import json
from pathlib import Path

import pytest
import torch

from fxgrow.spec import load, read_spec, save, spec_of
from fxgrow.spec.fingerprint import fingerprint
from fxgrow.spec.migrations import ARCHITECTURE
from fxgrow.spec.models import SCHEMA_VERSION

SPECS = Path(__file__).parents[1] / "golden" / "specs"
OLD = sorted(SPECS.glob("v*/*"))


def version_of(directory: Path) -> int:
    return int(directory.parent.name.removeprefix("v"))


def test_there_is_an_example_and_a_migration_of_every_old_version() -> None:
    old = set(range(1, SCHEMA_VERSION))
    assert {version_of(directory) for directory in OLD} == old
    assert set(ARCHITECTURE.migrations) == old
    assert ARCHITECTURE.version == SCHEMA_VERSION


@pytest.mark.parametrize("directory", OLD, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_an_old_directory_loads(directory: Path) -> None:
    written = json.loads((directory / "config.json").read_text())
    assert written["schema_version"] == version_of(directory)
    model = load(directory)
    spec = spec_of(model)
    assert spec.schema_version == SCHEMA_VERSION
    assert fingerprint(spec) == spec.fingerprint == written["fingerprint"]
    assert len(spec.history) == len(written["history"]) > 0
    assert torch.isfinite(model(*(torch.zeros(item.shape) for item in spec.inputs))).all()


@pytest.mark.parametrize("directory", OLD, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_it_is_written_again_in_the_present_version(directory: Path, tmp_path: Path) -> None:
    save(load(directory), tmp_path / "new")
    assert (
        json.loads((tmp_path / "new" / "config.json").read_text())["schema_version"]
        == SCHEMA_VERSION
    )
    assert read_spec(tmp_path / "new") == read_spec(directory)
    new, old = load(tmp_path / "new"), load(directory)
    torch.testing.assert_close(new.state_dict(), old.state_dict(), rtol=0, atol=0)


def test_what_version_1_did_not_record_is_left_open() -> None:
    (step,) = read_spec(SPECS / "v1" / "grown").history
    assert sum(change.split for change in step.widths) > 0
    assert {change.neurons for change in step.widths} == {()}
    assert [(layer.form, layer.norm) for layer in step.layers] == [(None, None)]


def test_version_2_computes_what_it_did() -> None:
    """The expected values come from the fxgrow that wrote the directory."""
    images = torch.linspace(-1, 1, 72).reshape(2, 1, 6, 6)
    expected = torch.tensor(
        [[0.04681779, -0.25051472, -0.29020324], [0.04639312, -0.25063738, -0.36938140]]
    )
    torch.testing.assert_close(load(SPECS / "v2" / "grown")(images), expected)
    (step,) = read_spec(SPECS / "v2" / "grown").history
    assert len(step.layers) == 2 and step.blocks == ()


def test_version_1_computes_what_it_did() -> None:
    """The expected values come from the fxgrow that wrote the directory."""
    images = torch.linspace(-1, 1, 72).reshape(2, 1, 6, 6)
    expected = torch.tensor(
        [[0.06246538, -0.31973201, -0.24273978], [0.04105570, -0.28104606, -0.29917124]]
    )
    torch.testing.assert_close(load(SPECS / "v1" / "grown")(images), expected)
