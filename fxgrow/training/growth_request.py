"""What the growth steps of a run have in common: what is asked for, and the batches they see."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fxgrow.data import Batches, DataSet, batches
from fxgrow.growth import Budget, Method, Scope
from fxgrow.training.settings import RunSettings


@dataclass(frozen=True, eq=False)
class GrowthRequest:
    """What the growth steps of a run have in common.

    Args:
        example_inputs: arguments of the model.
        method: chooses what grows.
        budget: how much a growth step may add.
        scope: which widths may grow.
    """

    example_inputs: tuple[Any, ...]
    method: Method
    budget: Budget
    scope: Scope

    @property
    def examples(self) -> int:
        """How many examples the example inputs are."""
        return count_examples(self.example_inputs)


def count_examples(batch: Any) -> int:
    """How many examples a batch is, by the first tensor in it that has an axis; 1 at least."""
    for leaf in tree_leaves(batch):
        if isinstance(leaf, Tensor) and leaf.dim():
            return max(len(leaf), 1)
    return 1


def growth_batches(settings: RunSettings, data: DataSet, generator: torch.Generator) -> Batches:
    """Training images in an order of their own, never more per batch than there are.

    Args:
        settings: of the run.
        data: the training images.
        generator: draws the order.
    """
    return batches(
        data,
        min(settings.growth_batch_size, len(data)),
        shuffle=True,
        generator=generator,
        limit=settings.growth_batches,
        drop_last=True,
    )
