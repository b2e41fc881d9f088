"""One model of a zoo, and the inputs that it is run on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Callable[[torch.dtype], tuple[Any, ...] | dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One model.

    ``factory()`` builds it, weights random; ``inputs(dtype)`` are the (keyword) arguments of one call; ``dtype`` is that
    which it is tried in: float32 where its own code makes tensors of float32, so that it does not run in float64.
    """

    name: str
    family: str
    factory: Callable[[], nn.Module]
    inputs: Inputs
    note: str = ""
    dtype: torch.dtype = torch.float64


def noise(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Normal numbers of that shape, the same at every call."""
    return torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def images(side: int, count: int = 2, channels: int = 3) -> Inputs:
    """A batch of square images."""
    return partial(_images, (count, channels, side, side))


def _images(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    return (noise(*shape, dtype=dtype),)
