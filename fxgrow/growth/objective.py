"""The loss on the growth batches, in evaluation mode (running statistics, no dropout)."""

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
"""An input (a tensor, a tuple of arguments or a dict of keyword arguments) and its target."""

LossFunction = Callable[[Any, Tensor], Tensor]
"""``loss_fn(output, target)`` gives a scalar tensor."""


@dataclass(frozen=True)
class Objective:
    """The mean of ``loss_fn(output, target)``, each batch weighted by its number of targets.

    Args:
        batches: (input, target) pairs; the inputs are tuples of positional arguments.
        loss_fn: gives a scalar tensor.
        form: the structure of the model's own output. A graph gives the same tensors in plain
            containers; the loss sees them as the model would have given them.
    """

    batches: Sequence[Batch]
    loss_fn: LossFunction
    form: TreeSpec | None = None

    @staticmethod
    def of(batches: Iterable[Batch], loss_fn: LossFunction, model: nn.Module) -> "Objective":
        """Make the objective of a model.

        Args:
            batches: each input is a tensor, a tuple of the model's arguments, or a mapping of its
                keyword arguments.
            loss_fn: gives a scalar tensor.
            model: is run once on the first batch.

        Returns:
            The objective.

        Raises:
            DataError: ``no-batches``.
            ModelError: ``unsafe-convolution``, see ``kernel_guard``.
        """
        positional: list[Batch] = []
        for inputs, target in batches:
            positional.append((_arguments(model, inputs), target))
        if not positional:
            raise DataError(
                "no-batches", "there are no growth batches; give at least one (input, target)"
            )
        with evaluation_mode(model), torch.no_grad(), guard_unsafe_kernel(model):
            form = tree_structure(model(*positional[0][0]))
        return Objective(positional, loss_fn, form)

    def on(self, module: nn.Module, batch: Batch) -> Tensor:
        """The loss of one batch (differentiable)."""
        inputs, target = batch
        with guard_unsafe_kernel(module) if torch.is_grad_enabled() else nullcontext():
            return self.loss_fn(self._call(module, inputs), target)

    def _call(self, module: nn.Module, inputs: Any) -> Any:
        output = module(*inputs) if isinstance(inputs, tuple) else module(inputs)
        if self.form is None or tree_structure(output) == self.form:
            return output
        return tree_unflatten(tree_leaves(output), self.form)

    @torch.no_grad()
    def mean(self, module: nn.Module) -> float:
        """The mean loss over all batches.

        Raises:
            GrowthError: ``nan-loss``, if it is not a finite number.
        """
        total: float = 0
        count = 0
        for batch in self.batches:
            size = len(batch[1])
            total += float(self.on(module, batch)) * size
            count += size
        mean = total / count
        if not -float("inf") < mean < float("inf"):
            raise GrowthError(
                "nan-loss",
                f"the loss on the growth batches is {mean}; train the model or lower its step "
                "size first",
            )
        return mean

    @torch.no_grad()
    def output(self, module: nn.Module) -> Any:
        """The output on the first batch."""
        return self._call(module, self.batches[0][0])


def _arguments(model: nn.Module, inputs: Any) -> tuple[Any, ...]:
    return inputs if isinstance(inputs, tuple) else positional_inputs(model, inputs)
