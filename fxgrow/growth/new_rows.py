"""New rows of a table whose rows are no neurons: words of a vocabulary, classes of a head.

Reference: Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021: a new
row that is the mean of the old ones gives its word the mean of all logits, so that the distribution
over the old words hardly moves, where a random row may take most of it. How we differ: nothing is
known by name but where the rows are; what the model gave before is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.argument_types import Within
from fxgrow.errors import BudgetError, GrowthError, ModelError
from fxgrow.growth.invariants import full_precision, require_close
from fxgrow.memory import device_of, require_memory
from fxgrow.running import errors_as
from fxgrow.surgery import (
    NEW_INDEX,
    ConfigUpdate,
    IndexMap,
    Optimizers,
    StateTreatment,
    WithOptimizers,
    model_outputs,
    named_tensors,
    random_entries,
    resize,
)

MAX_ROWS = 2**24
"""New rows of one table."""
_MAP_BYTES = 64
"""What an ``IndexMap`` and the tensors that it is made of take per row."""
NewRows = Annotated[int, Within(1, MAX_ROWS)]
"""How many rows are new."""
HowNewRows = Literal["mean", "new"]
"""What a new row is: the mean of the old ones, or drawn with their spread."""


@dataclass(frozen=True)
class Extended(WithOptimizers):
    """A model with more words, classes or experts.

    Args:
        module: the model, of the same class.
        rows: by the name of each parameter or buffer that got rows, how many it has.
        config: what became of a Hugging Face style config; None if the model has none.
        preservation_error: the largest difference of what the model gave before, on the example
            inputs, relative to the largest output.
        optimizers: those that grew along, in the order in which they were given; ``optimizer`` is
            the one of them.
        example_inputs: the arguments that it was compared on.
        unchecked: what excuses a difference that is more than rounding in the model's own type, ""
            if nothing has to.

    Example:
        >>> longer = fxgrow.grow_vocabulary(model, 16, words)
        >>> longer.rows
        {'embed.weight': 48}
    """

    module: nn.Module
    rows: Mapping[str, int]
    config: ConfigUpdate | None = None
    preservation_error: float = 0.0
    optimizers: Optimizers = ()
    example_inputs: tuple[Any, ...] | None = field(default=None, repr=False)
    unchecked: str = ""


def add_rows(
    model: nn.Module,
    axes: Mapping[str, int],
    count: int,
    how: HowNewRows,
    seed: int,
    optimizers: Sequence[Optimizer],
    treatment: StateTreatment,
) -> None:
    """Give tensors more rows, in place.

    Args:
        model: holds them.
        axes: by the name of each parameter or buffer the axis of its rows; all have equally many.
        count: how many rows more.
        how: what new rows of matrices are; those of vectors (biases) are the mean of the old ones.
        seed: of rows that are drawn.
        optimizers: their state grows along.
        treatment: what becomes of it.

    Raises:
        BudgetError: ``too-large``.
    """
    tensors = named_tensors(model)
    needed = 0  # bytes
    for name, axis in axes.items():
        tensor = tensors[name]
        row = tensor.element_size() * tensor.numel() // max(tensor.shape[axis], 1)
        # Beside the rows there are those that are copied in, and three numbers that map each.
        needed += count * (3 * row + _MAP_BYTES)
    require_memory(needed, "so many rows", "ask for fewer", BudgetError, device_of(model))
    # Rows are drawn with the spread of the old ones, which are among zeros once it is longer.
    before = {name: tensors[name].detach().clone() for name in axes}
    maps = {}
    for name, axis in axes.items():
        maps[name, axis] = _with_new(tensors[name].shape[axis], count)
    resize(model, maps, optimizers, treatment)
    generator = torch.Generator().manual_seed(seed)
    for name, axis in axes.items():
        rows = _new_rows(before[name], axis, count, how, generator)
        with torch.no_grad():
            named_tensors(model)[name].narrow(axis, before[name].shape[axis], count).copy_(rows)


def _with_new(size: int, count: int) -> IndexMap:
    """The old rows, and new ones behind them."""
    old = IndexMap.identity(size)
    source = torch.cat([old.source, torch.full((count,), NEW_INDEX)])
    scale = torch.cat([old.scale, torch.ones(count, dtype=old.scale.dtype)])
    copy = torch.cat([old.copy, torch.arange(count)])
    return IndexMap(source, scale, copy)


def _new_rows(
    old: Tensor, axis: int, count: int, how: HowNewRows, generator: torch.Generator
) -> Tensor:
    if how == "new" and old.dim() > 1:
        return random_entries(old, axis, count, generator)
    # In double precision: the sum of many rows of bfloat16 would lose most of its digits.
    mean = old.double().mean(axis, keepdim=True).to(old.dtype)
    repeats = [1] * old.dim()
    repeats[axis] = count
    return mean.repeat(repeats)


class OldOutputs:
    """What a model gave before it got more rows, to compare with what it gives then.

    Args:
        model: the model before.
        examples: positional arguments.
        size: how many rows there were.
    """

    def __init__(self, model: nn.Module, examples: Sequence[tuple[Any, ...]], size: int) -> None:
        self._examples, self._size = examples, size
        what, advice = f"{type(model).__name__} does not run", "give inputs that its forward takes"
        with errors_as(ModelError, "does-not-run", what, advice):
            self._expected = [self._outputs(model, inputs) for inputs in examples]

    def require(self, model: nn.Module) -> float:
        """Check that all that was there is the same; new logits are left out.

        Args:
            model: the model with more rows.

        Returns:
            The largest relative error.

        Raises:
            GrowthError: ``broken-promise``.
        """
        error = 0.0
        what, advice = "the model with more rows does not run", "nothing was changed; report it"
        for inputs, expected in zip(self._examples, self._expected, strict=True):
            with errors_as(GrowthError, "broken-promise", what, advice):
                outputs = self._outputs(model, inputs)
            # A list of logits of all layers, say, is as long as before.
            if len(outputs) != len(expected):
                raise GrowthError("broken-promise", f"{what} as before; {advice}")
            pairs = zip(outputs, expected, strict=True)
            old = [self._old_part(now, before) for now, before in pairs]
            error = max(error, require_close("the same for all old rows", old, expected))
        return error

    def _outputs(self, model: nn.Module, inputs: tuple[Any, ...]) -> list[Tensor]:
        with full_precision():
            return model_outputs(model, inputs)

    def _old_part(self, now: Tensor, before: Tensor) -> Tensor:
        """What was there before, of a tensor that has a logit for each new row."""
        if now.dim() != before.dim():
            return now
        for axis, (size, old) in enumerate(zip(now.shape, before.shape, strict=True)):
            if size != old == self._size:
                now = now.narrow(axis, 0, old)
        return now
