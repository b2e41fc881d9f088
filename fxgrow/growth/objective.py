"""The loss on the growth batches, in evaluation mode (running statistics, no dropout)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_leaves, tree_structure, tree_unflatten

from fxgrow.capture import output_leaves, positional_inputs, preserve_attributes
from fxgrow.errors import DataError, GrowthError, ModelError
from fxgrow.growth.batches import (
    BatchLoss,
    CalledModel,
    ModelCalls,
    detached,
    input_and_target,
    num_examples,
    outside_inference,
    record_calls,
)
from fxgrow.kernel_guard import guard_unsafe_kernel, has_unsafe_kernel
from fxgrow.modes import evaluation_mode, frozen_parameters
from fxgrow.randomness import seeded
from fxgrow.ranks import ALONE, Ranks
from fxgrow.running import errors_as
from fxgrow.sharding import is_gathered_on_use, sharing_ranks

Batch = tuple[Any, Any]
"""An input (a tensor, a tuple of arguments or a dict of keyword arguments) and its target."""

LossFunction = Callable[[Any, Any], Tensor]
_SEED = 0
"""Of what a model draws while it is evaluated."""

_FITTING = "give batches and a loss that fit the model, on one device"
"""``loss_fn(output, target)`` gives a tensor: the loss, or one per example, whose mean is taken."""


def _count_nothing(step: int, steps: int) -> None:
    """Ignore a step."""


@dataclass(frozen=True)
class Objective:
    """The mean of ``loss_fn(output, target)``, each batch weighted by its number of examples.

    Args:
        batches: (input, target) pairs; the inputs are tuples of positional arguments. With a
            ``BatchLoss`` they are (``ModelCalls``, batch) pairs.
        loss_fn: the loss.
        form: the structure of the model's own output. A graph gives the same tensors in plain
            containers; the loss sees them as the model would have given them.
        autocast: the dtype that ``on`` computes in, where that is not the model's own.
        scoring_batches: those that candidates are scored on; none: the same as ``batches``.
        held_out_batches: those that nothing is decided by; none: the same as ``scoring_batches``.
        on_step: a method that works in steps calls it with the number of each, from 1, and how many
            there are, so that whoever waits can see how far it is.
        ranks: the processes whose batches count, each of which has its own.
    """

    batches: Sequence[Batch]
    loss_fn: LossFunction
    form: TreeSpec | None = None
    autocast: torch.dtype | None = None
    scoring_batches: Sequence[Batch] = ()
    held_out_batches: Sequence[Batch] = ()
    on_step: Callable[[int, int], None] = _count_nothing
    ranks: Ranks = ALONE

    @staticmethod
    def of(
        batches: Iterable[Any], loss_fn: LossFunction, model: nn.Module, ranks: Ranks = ALONE
    ) -> "Objective":
        """Make the objective of a model.

        Args:
            batches: (input, target) pairs, each input a tensor, a tuple of the model's arguments,
                or a mapping of its keyword arguments; with a ``BatchLoss``, anything.
            loss_fn: the loss.
            model: is run once on the first batch.
            ranks: the processes whose batches count.

        Returns:
            The objective.

        Raises:
            DataError: ``no-batches``; ``bad-batch`` for a batch that is no such pair, a
                ``BatchLoss`` that does not call the model, or calls with different numbers of
                arguments.
            ModelError: ``does-not-run``; ``unsafe-convolution``, see ``kernel_guard``.
        """
        pairs: list[Batch] = []
        with evaluation_mode(model), _evaluation(model):
            for batch in batches:
                whole = outside_inference(batch)
                if isinstance(loss_fn, BatchLoss):
                    pairs.append((record_calls(model, loss_fn, whole), whole))
                else:
                    inputs, target = input_and_target(whole)
                    pairs.append((_arguments(model, inputs), target))
            if not pairs:
                raise DataError(
                    "no-batches", "there are no growth batches; give at least one (input, target)"
                )
            # The graph has one signature: all calls must fit it.
            objective = Objective(pairs, loss_fn)
            objective._require_equal_calls()
            what = f"{type(model).__name__} does not run on a growth batch"
            with guard_unsafe_kernel(model), errors_as(ModelError, "does-not-run", what, _FITTING):
                output = model(*objective.first_inputs)
        return Objective(pairs, loss_fn, tree_structure(output), ranks=ranks)

    def for_outputs_of(self, model: nn.Module) -> "Objective":
        """The same for a model whose output has another structure (a cache with more blocks)."""
        with evaluation_mode(model), _evaluation(model):
            return replace(self, form=tree_structure(model(*self.first_inputs)))

    @property
    def scoring(self) -> "Objective":
        """The objective on the batches that candidates are scored on."""
        return replace(self, batches=self.scoring_batches or self.batches)

    @property
    def held_out(self) -> "Objective":
        """The objective on the batches that nothing is decided by."""
        return replace(self, batches=self.held_out_batches or self.scoring.batches)

    @property
    def decisive_batches(self) -> list[Batch]:
        """All batches that the search computes gradients on."""
        shared = not self.scoring_batches or self.scoring_batches[0] is self.batches[0]
        return list(self.batches) if shared else [*self.batches, *self.scoring_batches]

    @property
    def first_inputs(self) -> tuple[Any, ...]:
        """The positional arguments of the model's first call."""
        return self.inputs(self.batches[0])[0]

    def inputs(self, batch: Batch) -> Sequence[tuple[Any, ...]]:
        """The positional arguments of each call of the model that the loss of a batch needs."""
        inputs = batch[0]
        if isinstance(inputs, ModelCalls):
            return inputs.arguments
        return (inputs if isinstance(inputs, tuple) else (inputs,),)

    def _require_equal_calls(self) -> None:
        counts = set()
        for batch in self.batches:
            for arguments in self.inputs(batch):
                counts.add(len(arguments))
        if len(counts) > 1:
            raise DataError(
                "bad-batch",
                f"the model is called with {' and '.join(map(str, sorted(counts)))} arguments, but "
                "its graph takes one number of them; give all arguments in every call",
            )

    @property
    def sizes(self) -> list[int]:
        """How many examples each batch has: its weight."""
        sizes = []
        for inputs, target in self.batches:
            content = None if isinstance(inputs, ModelCalls) else inputs
            sizes.append(num_examples(target) or num_examples(content) or 1)
        return sizes

    def on(self, module: nn.Module, batch: Batch) -> Tensor:
        """The loss of one batch (differentiable); the mean if the loss gives one per example.

        Raises:
            GrowthError: ``bad-loss``, if it cannot be computed or is no tensor of real numbers.
        """
        inputs, target = batch
        device = self._device(batch) if self.autocast else ""
        what = "the loss of a growth batch cannot be computed"
        with (
            torch.autocast(device, self.autocast) if self.autocast else nullcontext(),
            errors_as(GrowthError, "bad-loss", what, _FITTING),
        ):
            if isinstance(self.loss_fn, BatchLoss):
                loss = self.loss_fn.fn(CalledModel(module, inputs.model, self._call), target)
            else:
                loss = self.loss_fn(self._call(module, inputs), target)
        return _mean_loss(loss)

    def _device(self, batch: Batch) -> str:
        for leaf in tree_leaves((self.inputs(batch), batch[1])):
            if isinstance(leaf, Tensor):
                return leaf.device.type
        return "cpu"

    def _call(self, module: nn.Module, inputs: Any) -> Any:
        output = module(*inputs) if isinstance(inputs, tuple) else module(inputs)
        # A graph gives plain containers; the loss knows the model's own.
        if self.form is None or tree_structure(output) == self.form:
            return output
        return tree_unflatten(tree_leaves(output), self.form)

    def mean(self, module: nn.Module) -> float:
        """The mean loss over all batches.

        Raises:
            GrowthError: ``nan-loss``, if it is not a finite number.
        """
        mean = self.mean_or_nan(module)
        if not -float("inf") < mean < float("inf"):
            raise GrowthError(
                "nan-loss",
                f"the loss on the growth batches is {mean}; train the model or lower its step "
                "size first",
            )
        return mean

    def mean_or_nan(self, module: nn.Module) -> float:
        """The mean loss over all batches, whether it is a finite number or not."""
        total: float = 0
        sizes = self.sizes
        with _evaluation(module):
            for batch, size in zip(self.batches, sizes, strict=True):
                total += float(self.on(module, batch).detach()) * size
        return self.ranks.total(total) / self.ranks.total(sum(sizes))

    def require_safe_kernels(self, module: nn.Module) -> None:
        """Check once what ``kernel_guard`` would else check in every pass: shapes stay the same.

        Args:
            module: is run on one batch of each shape, on processors with the fault.

        Raises:
            ModelError: ``unsafe-convolution``.
        """
        if has_unsafe_kernel():
            batches = {self._shapes(batch): batch for batch in self.decisive_batches}.values()
            is_alone = sharing_ranks(module).count == 1  # else all run it equally often
            # The parameters ask for gradients as in a step: frozen ones are no danger.
            with guard_unsafe_kernel(module), preserve_attributes(module), torch.enable_grad():
                for batch in batches if is_alone else self.decisive_batches:
                    self.on(module, batch)

    def _shapes(self, batch: Batch) -> tuple[Any, ...]:
        """What decides which kernels a batch meets: the shapes and strides of its inputs."""
        tensors = [x for x in tree_leaves(self.inputs(batch)) if isinstance(x, Tensor)]
        if any(x.is_nested or x.layout is not torch.strided for x in tensors):
            return (id(batch),)  # such a tensor has no one shape or no strides
        return tuple((x.shape, x.stride()) for x in tensors)

    def output(self, module: nn.Module) -> list[Any]:
        """The leaves of the output of the first call of the model."""
        with _evaluation(module):
            leaves: list[Any] = output_leaves(self._call(module, self.first_inputs), module)
        return [detached(leaf) for leaf in leaves]

    def require_gradient(self, model: nn.Module) -> None:
        """Check that the loss can be descended on.

        Args:
            model: is run on the first batch.

        Raises:
            GrowthError: ``no-gradient``, if no parameter of the model has a gradient.
            ModelError: ``unsafe-convolution``.
        """
        with (
            evaluation_mode(model),
            frozen_parameters(model, except_for=_differentiable(model)),
            preserve_attributes(model),
            torch.enable_grad(),
        ):
            with guard_unsafe_kernel(model):
                loss = self.on(model, self.batches[0])
            learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
            if learning and loss.requires_grad and _reaches_any(loss, learning):
                return
        raise GrowthError(
            "no-gradient",
            f"the loss has no gradient with respect to {type(model).__name__}, so no candidate can "
            "be scored; give a differentiable loss (an accuracy, argmax or detach() is none)",
        )


def _reaches_any(loss: Tensor, learning: Sequence[nn.Parameter]) -> bool:
    """Whether a loss has a gradient with respect to any of some parameters."""
    if not any(map(is_gathered_on_use, learning)):
        gradients = gradients_of(loss, learning, allow_unused=True)
        return any(gradient is not None for gradient in gradients)
    reached = []

    def let_go(parameter: Tensor) -> None:
        reached.append(parameter.grad is not None)
        parameter.grad = None

    # The gradients of a model whose weights are sharded may not fit beside each other.
    handles = [one.register_post_accumulate_grad_hook(let_go) for one in learning]
    what = "the loss of a growth batch cannot be differentiated"
    try:
        with errors_as(GrowthError, "bad-loss", what, _FITTING):
            loss.backward(inputs=list(learning))
    finally:
        for handle in handles:
            handle.remove()
    return any(reached)


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    """Evaluate a loss that may itself differentiate (by its inputs), and leave nothing behind.

    No parameter asks for a gradient, so that a loss which does not differentiate keeps nothing.
    A model that draws numbers in evaluation mode (which patches of an image it takes) draws the
    same ones at every call: two of them are compared by what they compute.
    """
    with (
        frozen_parameters(module),
        preserve_attributes(module),
        seeded(_SEED),
        torch.enable_grad(),
    ):
        yield


def _differentiable(model: nn.Module) -> list[str]:
    names = []
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            names.append(name)
    return names


def gradients_of(
    loss: Tensor,
    learning: Sequence[Tensor],
    allow_unused: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of a growth batch's loss, as ``torch.autograd.grad`` gives them.

    Args:
        loss: the loss.
        learning: what it is differentiated by.
        allow_unused: what the loss does not depend on has None for a gradient, and is no error.
        materialize_grads: it has zeros instead.

    Returns:
        One gradient for each of ``learning``; None where the loss does not depend on it.

    Raises:
        GrowthError: ``bad-loss``, if the backward pass of the model or the loss raises an error.
    """
    what = "the loss of a growth batch cannot be differentiated"
    with errors_as(GrowthError, "bad-loss", what, _FITTING):
        return torch.autograd.grad(
            loss, learning, allow_unused=allow_unused, materialize_grads=materialize_grads
        )


def _mean_loss(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or not loss.numel() or loss.is_complex():
        kind = f"{loss.dtype} of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
        raise GrowthError(
            "bad-loss",
            f"the loss gives a {kind or type(loss).__name__}, which cannot be lowered; give a "
            "tensor with one real number, or one per example",
        )
    if loss.dim() == 0:
        return loss
    return (loss if loss.is_floating_point() else loss.float()).mean()


def _arguments(model: nn.Module, inputs: Any) -> tuple[Any, ...]:
    if isinstance(inputs, Mapping):
        return positional_inputs(model, inputs)
    return inputs if isinstance(inputs, tuple) else positional_inputs(model, inputs)
