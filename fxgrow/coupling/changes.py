"""What changed widths mean for a model: an IndexMap per axis, and new values of size attributes."""

from collections.abc import Mapping

from torch import nn

from fxgrow.coupling.keys import AnyAxisKey, AxisKey
from fxgrow.coupling.values import Role
from fxgrow.coupling.widths import Coupling
from fxgrow.surgery import Change, IndexMap, axis_map, set_integer

OwnersKey = tuple[bytes, bytes, bool]
"""The owners of an axis as bytes, and whether it reads: axes that agree in it share an IndexMap."""


def change_maps(coupling: Coupling, changes: Mapping[int, Change]) -> dict[AnyAxisKey, IndexMap]:
    """Translate changed widths into an IndexMap for every axis that they reach.

    Args:
        coupling: the neurons of the model.
        changes: the change of each width that changes, by the number of the width.

    Returns:
        The IndexMap of every axis that holds a neuron of a changed width.

    Raises:
        GrowthError: ``order``, if the order of a width is found by a run (``coupling.replay``) and
            the copies of its neurons can't be put into an order that keeps the function.
    """
    maps = _standard_maps(coupling, changes)
    replay = coupling.replay
    if replay is None or not replay.singly & changes.keys():
        return maps
    # Where a shuffled width changes, the run decides, and its maps replace the standard ones.
    owners = {key: (own.width, own.neuron) for key, own in coupling.owners.items()}
    return maps | replay.maps(owners, changes)


def _standard_maps(coupling: Coupling, changes: Mapping[int, Change]) -> dict[AnyAxisKey, IndexMap]:
    """The IndexMaps in the standard order: a copy follows the run of its neuron's occurrences."""
    reading = _reading_axes(coupling)
    by_owners: dict[OwnersKey, IndexMap] = {}
    maps: dict[AnyAxisKey, IndexMap] = {}
    for key, axis_changes in _changes_by_axis(coupling, changes).items():
        owners, reads = coupling.owners[key], key in reading
        # The axes of one layer and its norm have equal owners: their map is made once.
        owners_key = owners.width.tobytes(), owners.neuron.tobytes(), reads
        if owners_key not in by_owners:
            by_owners[owners_key] = axis_map(owners.width, owners.neuron, axis_changes, reads)
        maps[key] = by_owners[owners_key]
    return maps


def _reading_axes(coupling: Coupling) -> set[AxisKey]:
    """The axes that read a width: along them the copies of a neuron share its weight."""
    reading = set()
    for width in coupling.widths:
        for site in width.sites:
            if site.role is Role.READS:
                reading.add(site.key)
    return reading


def _changes_by_axis(
    coupling: Coupling, changes: Mapping[int, Change]
) -> dict[AxisKey, dict[int, Change]]:
    by_axis: dict[AxisKey, dict[int, Change]] = {}
    for number, change in changes.items():
        for site in coupling.widths[number].sites:
            by_axis.setdefault(site.key, {})[number] = change
    return by_axis


def set_attributes(module: nn.Module, coupling: Coupling, changes: Mapping[int, Change]) -> None:
    """Bring the numbers that the model's own code holds (heads, sizes) in line with changed widths.

    Args:
        module: the model, or a copy of it; its attributes are set in place.
        coupling: the neurons of the model.
        changes: the change of each width that changes, by the number of the width.
    """
    modules = dict(module.named_modules())
    for attribute in coupling.attributes:
        added = 0
        for number, each in attribute.each.items():
            if number in changes:
                added += each * (changes[number].size - len(changes[number].times))
        if added and attribute.module in modules:
            holder = modules[attribute.module]
            set_integer(holder, attribute.name, attribute.keys, attribute.value + added)
