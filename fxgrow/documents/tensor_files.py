"""Tensors read from safetensors files: always copies, never views of the file."""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

ALIGNMENT = 64
"""Bytes. Where torch lays tensors of its own; in a file they lie wherever the one before them ends."""


def aligned_copy(file: Any) -> dict[str, Tensor]:
    """Name -> tensor, of a file that ``safe_open`` has opened, in memory that torch laid out.

    The file may change under a mapping, and matrix products round by where their operands lie: with the ``ALIGNMENT``
    of tensors that were computed, what is computed from those that were read has the same bits.
    """
    return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a whole file of our own, unchecked."""
    with safe_open(path, framework="pt", device="cpu") as file:
        return aligned_copy(file)
