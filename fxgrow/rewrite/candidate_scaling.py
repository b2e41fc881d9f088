"""The weights of the candidates of many layers, in the units of their own and times their eps.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Eqs. 3 and 4:
eps_i delta_i. A layer has some ten small tensors, and an operator on each costs more than its
numbers: so tensors of layers of one shape lie side by side, and one operator does for all of them.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from fxgrow.rewrite.overgrown_layer import CandidateBlocks, OvergrownLayer, WeightBlock
from fxgrow.sharding import is_gathered_on_use

_SMALL, _AT_ONCE = 2**14, 2**18
"""Entries of a weight whose operators cost more than its numbers, and of those put side by side."""

Member = TypeVar("Member")


class CandidateScaling(nn.Module):
    """Gives every layer the weights of its candidates, those of alike layers computed at once.

    Args:
        layers: the graph's layers; they are parts of the graph, not of this module.
        join: put the rows of alike layers below their base, where that is what these apply.
    """

    def __init__(self, layers: Sequence[OvergrownLayer], *, join: bool = True) -> None:
        super().__init__()
        self._layers = tuple(layers)
        writing = [layer for layer in layers if layer.delta or layer.new]
        reading = [(layer, i) for layer in layers for i in range(len(layer.columns))]
        by_rows = _alike(writing, _form_of_rows, lambda layer: layer.weight.numel())
        by_columns = _alike(reading, _form_of_columns, lambda use: _outgoing(use).numel())
        self.rows = nn.ModuleList(_AlikeRows(alike, join) for alike in by_rows)
        self.columns = nn.ModuleList(map(_AlikeColumns, by_columns))

    def forward(self, split_eps: Tensor | None, new_eps: Tensor | None) -> list[CandidateBlocks]:
        """The candidates' weights, layer by layer.

        Args:
            split_eps: the eps of all split candidates; None: no perturbations.
            new_eps: the eps of all new neurons; None: no columns, and no rows that it multiplies.
        """
        rows: dict[OvergrownLayer, _Rows] = {}
        for alike_rows in self.rows:
            rows |= alike_rows(split_eps, new_eps)
        columns: dict[_Use, Tensor] = {}
        if new_eps is not None:
            for alike_columns in self.columns:
                columns |= alike_columns(new_eps)
        blocks = []
        for layer in self._layers:
            own = tuple(columns[layer, i] for i in range(len(layer.columns))) if columns else ()
            perturbation, incoming, joined = rows.get(layer, _NO_ROWS)
            blocks.append(CandidateBlocks(perturbation, incoming, own, joined))
        return blocks


def scaled_candidates(
    layers: Sequence[OvergrownLayer], split_eps: Tensor | None, new_eps: Tensor | None
) -> list[CandidateBlocks]:
    """The weights of the candidates of layers, in the units of their own and times their eps.

    Args:
        layers: the layers.
        split_eps: the eps of all split candidates; None: no perturbations.
        new_eps: the eps of all new neurons; None: no columns, and no rows that it multiplies.

    Returns:
        As many as layers.
    """
    blocks: list[CandidateBlocks] = CandidateScaling(layers, join=False)(split_eps, new_eps)
    return blocks


class _Rows(NamedTuple):
    """What a layer gets of rows, as in ``CandidateBlocks``."""

    perturbation: WeightBlock | None
    incoming: WeightBlock | None
    joined: WeightBlock | None


_NO_ROWS = _Rows(None, None, None)

_Use = tuple[OvergrownLayer, int]
"""One of the ``columns`` of a layer: the layer and its number there."""


def _outgoing(use: _Use) -> Tensor:
    layer, number = use
    tensor: Tensor = getattr(layer, layer.names_of("outgoing")[number])
    return tensor


def _form_of_rows(layer: OvergrownLayer) -> Hashable:
    """What layers have in common whose rows are computed at once."""
    tensors = tuple((part.shape, part.dtype, part.device) for part in layer.base().tensors())
    flags = layer.bias is None, layer.delta is None, layer.kept_columns is None, layer.is_plain
    return tensors, flags, layer.num_new_rows, layer.eps_of_rows is None


def _form_of_columns(use: _Use) -> Hashable:
    """What outgoing weights have in common that are computed at once."""
    tensor = _outgoing(use)
    layer, number = use
    has_eps = not layer.columns[number].by_writers
    return tensor.shape, tensor.dtype, tensor.device, layer.kept_rows is None, has_eps


def _alike(
    members: Sequence[Member],
    form: Callable[[Member], Hashable],
    size: Callable[[Member], int],
) -> list[list[Member]]:
    """Small ones of one form together, as many as may be put side by side, which copies them."""
    by_form: dict[Hashable, list[Member]] = defaultdict(list)
    for member in members:
        by_form[form(member)].append(member)
    groups = []
    for alike in by_form.values():
        numbers = max(size(alike[0]), 1)
        count = _AT_ONCE // numbers if numbers <= _SMALL else 1
        groups += [alike[start : start + count] for start in range(0, len(alike), count)]
    return groups


class _AlikeRows(nn.Module):
    """The rows of the candidates of layers of one shape.

    Args:
        layers: the layers.
        join: give [W; eps D; R] in one, if there are several and that is what they apply.
    """

    place: Tensor
    split_unit: Tensor
    unit: Tensor
    kept: Tensor | None
    eps_of_rows: Tensor | None

    def __init__(self, layers: Sequence[OvergrownLayer], join: bool) -> None:
        super().__init__()
        self._layers = tuple(layers)
        first = layers[0]
        # By name, because a list for each layer in each pass takes time.
        self._delta, self._new = first.names_of("delta"), first.names_of("new")
        self._has_bias = first.bias is not None
        # Rows of which this process has a part are not put together for a whole pass.
        is_whole = not is_gathered_on_use(first.weight)
        self._joins = join and len(layers) > 1 and first.is_plain and is_whole
        unit = torch.stack([layer.unit_row for layer in layers])  # [layers]
        self.register_buffer("unit", unit, persistent=False)
        splits = [layer.split for layer in layers if layer.split is not None]
        if splits:
            split = torch.stack(splits)  # [layers, out]
            # Rows without a candidate read some eps (index -1), which their unit 0 takes out.
            split_unit = (split >= 0).to(unit) * unit.unsqueeze(1)
            self.register_buffer("place", split.clamp(min=0).flatten(), persistent=False)
            self.register_buffer("split_unit", split_unit.flatten(), persistent=False)
        kept = [layer.kept_columns for layer in layers if layer.kept_columns is not None]
        self.register_buffer("kept", torch.stack(kept) if kept else None, persistent=False)
        by_writers = [layer.eps_of_rows for layer in layers if layer.eps_of_rows is not None]
        eps_of_rows = torch.stack(by_writers) if by_writers else None  # [layers, new rows]
        self.register_buffer("eps_of_rows", eps_of_rows, persistent=False)

    def forward(
        self, split_eps: Tensor | None, new_eps: Tensor | None
    ) -> dict[OvergrownLayer, _Rows]:
        """The rows of each layer: eps_i delta_i and those of new neurons, joined or not."""
        delta: list[Tensor] = []
        if self._delta and split_eps is not None:
            eps = split_eps.index_select(0, self.place) * self.split_unit  # [layers * out]
            delta = self._scaled(self._delta, eps)
        new: list[Tensor] = []
        if self._new:
            new = self._scaled(self._new, self._units_of_new(new_eps))
        # What is joined is not given once more: views of it would cost time, too.
        none: list[WeightBlock | None] = [None] * len(self._layers)
        if self._joins:
            rows = map(_Rows, none, none, self._joined(delta, new))
        else:
            perturbations = self._blocks(delta) if delta else none
            rows = map(_Rows, perturbations, self._blocks(new) if new else none, none)
        return dict(zip(self._layers, rows, strict=True))

    def _units_of_new(self, new_eps: Tensor | None) -> Tensor:
        """What each row of a new neuron is multiplied by, or those of each layer."""
        if self.eps_of_rows is None:
            return self.unit
        has_eps = self.eps_of_rows >= 0
        own = 0.0 if new_eps is None else new_eps[self.eps_of_rows.clamp(min=0)]
        factors = torch.where(has_eps, own, 1.0)
        return (factors * self.unit.unsqueeze(1)).flatten()

    def _scaled(self, names: Sequence[str], factors: Tensor) -> list[Tensor]:
        """The tensors of all layers times a factor for each row, or for each layer.

        Args:
            names: what they are called in their layers, part by part.
            factors: one per row of all layers, or one per layer.

        Returns:
            For each part ``[layers, rows, ...]``, without entries at blank neurons.
        """
        by_row = factors.reshape(len(self._layers), -1)
        scaled = []
        for name in names:
            stacked = _side_by_side([getattr(layer, name) for layer in self._layers])
            scaled.append(stacked * _along_first(by_row, stacked))
        if self.kept is not None:
            by_column = self.kept.unsqueeze(1)  # [layers, 1, in]
            scaled[0] = scaled[0] * _along_first(by_column, scaled[0]).to(scaled[0])
        return scaled

    def _blocks(self, parts: Sequence[Tensor]) -> list[WeightBlock]:
        """The rows of each layer, of those of all of them."""
        by_layer = zip(*(part.unbind() for part in parts), strict=True)
        blocks = []
        for weight, *others in by_layer:
            bias = others.pop() if self._has_bias else None
            blocks.append(WeightBlock(weight, bias, tuple(others)))
        return blocks

    def _joined(self, delta: Sequence[Tensor], new: Sequence[Tensor]) -> list[WeightBlock]:
        """[W; eps D; R] of each layer, from what there is of the others."""
        with torch.no_grad():  # W is frozen
            own = [torch.stack([layer.product.oriented(layer.weight) for layer in self._layers])]
            biases = [layer.bias for layer in self._layers if layer.bias is not None]
            own += [torch.stack(biases)] if biases else []
        candidates = [parts for parts in (delta, new) if parts]
        # Along the rows of each layer, so that those of one layer lie one below the other.
        by_part = zip(own, *candidates, strict=True)
        return self._blocks([torch.cat(parts, 1) for parts in by_part])


class _AlikeColumns(nn.Module):
    """The columns of new neurons, of one shape each.

    Args:
        uses: whose they are.
    """

    place: Tensor
    unit: Tensor
    kept: Tensor | None

    def __init__(self, uses: Sequence[_Use]) -> None:
        super().__init__()
        self._uses = tuple(uses)
        first, first_number = uses[0]
        self._has_eps = not first.columns[first_number].by_writers
        places, units, kept = [], [], []
        for layer, number in uses:
            place = layer.columns[number].candidate.to(layer.weight.device)
            places.append(place)
            units.append(layer.unit_column.expand(len(place)))
            if layer.kept_rows is not None:
                kept.append(layer.kept_rows)
        self.register_buffer("place", torch.cat(places), persistent=False)
        self.register_buffer("unit", torch.cat(units), persistent=False)
        self.register_buffer("kept", torch.stack(kept) if kept else None, persistent=False)

    def forward(self, new_eps: Tensor) -> dict[_Use, Tensor]:
        """eps_j times the outgoing weights of new neurons, where eps multiplies what reads."""
        stacked = _side_by_side([_outgoing(use) for use in self._uses])  # [uses, out, new, ...]
        factors = self.unit
        if self._has_eps:
            factors = new_eps.index_select(0, self.place) * self.unit
        by_column = factors.reshape(len(self._uses), 1, -1)
        scaled = stacked * _along_first(by_column, stacked)
        if self.kept is not None:
            scaled = scaled * _along_first(self.kept, scaled).to(scaled)  # [uses, out]
        return dict(zip(self._uses, scaled.unbind(), strict=True))


def _side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape as one; a single one is not copied."""
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(list(tensors))


def _along_first(factors: Tensor, like: Tensor) -> Tensor:
    """Factors along the first axes of a tensor, to be broadcast along the others."""
    return factors.reshape(*factors.shape, *[1] * (like.dim() - factors.dim()))
