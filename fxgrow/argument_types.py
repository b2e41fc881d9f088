"""Annotations that say more than a type: ranges and conditions that ``argument_checks`` knows."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

_NAME = 512
"""Characters of a name, as in ``documents.limits``."""


@dataclass(frozen=True)
class Within:
    """A range of numbers, both ends included; NaN is in none.

    Args:
        least: the smallest number that is allowed.
        most: the largest one.

    Example:
        >>> def dropped(probability: Annotated[float, Within(0, 1)]) -> None: ...
    """

    least: float
    most: float

    @property
    def words(self) -> str:
        """The range as a message names it."""
        return f"from {self.least} to {self.most}"

    def holds(self, value: Any) -> bool:
        """Whether a number is in the range."""
        return bool(self.least <= value <= self.most)


@dataclass(frozen=True)
class Satisfies:
    """A condition on a value that has the right type.

    Args:
        words: the condition, as it follows the type in a message ("with four axes").
        holds: whether a value meets it.
    """

    words: str
    holds: Callable[[Any], bool]


def _can_compute(device: Any) -> bool:
    """Whether torch can make a tensor on a device and read it back."""
    try:
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError, ValueError):
        # It is an AssertionError if torch was built without CUDA.
        return False
    return True


def _can_allocate(device: Any) -> bool:
    """Whether tensors can lie on a device, with values or (on meta) without."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        # It is an AssertionError if torch was built without CUDA.
        return False
    return True


def _is_name(value: Any) -> bool:
    return 0 < len(value) <= _NAME and value.isprintable()


def _has_parameters(value: Any) -> bool:
    return any(True for _ in value.parameters())


def _is_loss(value: Any) -> bool:
    return bool(value.numel() == 1 and value.requires_grad and not value.is_meta)


def _are_images(value: Any) -> bool:
    return bool(value.dim() == 4 and value.is_floating_point())


UNCHECKED = "unchecked"
"""In an annotation: the function looks at this argument itself, and says more about it."""

# Whole numbers. 2**53 is the last one that a float, and so JSON, holds exactly; a seed is what
# torch.Generator takes.
Seed = Annotated[int, Within(0, 2**63 - 1)]
"""What torch and Python both draw random numbers from."""
Count = Annotated[int, Within(1, 2**53)]
"""A number of things, at least one."""
Amount = Annotated[int, Within(0, 2**53)]
"""A number of things, or none."""

# Real numbers. NaN is in none of them: it is neither above nor below anything.
Finite = Annotated[float, Satisfies("that is finite", math.isfinite)]
"""A number that can be computed with."""
NotNegative = Annotated[float, Satisfies("from 0, and finite", lambda value: 0 <= value < math.inf)]
"""What something takes: nothing, or a finite number above."""
Positive = Annotated[float, Satisfies("above 0", lambda value: 0 < value < math.inf)]
"""A finite number above zero."""
AboveZero = Annotated[float, Satisfies("above 0", lambda value: value > 0)]
"""A number above zero; infinity is one."""
Fraction = Annotated[float, Within(0, 1)]
"""A part of a whole, from nothing to all of it."""
Share = Annotated[float, Satisfies("above 0 and below 1", lambda value: 0 < value < 1)]
"""A part of a whole, neither nothing nor all of it."""
Probability = Annotated[float, Satisfies("from 0 to below 1", lambda value: 0 <= value < 1)]
"""How often something is left out: never always."""

# What torch has or knows.
Device = Annotated[torch.device | str, Satisfies("that torch can compute on here", _can_compute)]
"""Where to compute."""
TensorDevice = Annotated[torch.device | str, Satisfies("where tensors can lie here", _can_allocate)]
"""Where tensors are to lie; on the meta device they have no values."""
Trainable = Annotated[nn.Module, Satisfies("with parameters", _has_parameters)]
"""What an optimizer can be made for."""
Parameters = Annotated[list[nn.Parameter], Satisfies("that is not empty", bool)]
"""Parameters of an optimizer."""
ScalarLoss = Annotated[Tensor, Satisfies("of one value that has a gradient", _is_loss)]
"""A loss to go down."""
Images = Annotated[Tensor, Satisfies("of floats [batch, channels, height, width]", _are_images)]
"""A batch of images."""

# Texts.
Name = Annotated[str, Satisfies(f"of 1 to {_NAME} characters", _is_name)]
"""What something is called, in files too."""
