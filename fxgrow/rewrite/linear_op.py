"""Products with weights: how a weight is applied, and several blocks of rows applied as one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearForm:
    """How a weight ``[out, in, ...]`` is applied: ``function(x, weight, bias, *settings)``.

    Args:
        function: a linear function or a convolution.
        settings: its other arguments (stride, padding, ...).
        groups: the groups of a grouped convolution.
        last: the rows come out along the last dimension, not along dimension 1.
    """

    function: Callable[..., Tensor]
    settings: tuple[Any, ...] = ()
    groups: int = 1
    last: bool = False

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.function(x, weight, bias, *self.settings)


@dataclass(frozen=True)
class LinearOp:
    """A weight and the way it is applied; nodes with equal products share their candidates.

    Args:
        weight: the name of the weight.
        bias: the name of the bias, if there is one.
        form: how they are applied.
        swapped: the parameter is ``[in, out, ...]``, so its rows lie along axis 1.
    """

    weight: str
    bias: str | None
    form: LinearForm
    swapped: bool = False

    @property
    def rows(self) -> int:
        """The axis of the parameter that writes."""
        return int(self.swapped)

    @property
    def columns(self) -> int:
        """The axis of the parameter that reads."""
        return 1 - self.rows

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters: the weight, and the bias if there is one."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def oriented(self, weight: Tensor) -> Tensor:
        """From the parameter's layout to ``[out, in, ...]``, and back."""
        return weight.transpose(0, 1) if self.swapped else weight


WeightAndBias = tuple[Tensor, Tensor | None]


def blockwise_apply(
    form: LinearForm, x: Tensor, frozen: WeightAndBias, blocks: Sequence[WeightAndBias]
) -> list[Tensor]:
    """The products of ``x`` with a frozen block and with each other block, computed as one.

    One large product is faster than several small ones. The rows of a grouped convolution are
    concatenated within each group.

    Args:
        form: how the weights are applied.
        x: the input.
        frozen: a weight and bias that get no gradient.
        blocks: more of them, that do. Either all have a bias or none.

    Shapes:
        Weights are ``[out, in, ...]``; only ``out`` differs between blocks.

    Returns:
        The product with ``frozen`` and with each block.
    """
    weights = [frozen[0].detach()]
    biases = []
    for weight, bias in blocks:
        weights.append(weight)
        if bias is not None:
            biases.append(bias)
    joined_bias = None
    if frozen[1] is not None:
        joined_bias = _stack([frozen[1].detach(), *biases], form.groups)
    out = form(x, _stack(weights, form.groups), joined_bias)
    return _unstack(out, [len(weight) for weight in weights], form)


def _stack(rows: Sequence[Tensor], groups: int) -> Tensor:
    """Concatenate blocks along ``out``, group by group."""
    if groups == 1:
        return torch.cat(list(rows))
    # [out, ...] -> [groups, out / groups, ...]; a group's rows of all blocks stand side by side.
    by_group = [block.unflatten(0, (groups, -1)) for block in rows]
    return torch.cat(by_group, 1).flatten(0, 1)


def _unstack(out: Tensor, sizes: Sequence[int], form: LinearForm) -> list[Tensor]:
    """Split an output into the outputs of the blocks, which have ``sizes`` rows."""
    if form.groups == 1:
        return list(out.split(list(sizes), dim=-1 if form.last else 1))
    # [batch, out, ...] -> [batch, groups, out / groups, ...]
    by_group = out.unflatten(1, (form.groups, -1))
    group_sizes = [size // form.groups for size in sizes]
    return [part.flatten(1, 2) for part in by_group.split(group_sizes, dim=2)]
