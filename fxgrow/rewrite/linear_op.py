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
        row_dim: the dimension of the output along which the rows come out; None if the weight has
            no rows.
    """

    function: Callable[..., Tensor]
    settings: tuple[Any, ...] = ()
    groups: int = 1
    row_dim: int | None = 1

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.function(x, weight, bias, *self.settings)


@dataclass(frozen=True)
class LinearOp:
    """A weight and the way it is applied; nodes with equal products share their candidates.

    Args:
        weight: the name of the weight.
        bias: the name of the bias, if there is one.
        form: how they are applied.
        rows: the axis of the parameter that writes; None if it has none (a vector that reads).
        columns: the axis of the parameter that reads; None if it has none.
    """

    weight: str
    bias: str | None
    form: LinearForm
    rows: int | None = 0
    columns: int | None = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters: the weight, and the bias if there is one."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def oriented(self, weight: Tensor) -> Tensor:
        """From the parameter's layout to ``[out, in, ...]``; an axis that it lacks has size 1."""
        oriented = weight.permute(self._order(weight.dim()))
        if self.rows is None:
            oriented = oriented.unsqueeze(0)
        return oriented.unsqueeze(1) if self.columns is None else oriented

    def restored(self, oriented: Tensor) -> Tensor:
        """Back from ``[out, in, ...]`` to the parameter's layout."""
        weight = oriented.squeeze(1) if self.columns is None else oriented
        if self.rows is None:
            weight = weight.squeeze(0)
        order = self._order(weight.dim())
        return weight.permute([order.index(axis) for axis in range(weight.dim())])

    def _order(self, rank: int) -> list[int]:
        """The axes of the parameter in the order in which they come out."""
        first = [axis for axis in (self.rows, self.columns) if axis is not None]
        return first + [axis for axis in range(rank) if axis not in first]


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
    if form.row_dim is None:
        return [out]
    if form.groups == 1:
        return list(out.split(list(sizes), dim=form.row_dim))
    # [batch, out, ...] -> [batch, groups, out / groups, ...]
    by_group = out.unflatten(1, (form.groups, -1))
    group_sizes = [size // form.groups for size in sizes]
    return [part.flatten(1, 2) for part in by_group.split(group_sizes, dim=2)]
