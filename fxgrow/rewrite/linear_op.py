"""Products with weights: how a weight is applied, and several blocks of rows applied as one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fxgrow.errors import InternalError
from fxgrow.sharding import is_gathered_on_use


@dataclass(frozen=True)
class LinearForm:
    """How a weight ``[out, in, ...]`` is applied: ``function(x, weight, bias, *settings, *more)``.

    Args:
        function: a linear function or a convolution.
        settings: its other arguments (stride, padding, ...).
        groups: the groups of a grouped convolution.
        row_dim: the dimension of the output along which the rows come out; None if the weight has
            no rows. Counted from the end it is that of the columns in the input, too.
        additive: the product with a sum of weights is the sum of the products.
    """

    function: Callable[..., Tensor]
    settings: tuple[Any, ...] = ()
    groups: int = 1
    row_dim: int | None = -1
    additive: bool = True

    def by_position(self, value: Tensor) -> Tensor:
        """What is read or given, as ``[positions, channels]``: an image has many, a vector one."""
        dim = self.row_dim
        if dim is None or dim >= 0:
            # Of an equation only the common orders: [batch, channels, ...], or channels last.
            dim = 1 if dim == 1 and value.dim() > 1 else -1
        channels_last = value.detach().movedim(dim, -1)
        positions: Tensor = channels_last.unsqueeze(0).flatten(0, -2)
        return positions

    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, more: Sequence[Any] = ()
    ) -> Tensor:
        return self.function(x, weight, bias, *self.settings, *more)


def swap_axes(weight: Tensor, groups: int) -> Tensor:
    """From ``[groups * a, b, ...]`` to ``[groups * b, a, ...]``; it is its own inverse.

    So a kernel ``[in, out / groups, ...]`` of a transposed convolution becomes one of a plain
    convolution, ``[out, in / groups, ...]``.
    """
    by_group = weight.unflatten(0, (groups, -1))  # [groups, a, b, ...]
    swapped: Tensor = by_group.transpose(1, 2).flatten(0, 1)
    return swapped


@dataclass(frozen=True)
class Parametrization:
    """How a weight or bias is computed, row by row, of parameters with one row per row of it.

    Args:
        module: computes it.
        places: the name in the module of each parameter, and its place in ``LinearOp.names``.
    """

    module: nn.Module
    places: tuple[tuple[str, int], ...]

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        """The weight or bias that these values of the parameters give."""
        values = {name: tensors[place] for name, place in self.places}
        computed: Tensor = functional_call(self.module, values, ())
        return computed


@dataclass(frozen=True)
class LinearOp:
    """A weight and the way it is applied; nodes with equal products share their candidates.

    Args:
        weight: the name of the weight; of a computed one that of the parameter of its shape.
        bias: the name of the bias, if there is one and it is a parameter.
        form: how they are applied.
        rows: the axis of the parameter that writes; None if it has none (a vector that reads).
        columns: the axis of the parameter that reads; None if it has none.
        others: the other parameters, one row per row of the weight, that these are computed of.
        computed_weight: how the weight is computed, if it is no parameter itself.
        computed_bias: the same of the bias.
    """

    weight: str
    bias: str | None
    form: LinearForm
    rows: int | None = 0
    columns: int | None = 1
    others: tuple[str, ...] = ()
    computed_weight: Parametrization | None = None
    computed_bias: Parametrization | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters: the weight, the others, and the bias if there is one."""
        biases = () if self.bias is None else (self.bias,)
        return (self.weight, *self.others, *biases)

    @property
    def is_computed(self) -> bool:
        """Whether the weight or the bias is no parameter itself."""
        return self.computed_weight is not None or self.computed_bias is not None

    @property
    def groups_share_rows(self) -> bool:
        """Whether the parameter is ``[in, out / groups, ...]``: a transposed convolution's."""
        return self.form.groups > 1 and self.rows == 1

    def oriented(self, tensor: Tensor) -> Tensor:
        """From the parameter's layout to ``[out, in / groups, ...]``; missing axes have size 1.

        A bias, one entry per row, is as it was.
        """
        if self._is_bias(tensor) or self._lies_right:
            return tensor
        if self.groups_share_rows:
            return swap_axes(tensor, self.form.groups)
        oriented = tensor.permute(self._order(tensor.dim()))
        if self.rows is None:
            oriented = oriented.unsqueeze(0)
        return oriented.unsqueeze(1) if self.columns is None else oriented

    def restored(self, oriented: Tensor) -> Tensor:
        """The inverse of ``oriented``."""
        if self._is_bias(oriented) or self._lies_right:
            return oriented
        if self.groups_share_rows:
            return swap_axes(oriented, self.form.groups)
        weight = oriented.squeeze(1) if self.columns is None else oriented
        if self.rows is None:
            weight = weight.squeeze(0)
        order = self._order(weight.dim())
        return weight.permute([order.index(axis) for axis in range(weight.dim())])

    @property
    def _lies_right(self) -> bool:
        """Whether the parameter is ``[out, in, ...]`` itself, as most are."""
        return self.rows == 0 and self.columns == 1

    def _is_bias(self, tensor: Tensor) -> bool:
        return tensor.dim() == 1 and self.rows is not None and self.columns is not None

    def _order(self, rank: int) -> list[int]:
        """The axes of the parameter in the order in which they come out."""
        first = [axis for axis in (self.rows, self.columns) if axis is not None]
        return first + [axis for axis in range(rank) if axis not in first]

    def weight_and_bias(self, tensors: Sequence[Tensor]) -> "WeightAndBias":
        """What is applied.

        Args:
            tensors: values of the parameters ``names``, oriented.

        Returns:
            The oriented weight, and the bias if there is one.
        """
        if not self.is_computed:
            return tensors[0], tensors[-1] if self.bias is not None else None
        own = [self.restored(tensor) for tensor in tensors]
        weight = own[0] if self.computed_weight is None else self.computed_weight(own)
        bias = own[-1] if self.bias is not None else None
        if self.computed_bias is not None:
            bias = self.computed_bias(own)
        return self.oriented(weight), bias

    def spread(self, along_axis: Tensor, axis: int) -> Tensor:
        """What belongs to each index of an axis of the parameter, along the oriented weight.

        The groups of a weight that share its rows have columns of their own.

        Args:
            along_axis: one entry per index of the axis, or per new index.
            axis: ``rows`` or ``columns``.

        Returns:
            One entry per row of the oriented weight, or per column.
        """
        if not self.groups_share_rows:
            return along_axis
        if axis == self.rows:
            return along_axis.repeat(self.form.groups)
        return along_axis[: len(along_axis) // self.form.groups]

    def gathered(self, along_weight: Tensor, axis: int) -> Tensor:
        """The inverse of ``spread``."""
        if not self.groups_share_rows:
            return along_weight
        if axis == self.columns:
            return along_weight.repeat(self.form.groups)
        return along_weight[: len(along_weight) // self.form.groups]


WeightAndBias = tuple[Tensor, Tensor | None]


def blockwise_apply(
    form: LinearForm,
    x: Tensor,
    frozen: WeightAndBias,
    blocks: Sequence[WeightAndBias],
    more: Sequence[Any] = (),
) -> list[Tensor]:
    """The products of ``x`` with a frozen block and with each other block, computed as one.

    One large product is faster than several small ones. The rows of a grouped convolution are
    concatenated within each group.

    Args:
        form: how the weights are applied.
        x: the input.
        frozen: a weight and bias that get no gradient.
        blocks: more of them, that do. Either all have a bias or none.
        more: other arguments of the form.

    Shapes:
        Weights are ``[out, in, ...]``; only ``out`` differs between blocks.

    Returns:
        The product with ``frozen`` and with each block.
    """
    if is_gathered_on_use(frozen[0]) and form.row_dim is not None:
        # A larger weight with the frozen rows in it would be kept for the backward pass.
        own = form(x, frozen[0].detach(), None if frozen[1] is None else frozen[1].detach(), more)
        return [own, *(form(x, weight, bias, more) for weight, bias in blocks)]
    weights = [frozen[0].detach()]
    biases = []
    for weight, bias in blocks:
        weights.append(weight)
        if bias is not None:
            biases.append(bias)
    joined_bias = None
    if frozen[1] is not None:
        joined_bias = stack_rows([frozen[1].detach(), *biases], form.groups)
    out = form(x, stack_rows(weights, form.groups), joined_bias, more)
    return split_rows(out, [weight.shape[0] for weight in weights], form)


def stack_rows(rows: Sequence[Tensor], groups: int) -> Tensor:
    """Concatenate blocks of rows along ``out``, group by group."""
    if len(rows) == 1:
        return rows[0]
    if groups == 1:
        return torch.cat(list(rows))
    # [out, ...] -> [groups, out / groups, ...]; a group's rows of all blocks stand side by side.
    by_group = [block.unflatten(0, (groups, -1)) for block in rows]
    return torch.cat(by_group, 1).flatten(0, 1)


def split_rows(out: Tensor, sizes: Sequence[int], form: LinearForm) -> list[Tensor]:
    """Split an output into the outputs of the blocks, which have ``sizes`` rows."""
    if form.row_dim is None:
        return [out]
    if form.groups == 1:
        return list(out.split_with_sizes(list(sizes), form.row_dim))
    # [..., out, *image] -> [..., groups, out / groups, *image]
    dim = form.row_dim
    by_group = out.unflatten(dim, (form.groups, -1))
    group_sizes = [size // form.groups for size in sizes]
    return [part.flatten(dim - 1, dim) for part in by_group.split(group_sizes, dim=dim)]


def join_channels(parts: Sequence[Tensor], form: LinearForm) -> Tensor:
    """Inputs of one product beside each other, as its columns are: group by group."""
    dim = form.row_dim
    if dim is None:
        raise InternalError("a weight without rows has no columns that lie beside each other")
    # [..., in, *image] -> [..., groups, in / groups, *image]
    by_group = [part.unflatten(dim, (form.groups, -1)) for part in parts]
    return torch.cat(by_group, dim).flatten(dim - 1, dim)
