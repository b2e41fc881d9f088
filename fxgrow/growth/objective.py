"""The loss on the growth batches, in the one mode that growth knows: evaluation mode, running statistics."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.errors import DataError, GrowthError

Batch = tuple[Any, Tensor]
Loss = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """``loss(output, target)`` averaged over ``batches`` of (input, target), each weighted by its number of targets."""

    batches: Sequence[Batch]
    loss: Loss

    @staticmethod
    def of(batches: Iterable[Batch], loss: Loss) -> "Objective":
        """Raises DataError if there is no batch: growth would have nothing to look at."""
        kept = list(batches)
        if not kept:
            raise DataError("no-batches", "there are no growth batches; give at least one (input, target)")
        return Objective(kept, loss)

    def on(self, module: nn.Module, batch: Batch) -> Tensor:
        """The loss of one batch (differentiable)."""
        inputs, target = batch
        return self.loss(module(*inputs) if isinstance(inputs, tuple) else module(inputs), target)

    @torch.no_grad()
    def mean(self, module: nn.Module) -> float:
        """The mean loss over all batches. Raises GrowthError if it is not a finite number."""
        sizes = [len(target) for _, target in self.batches]
        total = sum(float(self.on(module, b)) * n for b, n in zip(self.batches, sizes, strict=True))
        mean = total / sum(sizes)
        if not -float("inf") < mean < float("inf"):
            raise GrowthError(
                "nan-loss", f"the loss on the growth batches is {mean}; train the model or lower its step size first"
            )
        return mean

    @torch.no_grad()
    def output(self, module: nn.Module) -> Any:
        """The output on the first batch."""
        inputs, _ = self.batches[0]
        return module(*inputs) if isinstance(inputs, tuple) else module(inputs)
