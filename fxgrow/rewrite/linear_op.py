"""Products with weights: how one is applied, and one product for several blocks of rows, the first of them frozen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearForm:
    """How a weight ``[out, in, ...]`` is applied: ``function(x, weight, bias, *settings)``.

    ``last``: the rows come out along the last dimension, not along dimension 1. ``groups``: of a grouped convolution.
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

    ``swapped``: the parameter is ``[in, out, ...]``, so its rows lie along axis 1.
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
    """The products of ``x`` with the frozen block and with each other block, computed as one.

    The rows of a grouped convolution are concatenated within each group.
    """
    weight = _stack([frozen[0].detach(), *(block[0] for block in blocks)], form.groups)
    bias = None
    if frozen[1] is not None:
        bias = _stack([frozen[1].detach(), *(b for _, b in blocks if b is not None)], form.groups)
    return _unstack(
        form(x, weight, bias), [len(frozen[0]), *(len(block[0]) for block in blocks)], form
    )


def _stack(rows: Sequence[Tensor], groups: int) -> Tensor:
    if groups == 1:
        return torch.cat(list(rows))
    return torch.cat([r.unflatten(0, (groups, -1)) for r in rows], 1).flatten(0, 1)


def _unstack(out: Tensor, sizes: Sequence[int], form: LinearForm) -> list[Tensor]:
    if form.groups == 1:
        return list(out.split(list(sizes), dim=-1 if form.last else 1))
    parts = out.unflatten(1, (form.groups, -1)).split(
        [size // form.groups for size in sizes], dim=2
    )
    return [part.flatten(1, 2) for part in parts]
