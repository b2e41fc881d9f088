"""Whatever is read from a safetensors file lies where torch lays tensors."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fxgrow.documents.tensor_files import ALIGNMENT, read_tensors


def lies_well(tensor: Tensor) -> bool:
    return tensor.data_ptr() % ALIGNMENT == 0


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A file in which one tensor or another lies anywhere: their sizes are no multiples of anything."""
    save_file({f"x{n}": torch.arange(2.0 * n + 1) for n in range(9)}, tmp_path / "odd")
    return tmp_path / "odd"


def test_copies_lie_well_and_hold_the_same(odd: Path) -> None:
    found, mapped = read_tensors(odd), load_file(odd)
    assert not all(map(lies_well, mapped.values()))  # or the test shows nothing
    assert all(map(lies_well, found.values()))
    assert all(torch.equal(found[name], mapped[name]) for name in mapped.keys() | found.keys())


def test_a_file_that_changes_afterwards_changes_nothing(odd: Path) -> None:
    found = read_tensors(odd)["x8"]
    odd.write_bytes(b"\xff" * odd.stat().st_size)
    assert torch.equal(found, torch.arange(17.0))
    assert ALIGNMENT == 64
