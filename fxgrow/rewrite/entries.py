"""Entries: what emission adds to which axis of which parameter, of all candidates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from fxgrow.errors import InternalError
from fxgrow.rewrite.candidate_scaling import scaled_candidates
from fxgrow.rewrite.candidates import Slots
from fxgrow.rewrite.linear_op import LinearOp
from fxgrow.rewrite.overgrown_layer import CandidateBlocks, OvergrownLayer
from fxgrow.surgery import reshape_along

ReadBlocks = Callable[[CandidateBlocks], Tensor]
"""From the weights of a layer's candidates to what an ``Entry`` adds."""


@dataclass(frozen=True)
class Entry:
    """Something that emission adds to an axis of a parameter.

    Args:
        parameter: the name in the user's module.
        axis: the axis along which neurons lie.
        slots: the indices of new neurons; None for a perturbation of what is there.
        layer: the layer whose candidates it is of; None for what has no eps.
        read: finds it among the weights of that layer's candidates.
        unit: a parameter that writes new neurons of a width under norms as it is (positions) is
            multiplied by this and by their eps; None: it has no eps.
    """

    parameter: str
    axis: int
    slots: Slots | None
    layer: OvergrownLayer | None
    read: ReadBlocks
    unit: float | None = None

    @property
    def parameter_itself(self) -> Tensor:
        """What is read of no layer, without eps."""
        return self.read(_NO_BLOCKS)

    def values(self, split_eps: Tensor, new_eps: Tensor) -> Tensor:
        """What is added at these eps (see ``entry_values``)."""
        return entry_values([self], split_eps, new_eps)[0]


def entry_values(entries: Sequence[Entry], split_eps: Tensor, new_eps: Tensor) -> list[Tensor]:
    """What entries add to their parameters at these eps; all layers are computed at once.

    Args:
        entries: the entries.
        split_eps: the eps of all split candidates.
        new_eps: the eps of all new neurons.

    Returns:
        For each entry a tensor of the parameter's old shape if it is a perturbation, else it has
        one entry along ``axis`` per index in ``slots``.
    """
    layers = list(dict.fromkeys(entry.layer for entry in entries if entry.layer is not None))
    # A layer has several entries, and alike layers are scaled by one operator.
    of_layers = scaled_candidates(layers, split_eps, new_eps)
    blocks: dict[OvergrownLayer | None, CandidateBlocks] = {None: _NO_BLOCKS}
    blocks |= dict(zip(layers, of_layers, strict=True))
    values = []
    for entry in entries:
        value = entry.read(blocks[entry.layer])
        if entry.unit is not None and entry.slots is not None:
            eps = new_eps[entry.slots.candidate.to(new_eps.device)]
            value = times_eps(value, eps, entry.unit, entry.axis)
        values.append(value)
    return values


def times_eps(value: Tensor, eps: Tensor, unit: float, axis: int) -> Tensor:
    """Entries of new neurons times their eps.

    Args:
        value: the entries.
        eps: one per entry along the axis.
        unit: a factor of all.
        axis: the axis along which they lie.
    """
    return value * reshape_along(eps * unit, axis, value.dim())


_NO_BLOCKS = CandidateBlocks(None, None, ())


def layer_entries(layer: OvergrownLayer) -> list[Entry]:
    """Where the candidates of a layer go at emission: into its weight and bias, axis by axis."""
    product = layer.product
    entries = []
    for part, (name, tensor) in enumerate(zip(product.names, layer.base().tensors(), strict=True)):
        axis = product.rows if tensor.dim() > 1 else 0
        if axis is None:
            continue
        if layer.delta is not None:
            entries.append(Entry(name, axis, None, layer, partial(_delta_values, layer, part)))
        for number, slots in enumerate(layer.rows):
            # A bias has an entry for each row of the oriented weight.
            of_part = _gathered(product, slots, axis) if tensor.dim() > 1 else slots
            values = partial(_row_values, layer, number, part)
            entries.append(Entry(name, axis, of_part, layer, values))
    if product.columns is not None:
        for number, slots in enumerate(layer.columns):
            values = partial(_column_values, layer, number)
            of_weight = _gathered(product, slots, product.columns)
            entries.append(Entry(product.weight, product.columns, of_weight, layer, values))
    return entries


def _gathered(product: LinearOp, slots: Slots, axis: int) -> Slots:
    """The indices of new neurons along an axis of the parameter."""
    return replace(slots, candidate=product.gathered(slots.candidate, axis))


# The ``read`` of entries; ``part`` is the place of a parameter in ``LinearOp.names``.


def _delta_values(layer: OvergrownLayer, part: int, blocks: CandidateBlocks) -> Tensor:
    if blocks.perturbation is None:
        raise InternalError("a layer without split candidates was asked for their directions")
    return layer.product.restored(blocks.perturbation.tensors()[part])


def _row_values(layer: OvergrownLayer, number: int, part: int, blocks: CandidateBlocks) -> Tensor:
    return layer.product.restored(layer.rows_of(number, blocks.incoming)[part])


def _column_values(layer: OvergrownLayer, number: int, blocks: CandidateBlocks) -> Tensor:
    return layer.product.restored(blocks.columns[number])
