"""Tensors read from safetensors files: always copies, never views of the file."""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

ALIGNMENT = 64
"""Alignment in bytes of the tensors that torch allocates; in a file they lie at any offset."""


def aligned_copy(file: Any) -> dict[str, Tensor]:
    """Copy the tensors of an open safetensors file into memory that torch has allocated.

    A mapped file may change under its tensors. Also, matrix products round differently depending
    on the alignment of their operands: aligned like tensors that were computed, tensors that were
    read give the same results to the last bit.

    Args:
        file: what ``safe_open`` returns.

    Returns:
        Name -> tensor.
    """
    # ruff would iterate over the file itself, which a safetensors file does not support.
    return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return name -> tensor of a whole file that fxgrow has written; nothing is checked."""
    with safe_open(path, framework="pt", device="cpu") as file:
        return aligned_copy(file)
