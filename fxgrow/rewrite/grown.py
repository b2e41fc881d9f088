"""A layer of the over-grown graph: a convolution or linear layer together with the candidates that touch it.

One layer W with input x (the mean of the two halves of the split neurons that it reads) computes, for its candidates,

    z   = W x + sum_w C_w (eps_new * x_w)    what the base layer says, plus the new neurons x_w of the widths it reads
    z +- eps_split * (D x)                   the two halves of the neurons that it writes
    R x                                      the new neurons that it writes

with W, D and R in *one* product of concatenated weights (DESIGN section 3). W is frozen: it gets no gradient.
Candidate weights are in units of the layer's own, ``unit_row`` the mean norm of its rows and ``unit_column`` that of
its columns, so that ||delta|| <= 1 and |eps| <= eps mean the same in every layer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fxgrow.rewrite.candidates import Slots
from fxgrow.rewrite.product import PRODUCTS, block_product


class Block(NamedTuple):
    """Weight and bias of some rows of a layer."""

    weight: Tensor
    bias: Tensor | None


class GrownLayer(nn.Module):
    """``base`` and its candidates; ``split[row]`` is the index of the row's neuron in split_eps, -1 for none."""

    def __init__(self, base: nn.Module, split: Tensor | None, rows: Sequence[Slots], columns: Sequence[Slots]) -> None:
        super().__init__()
        layer = base_block(base)
        weight = layer.weight
        self.base, self.rows, self.columns = base, tuple(rows), tuple(columns)
        self.unit_row = float(weight.detach().flatten(1).norm(dim=1).mean())
        self.unit_column = float(weight.detach().transpose(0, 1).flatten(1).norm(dim=1).mean())
        self.register_buffer("split", split, persistent=False)
        self.delta = _parameters(layer, len(weight)) if split is not None else None
        count = sum(len(slots.candidate) for slots in rows)
        self.fresh = _parameters(layer, count) if count else None
        self.outgoing = nn.ParameterList(
            weight.new_zeros((weight.shape[0], len(slots.candidate), *weight.shape[2:])) for slots in columns
        )

    def perturbation(self, split_eps: Tensor) -> Block | None:
        """eps_i delta_i of every row, in the units of the weight; zero where the row is no candidate."""
        if self.delta is None:
            return None
        index: Tensor = self.split  # type: ignore[assignment]
        eps = torch.where(index >= 0, split_eps[index.clamp(min=0)], 0.0) * self.unit_row
        return Block(*(_times(tensor, eps, 0) for tensor in self.delta), *[None] * (2 - len(self.delta)))

    def incoming(self) -> Block | None:
        """The rows of all new neurons, in the units of the weight."""
        if self.fresh is None:
            return None
        return Block(*(tensor * self.unit_row for tensor in self.fresh), *[None] * (2 - len(self.fresh)))

    def incoming_of(self, number: int) -> list[Tensor]:
        """The rows (weight, and bias if there is one) of the new neurons of ``rows[number]``."""
        sizes = [len(slots.candidate) for slots in self.rows]
        return [tensor.split(sizes)[number] for tensor in self.incoming() or () if tensor is not None]

    def columns_of(self, number: int, new_eps: Tensor) -> Tensor:
        """eps_j times the outgoing weights of the new neurons of ``columns[number]``."""
        return _times(self.outgoing[number], new_eps[self.columns[number].candidate] * self.unit_column, 1)

    def forward(
        self, plus: Tensor, minus: Tensor | None, lanes: Sequence[Tensor], split_eps: Tensor, new_eps: Tensor
    ) -> list[Tensor]:
        """``[z]`` or ``[z + dz, z - dz]``, followed by the new neurons of each width in ``rows``."""
        x = plus if minus is None else (plus + minus) / 2
        added = [block for block in (self.perturbation(split_eps), self.incoming()) if block]
        z, *parts = block_product(self.base, x, base_block(self.base), added)
        for number, lane in enumerate(lanes):
            z = z + PRODUCTS[type(self.base)](self.base, lane, self.columns_of(number, new_eps), None)
        out = [z.clone()]  # clones, not views of one product: what follows may work in place
        if self.delta is not None:
            dz = parts.pop(0)
            out = [z + dz, z - dz]
        if self.rows:
            dim = -1 if isinstance(self.base, nn.Linear) else 1
            out += [lane.clone() for lane in parts[0].split([len(slots.candidate) for slots in self.rows], dim=dim)]
        return out


def base_block(base: nn.Module) -> Block:
    """Weight and bias of an ordinary layer."""
    return Block(base.weight, base.bias)  # type: ignore[arg-type]


def _parameters(layer: Block, count: int) -> nn.ParameterList:
    """Zeros for ``count`` rows like those of a layer: a weight, and a bias if the layer has one."""
    return nn.ParameterList(tensor.new_zeros((count, *tensor.shape[1:])) for tensor in layer if tensor is not None)


def _times(tensor: Tensor, factors: Tensor, axis: int) -> Tensor:
    shape = [1] * tensor.dim()
    shape[axis] = -1
    return tensor * factors.reshape(shape)
