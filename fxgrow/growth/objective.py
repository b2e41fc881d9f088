"""The loss on the growth batches, in the one mode that growth knows: evaluation mode, running statistics."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_leaves, tree_structure, tree_unflatten

from fxgrow.capture import positional_inputs
from fxgrow.errors import DataError, GrowthError
from fxgrow.kernel_guard import guard_unsafe_kernel
from fxgrow.modes import evaluation_mode

Batch = tuple[Any, Tensor]
LossFunction = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """``loss(output, target)`` averaged over ``batches`` of (input, target), each weighted by its number of targets.

    ``form``: the structure of the model's own output. A graph gives the same tensors in plain containers; the loss sees
    them as the model would have given them.
    """

    batches: Sequence[Batch]
    loss_fn: LossFunction
    form: TreeSpec | None = None

    @staticmethod
    def of(batches: Iterable[Batch], loss_fn: LossFunction, model: nn.Module) -> "Objective":
        """An input is a tensor, a tuple of the model's arguments, or a mapping of its keyword arguments.

        Raises DataError if there is no batch: growth would have nothing to look at; ModelError
        (``unsafe-convolution``) if gradients cannot be taken on this processor.
        """
        kept = [(_arguments(model, inputs), target) for inputs, target in batches]
        if not kept:
            raise DataError(
                "no-batches", "there are no growth batches; give at least one (input, target)"
            )
        with evaluation_mode(model), torch.no_grad(), guard_unsafe_kernel(model):
            form = tree_structure(model(*kept[0][0]))
        return Objective(kept, loss_fn, form)

    def on(self, module: nn.Module, batch: Batch) -> Tensor:
        """The loss of one batch (differentiable)."""
        inputs, target = batch
        with guard_unsafe_kernel(module) if torch.is_grad_enabled() else nullcontext():
            return self.loss_fn(self._call(module, inputs), target)

    def _call(self, module: nn.Module, inputs: Any) -> Any:
        found = module(*inputs) if isinstance(inputs, tuple) else module(inputs)
        if self.form is None or tree_structure(found) == self.form:
            return found
        return tree_unflatten(tree_leaves(found), self.form)

    @torch.no_grad()
    def mean(self, module: nn.Module) -> float:
        """The mean loss over all batches. Raises GrowthError if it is not a finite number."""
        sizes = [len(target) for _, target in self.batches]
        total = sum(float(self.on(module, b)) * n for b, n in zip(self.batches, sizes, strict=True))
        mean = total / sum(sizes)
        if not -float("inf") < mean < float("inf"):
            raise GrowthError(
                "nan-loss",
                f"the loss on the growth batches is {mean}; train the model or lower its step size first",
            )
        return mean

    @torch.no_grad()
    def output(self, module: nn.Module) -> Any:
        """The output on the first batch."""
        return self._call(module, self.batches[0][0])


def _arguments(model: nn.Module, inputs: Any) -> tuple[Any, ...]:
    return inputs if isinstance(inputs, tuple) else positional_inputs(model, inputs)
