"""Copy candidates from one over-grown graph of a model to another one with fewer candidates."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fxgrow.rewrite import Entry, OverGrown, OvergrownLayer, Slots

Positions = Callable[[Slots], Tensor]
"""Where the kept new neurons of some slots lie among all that the source graph has."""


@torch.no_grad()
def copy_candidates(source: OverGrown, target: OverGrown, kept: Mapping[int, Tensor]) -> None:
    """Copy eps and directions of all candidates that both graphs have.

    Args:
        source: the graph to read from.
        target: the graph to write to; it has no new neuron that ``source`` lacks.
        kept: per number of a width a boolean mask over its new-neuron candidates in ``source``:
            the ones that ``target`` has.
    """
    to, from_ = target.candidates, source.candidates
    for width in to.split.keys() & from_.split.keys():
        to.split_eps[to.split[width]] = from_.split_eps[from_.split[width]]
    for width in to.new.keys() & from_.new.keys():
        to.new_eps[to.new[width]] = from_.new_eps[from_.new[width]][kept[width]]

    def positions(slots: Slots) -> Tensor:
        first = from_.new[slots.width].start
        is_kept = kept[slots.width][slots.candidate - first]
        return is_kept.nonzero().reshape(-1).to(from_.new_eps.device)

    target_layers = _layers(target)
    for names, layer in _layers(source).items():
        if names in target_layers:
            _copy_layer(layer, target_layers[names], positions)
    target_carriers = _carriers(target)
    for key, (entry, slots) in _carriers(source).items():
        if key in target_carriers:
            values = entry.parameter_itself.index_select(entry.axis, positions(slots))
            target_carriers[key][0].parameter_itself.copy_(values)


def _copy_layer(source: OvergrownLayer, target: OvergrownLayer, positions: Positions) -> None:
    # Directions of split neurons: rows that are candidates in both graphs.
    if source.delta is not None and target.delta is not None:
        in_both = (source.split >= 0) & (target.split >= 0)  # type: ignore[operator]
        for to, from_ in zip(target.delta, source.delta, strict=True):
            to[in_both] = from_[in_both]
    # Incoming weights of new neurons: one run of rows per width.
    target_rows = _first_rows(target.rows)
    for slots, start in _first_rows(source.rows).values():
        if slots.width in target_rows:
            at = start + positions(slots)
            first = target_rows[slots.width][1]
            for to, from_ in zip(target.new or (), source.new or (), strict=True):
                to.narrow(0, first, len(at)).copy_(from_[at])
    # Outgoing weights of new neurons: one block of columns per width.
    target_columns = {slots.width: number for number, slots in enumerate(target.columns)}
    for from_, slots in zip(source.outgoing, source.columns, strict=True):
        if slots.width in target_columns:
            to = target.outgoing[target_columns[slots.width]]
            to.copy_(from_.index_select(1, positions(slots)))


def _first_rows(rows: Sequence[Slots]) -> dict[int, tuple[Slots, int]]:
    """Per width its slots and the first of its rows."""
    first_rows: dict[int, tuple[Slots, int]] = {}
    start = 0
    for slots in rows:
        first_rows[slots.width] = (slots, start)
        start += len(slots.candidate)
    return first_rows


def _layers(overgrown: OverGrown) -> dict[tuple[str, ...], OvergrownLayer]:
    """The over-grown layers by the names of their parameters."""
    layers: dict[tuple[str, ...], OvergrownLayer] = {}
    for module in overgrown.graph_module.modules():
        if isinstance(module, OvergrownLayer):
            layers[module.product.names] = module
    return layers


def _carriers(overgrown: OverGrown) -> dict[tuple[str, int, int], tuple[Entry, Slots]]:
    """Entries of new neurons in parameters and buffers that are no linear operator's.

    They are no product of a weight's size and an eps, so that each is a tensor itself.
    """
    linear_parameters: set[str] = set()
    for names in _layers(overgrown):
        linear_parameters.update(names)
    carriers: dict[tuple[str, int, int], tuple[Entry, Slots]] = {}
    for entry in overgrown.entries:
        if entry.slots is not None and entry.parameter not in linear_parameters:
            carriers[entry.parameter, entry.axis, entry.slots.width] = (entry, entry.slots)
    return carriers
