"""Stream neurons as candidates of ``grow``: scored and bought beside those of all other widths."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.errors import GrowthError
from fxgrow.growth import regrow
from fxgrow.methods import (
    Firefly,
    GradientPool,
    GradMax,
    RandomGrowth,
    Splitting,
    ZeroOutgoing,
)
from tests.growth.streams import (
    NORMS,
    SIZE,
    WORDS,
    Depthwise,
    PostNorm,
    Scaled,
    Stream,
    TwoKinds,
    error,
    made,
    words,
)

FIREFLY = Firefly(new=6, steps=4, refine_steps=2, points=1)


def batches(count: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Words, and the words before them."""
    return [(words(seed, 4), words(seed, 4).roll(1, 1)) for seed in range(count)]


def loss(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())


def grown(model: nn.Module, method: Any = FIREFLY, neurons: int = 4, **options: Any) -> Any:
    options = {"only": ["words"], **options}
    budget = fxgrow.Budget(neurons=neurons)
    with pytest.warns() if False else torch.no_grad.__class__():  # placeholder
        pass
    return fxgrow.grow(model, batches(), loss, method=method, budget=budget, **options)
