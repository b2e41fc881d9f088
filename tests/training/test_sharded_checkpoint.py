"""Checkpoints of all processes, in one process: what fits and what does not (several: sharding)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fxgrow.errors import RunError, SpecError
from fxgrow.training import AtEpochs, Grower, load_sharded, read_sharded_state, save_sharded

BATCH = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0])


def grower_of(sizes: Sequence[int], rate: float = 0.1) -> Grower:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, sizes[0]), nn.ReLU(), *map(nn.Linear, sizes, sizes[1:]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.8, 0.9))
    return Grower(model, optimizer, loss_fn=F.cross_entropy, when=AtEpochs(epochs=(9,)))


def trained(sizes: Sequence[int], rate: float = 0.1) -> Grower:
    grower = grower_of(sizes, rate)
    F.cross_entropy(grower.model(BATCH[0]), BATCH[1]).backward()
    grower.optimizers[0].step()
    grower.step([BATCH], loss=float("nan"), epoch=2)
    return grower


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    saved, loaded = trained((4, 2), rate=0.2), grower_of((4, 2))
    save_sharded(saved, tmp_path / "one")
    load_sharded(loaded, tmp_path / "one")
    assert loaded.history.now.epoch == saved.history.now.epoch == 2
    for one, other in zip(loaded.model.parameters(), saved.model.parameters(), strict=True):
        assert torch.equal(one, other)
    states = [grower.optimizers[0].state_dict() for grower in (loaded, saved)]
    assert str(states[0]) == str(states[1])
    assert loaded.optimizers[0].param_groups[0]["betas"] == (0.8, 0.9)
    assert read_sharded_state(tmp_path / "one")["history"]["measurements"]


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((5, 2), "Size mismatch"),
        ((4, 2, 2), "has nothing of"),
        ((4,), r"it has model\.2\.bias, which is not there"),
    ],
)
def test_another_model_is_refused_by_what_differs(
    sizes: Sequence[int], words: str, tmp_path: Path
) -> None:
    save_sharded(trained((4, 2)), tmp_path / "one")
    other = grower_of(sizes)
    before = [parameter.clone() for parameter in other.model.parameters()]
    with pytest.raises(SpecError, match=words) as error:
        load_sharded(other, tmp_path / "one")
    assert error.value.code == "tensor-mismatch"
    for one, old in zip(other.model.parameters(), before, strict=True):
        assert torch.equal(one, old)


def test_a_checkpoint_is_not_replaced(tmp_path: Path) -> None:
    grower = trained((4, 2))
    save_sharded(grower, tmp_path)
    with pytest.raises(RunError) as error:
        save_sharded(grower, tmp_path)
    assert error.value.code == "directory-exists"


def test_without_its_last_file_it_is_none(tmp_path: Path) -> None:
    save_sharded(trained((4, 2)), tmp_path)
    (tmp_path / "grower.json").rename(tmp_path / "grower.json.partial")
    with pytest.raises(SpecError) as error:
        load_sharded(grower_of((4, 2)), tmp_path)
    assert error.value.code == "missing-file"


def without_version(state: dict[str, Any]) -> None:
    del state["schema_version"]


def with_more(state: dict[str, Any]) -> None:
    state["code"] = "import os"


@pytest.mark.parametrize(
    ("change", "code"), [(without_version, "missing-key"), (with_more, "unknown-key")]
)
def test_what_it_says_is_checked(change: Any, code: str, tmp_path: Path) -> None:
    save_sharded(trained((4, 2)), tmp_path)
    path = tmp_path / "grower.json"
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))
    with pytest.raises(SpecError) as error:
        read_sharded_state(tmp_path)
    assert error.value.code == code


def test_a_damaged_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    save_sharded(trained((4, 2)), tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(SpecError) as error:
        load_sharded(grower_of((4, 2)), tmp_path)
    assert error.value.code == "tensor-mismatch"
