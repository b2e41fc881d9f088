"""A layer of the over-grown graph: a product with a weight, together with the candidates that touch it.

One layer W with input x (the mean of the two halves of the split neurons that it reads) computes, for its candidates,

    z   = W x + sum_w C_w (eps_new * x_w)    what the base layer says, plus the new neurons x_w of the widths it reads
    z +- eps_split * (D x)                   the two halves of the neurons that it writes (or the first alone)
    R x                                      the new neurons that it writes

with W, D and R in *one* product of concatenated weights (DESIGN section 3). W is frozen: it gets no gradient.
Candidate weights are in units of the layer's own, ``unit_row`` the mean norm of its rows with their biases and
``unit_column`` that of its columns, so that ||delta|| <= 1 and |eps| <= eps mean the same in every layer. They are
``[out, in, ...]`` in whatever layout the parameter is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fxgrow.rewrite.candidates import Slots
from fxgrow.rewrite.linear_op import LinearOp, blockwise_apply

UNIT_SCALE = 3**-0.5
"""The norm of a row as torch draws them, uniform in +-1 / sqrt(fan in): the unit of a layer whose weights are zero."""


class WeightBlock(NamedTuple):
    """Weight and bias of some rows of a layer."""

    weight: Tensor
    bias: Tensor | None


class OvergrownLayer(nn.Module):
    """A product and its candidates; ``split[row]`` is the index of the row's neuron in split_eps, -1 for none.

    ``weight``, ``bias``: the model's own tensors, in the parameter's layout.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        product: LinearOp,
        weight: Tensor,
        bias: Tensor | None,
        split: Tensor | None,
        rows: Sequence[Slots],
        columns: Sequence[Slots],
        halves: bool = True,
    ) -> None:
        super().__init__()
        self.halves = halves
        self.product, self.rows, self.columns = product, tuple(rows), tuple(columns)
        self.read = [
            slots.candidate.to(weight.device) for slots in columns
        ]  # once: every pass reads them
        self.weight, self.bias = weight, bias
        base = self.base().weight.detach()
        theta = [
            tensor.detach().reshape(len(base), -1) for tensor in self.base() if tensor is not None
        ]
        self.unit_row = float(torch.cat(theta, 1).norm(dim=1).mean()) or UNIT_SCALE
        self.unit_column = float(base.transpose(0, 1).flatten(1).norm(dim=1).mean()) or UNIT_SCALE
        self.register_buffer(
            "split", split if split is None else split.to(weight.device), persistent=False
        )
        self.delta = self._zeros(len(base)) if split is not None else None
        count = sum(len(slots.candidate) for slots in rows)
        self.new = self._zeros(count) if count else None
        self.outgoing = nn.ParameterList(
            base.new_zeros((base.shape[0], len(slots.candidate), *base.shape[2:]))
            for slots in columns
        )

    def base(self) -> WeightBlock:
        """The weight, ``[out, in, ...]``, and bias of the layer without candidates."""
        return WeightBlock(self.product.oriented(self.weight), self.bias)

    def _zeros(self, count: int) -> nn.ParameterList:
        """Zeros for ``count`` rows like those of the layer: a weight, and a bias if it has one."""
        return nn.ParameterList(
            tensor.new_zeros((count, *tensor.shape[1:]))
            for tensor in self.base()
            if tensor is not None
        )

    def perturbation(self, split_eps: Tensor) -> WeightBlock | None:
        """eps_i delta_i of every row, in the units of the weight; zero where the row is no candidate."""
        if self.delta is None:
            return None
        index: Tensor = self.split  # type: ignore[assignment]
        eps = torch.where(index >= 0, split_eps[index.clamp(min=0)], 0.0) * self.unit_row
        return WeightBlock(
            *(_times(tensor, eps, 0) for tensor in self.delta), *[None] * (2 - len(self.delta))
        )

    def incoming(self) -> WeightBlock | None:
        """The rows of all new neurons, in the units of the weight."""
        if self.new is None:
            return None
        return WeightBlock(
            *(tensor * self.unit_row for tensor in self.new), *[None] * (2 - len(self.new))
        )

    def incoming_of(self, number: int) -> list[Tensor]:
        """The rows (weight, and bias if there is one) of the new neurons of ``rows[number]``."""
        sizes = [len(slots.candidate) for slots in self.rows]
        return [
            tensor.split(sizes)[number] for tensor in self.incoming() or () if tensor is not None
        ]

    def columns_of(self, number: int, new_eps: Tensor) -> Tensor:
        """eps_j times the outgoing weights of the new neurons of ``columns[number]``."""
        return _times(self.outgoing[number], new_eps[self.read[number]] * self.unit_column, 1)

    def forward(
        self,
        plus: Tensor,
        minus: Tensor | None,
        lanes: Sequence[Tensor],
        split_eps: Tensor,
        new_eps: Tensor,
    ) -> list[Tensor]:
        """``[z]``, ``[z + dz, z - dz]`` or, without halves, ``[z + dz]``; then the new neurons of each of ``rows``."""
        x = plus if minus is None else (plus + minus) / 2
        added = [block for block in (self.perturbation(split_eps), self.incoming()) if block]
        form = self.product.form
        z, *parts = blockwise_apply(form, x, self.base(), added)
        for number, lane in enumerate(lanes):
            z = z + form(lane, self.columns_of(number, new_eps), None)
        out = [z.clone()]  # clones, not views of one product: what follows may work in place
        if self.delta is not None:
            dz = parts.pop(0)
            out = [z + dz, z - dz] if self.halves else [z + dz]
        if self.rows:
            sizes = [len(slots.candidate) for slots in self.rows]
            out += [lane.clone() for lane in parts[0].split(sizes, dim=-1 if form.last else 1)]
        return out


def _times(tensor: Tensor, factors: Tensor, axis: int) -> Tensor:
    shape = [1] * tensor.dim()
    shape[axis] = -1
    return tensor * factors.reshape(shape)
