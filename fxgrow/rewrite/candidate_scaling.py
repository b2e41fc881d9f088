"""The weights of the candidates of many layers, in the units of their own and times their eps.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Eqs. 3 and 4:
eps_i delta_i. A layer has some ten small tensors, and an operator on each costs more than its
numbers: so each kind of scaling is one operator for all layers.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fxgrow.rewrite.overgrown_layer import CandidateBlocks, OvergrownLayer, WeightBlock, masked
from fxgrow.surgery import reshape_along


class CandidateScaling(nn.Module):
    """Gives every layer the weights of its candidates, those of all layers computed at once.

    Args:
        layers: the graph's layers; they are parts of the graph, not of this module.
    """

    def __init__(self, layers: Sequence[OvergrownLayer]) -> None:
        super().__init__()
        self._layers = tuple(layers)

    def forward(self, split_eps: Tensor, new_eps: Tensor) -> list[CandidateBlocks]:
        """The candidates' weights at these eps, layer by layer."""
        return scaled_candidates(self._layers, split_eps, new_eps)


def scaled_candidates(
    layers: Sequence[OvergrownLayer], split_eps: Tensor | None, new_eps: Tensor | None
) -> list[CandidateBlocks]:
    """The weights of the candidates of layers, in the units of their own and times their eps.

    Args:
        layers: the layers.
        split_eps: the eps of all split candidates; None: no perturbations.
        new_eps: the eps of all new neurons; None: no columns.

    Returns:
        As many as layers.
    """
    alike = defaultdict(list)  # torch.cat of units of two dtypes would have the wider one
    for layer in layers:
        alike[layer.unit_row.dtype, layer.unit_row.device].append(layer)
    blocks: dict[OvergrownLayer, CandidateBlocks] = {}
    for chosen in alike.values():
        perturbations = _perturbations(chosen, split_eps)
        incoming = _incoming(chosen)
        columns = _columns(chosen, new_eps)
        for layer in chosen:
            blocks[layer] = CandidateBlocks(
                perturbations.get(layer), incoming.get(layer), columns.get(layer, ())
            )
    return [blocks[layer] for layer in layers]


def _perturbations(
    layers: Sequence[OvergrownLayer], split_eps: Tensor | None
) -> dict[OvergrownLayer, WeightBlock]:
    """eps_i delta_i of the rows of each layer that has split candidates."""
    delta = {layer: layer.delta for layer in layers if layer.delta}
    if not delta or split_eps is None:
        return {}
    place = torch.cat([layer.split_place for layer in delta])
    unit = torch.cat([layer.split_unit for layer in delta])
    eps = split_eps.index_select(0, place) * unit  # of the rows of all layers, one after the other
    scaled = _scaled_along(list(delta.values()), eps, 0)
    return {layer: layer.block(rows) for layer, rows in zip(delta, scaled, strict=True)}


def _incoming(layers: Sequence[OvergrownLayer]) -> dict[OvergrownLayer, WeightBlock]:
    """The rows of new neurons of each layer that writes some."""
    new = {layer: layer.new for layer in layers if layer.new}
    if not new:
        return {}
    rows: list[Tensor] = [tensor for tensors in new.values() for tensor in tensors]
    units = [layer.unit_row for layer, tensors in new.items() for _ in tensors]
    # One operator for all of them: a list of products. Torch's stubs know only one of its forms.
    scaled = iter(torch._foreach_mul(rows, units))
    return {layer: layer.block([next(scaled) for _ in tensors]) for layer, tensors in new.items()}


def _columns(
    layers: Sequence[OvergrownLayer], new_eps: Tensor | None
) -> dict[OvergrownLayer, tuple[Tensor, ...]]:
    """eps_j times the outgoing weights of new neurons, for each of a layer's ``columns``."""
    reading = [layer for layer in layers if layer.columns]
    if not reading or new_eps is None:
        return {}
    # One list each for all layers, in the order of ``reading`` and of a layer's ``columns``.
    indices = [index for layer in reading for index in layer.column_index]
    units = [layer.unit_column.expand(len(i)) for layer in reading for i in layer.column_index]
    factors = new_eps.index_select(0, torch.cat(indices)) * torch.cat(units)
    outgoing = [[tensor] for layer in reading for tensor in layer.outgoing]
    scaled = iter(_scaled_along(outgoing, factors, 1))
    columns = {}
    for layer in reading:
        own = [next(scaled)[0] for _ in layer.columns]
        columns[layer] = tuple(masked(weight, layer.kept_rows, 0) for weight in own)
    return columns


def _scaled_along(
    tensors: Sequence[Sequence[Tensor]], factors: Tensor, axis: int
) -> list[list[Tensor]]:
    """Multiply tensors along an axis by factors, all of them in one operator.

    Args:
        tensors: some for each layer, which have equal sizes along the axis.
        factors: those of all layers behind each other.
        axis: the axis.

    Returns:
        The products, packed as the tensors were.
    """
    counts = [some[0].shape[axis] for some in tensors]
    # Factors of tensors of one rank are views of one vector: [n, 1, ...] with n as counted.
    by_rank: dict[int, tuple[Tensor, ...]] = {}
    left, right = [], []
    for number, some in enumerate(tensors):
        for tensor in some:
            rank = tensor.dim()
            if rank not in by_rank:
                by_rank[rank] = reshape_along(factors, axis, rank).split(counts)
            left.append(tensor)
            right.append(by_rank[rank][number])
    products = iter(torch._foreach_mul(left, right))
    return [[next(products) for _ in some] for some in tensors]
