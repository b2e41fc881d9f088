"""What a growth batch is: an input and a target, or anything that a ``BatchLoss`` understands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from fxgrow.argument_checks import checked_class
from fxgrow.capture import bind_call
from fxgrow.errors import DataError, GrowthError
from fxgrow.running import errors_as


@checked_class
@dataclass(frozen=True)
class BatchLoss:
    """A loss that calls the model itself, for batches that are no (input, target) pairs.

    Args:
        fn: ``fn(model, batch)`` gives a tensor: the loss, or one per example, whose mean is taken.
            It is called with the model and with its over-grown graph, each of which takes the
            arguments of the model's ``forward``; it may call it several times.

    Example:
        >>> def loss(model, batch):
        ...     return nn.functional.cross_entropy(model(batch["images"]), batch["labels"])
        >>> growth = fxgrow.grow(model, batches, fxgrow.BatchLoss(loss))
    """

    fn: Callable[[Any, Any], Tensor]

    def __call__(self, model: Any, batch: Any) -> Tensor:
        return self.fn(model, batch)


@dataclass(frozen=True, eq=False)
class ModelCalls:
    """The calls of the model that the loss of one batch makes.

    Args:
        model: the model whose ``forward`` says which arguments have which names.
        arguments: of every call, its positional arguments.
    """

    model: nn.Module
    arguments: tuple[tuple[Any, ...], ...]


class CalledModel:
    """What a ``BatchLoss`` gets for the model: it takes the same arguments, and has its attributes.

    Args:
        module: the model or a graph of it.
        model: the model whose ``forward`` names the arguments.
        call: calls ``module`` on positional arguments.
    """

    def __init__(
        self,
        module: nn.Module,
        model: nn.Module,
        call: Callable[[nn.Module, tuple[Any, ...]], Any],
    ) -> None:
        self._module, self._model, self._call = module, model, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(self._module, bind_call(self._model, args, kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def record_calls(model: nn.Module, loss_fn: BatchLoss, batch: Any) -> ModelCalls:
    """Find what a loss feeds to the model.

    Args:
        model: is run on the batch.
        loss_fn: the loss.
        batch: a growth batch.

    Returns:
        At least one call.

    Raises:
        DataError: ``bad-batch`` if the loss does not call the model.
        GrowthError: ``bad-loss`` if it raises an error.
    """
    # The model's own code runs: what it is called with is what the graph will be fed.
    calls: list[tuple[Any, ...]] = []

    def recorded(module: nn.Module, arguments: tuple[Any, ...]) -> Any:
        calls.append(detached(arguments))
        return module(*arguments)

    what = "the loss of a growth batch cannot be computed"
    with errors_as(GrowthError, "bad-loss", what, "give batches and a loss that fit the model"):
        loss_fn.fn(CalledModel(model, model, recorded), batch)
    if not calls:
        raise DataError(
            "bad-batch",
            f"the BatchLoss does not call the {type(model).__name__} that it is given, so there is "
            "nothing to grow it by; call its first argument on what the batch holds",
        )
    return ModelCalls(model, tuple(calls))


def detached(values: Any) -> Any:
    """The same values, nested alike, every tensor without its history."""
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, values)


def input_and_target(batch: Any) -> tuple[Any, Any]:
    """The two parts of a batch.

    Args:
        batch: a tuple or list of an input and a target of any kind.

    Returns:
        The input and the target.

    Raises:
        DataError: ``bad-batch`` for anything else.
    """
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    kind = type(batch).__name__
    if isinstance(batch, (tuple, list)):
        kind = f"{kind} of {len(batch)}"
    raise DataError(
        "bad-batch",
        f"a growth batch is a {kind}, not an (input, target) pair; give pairs (several arguments "
        "or targets go into a tuple), or wrap a loss of the model and the whole batch: "
        "fxgrow.BatchLoss(lambda model, batch: ...)",
    )


def num_examples(content: Any) -> int:
    """The number of examples in a target, an input or a whole batch.

    Args:
        content: its first tensor with a dimension says it; a list of things that are no tensors
            has one per example.

    Returns:
        The number; 0 if nothing says it.
    """
    if isinstance(content, Tensor):
        return len(content) if content.dim() else 0
    values = list(content.values()) if isinstance(content, Mapping) else content
    if not isinstance(values, (tuple, list)):
        return 0
    if isinstance(content, list) and not any(isinstance(value, Tensor) for value in values):
        return len(values)
    for value in values:
        count = num_examples(value)
        if count:
            return count
    return 0


def outside_inference(content: Any) -> Any:
    """The same batch, its tensors of ``torch.inference_mode`` as ordinary ones."""

    def ordinary(value: Any) -> Any:
        # Autograd does not take tensors that were made in inference mode.
        if isinstance(value, Tensor) and value.is_inference():
            with torch.inference_mode(mode=False):
                return value.clone()
        return value

    return tree_map(ordinary, content)
