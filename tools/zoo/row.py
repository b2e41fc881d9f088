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
    """``factory()`` builds the model, weights random; ``inputs(dtype)`` are the (keyword) arguments of one call."""

    name: str
    family: str
    factory: Callable[[], nn.Module]
    inputs: Inputs
    note: str = ""


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
