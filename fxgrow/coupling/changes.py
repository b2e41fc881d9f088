"""What changed widths mean for the model: an IndexMap per axis, and new values of attributes that hold sizes."""

from collections.abc import Mapping

from torch import nn

from fxgrow.coupling.values import Role
from fxgrow.coupling.widths import Coupling
from fxgrow.surgery import Change, IndexMap, axis_map


def change_maps(
    coupling: Coupling, changes: Mapping[int, Change]
) -> dict[tuple[str, int], IndexMap]:
    """The IndexMap of every axis that the changed widths (by number) reach.

    Raises ``GrowthError`` if a width that must be replayed (``coupling.replay``) cannot change like this.
    """
    reads = {
        site.key for width in coupling.widths for site in width.sites if site.role is Role.READS
    }
    by_axis: dict[tuple[str, int], dict[int, Change]] = {}
    for number, change in changes.items():
        for site in coupling.widths[number].sites:
            by_axis.setdefault(site.key, {})[number] = change
    made: dict[
        tuple[bytes, bytes, bool], IndexMap
    ] = {}  # the axes of one layer and its norm have equal owners

    def made_once(key: tuple[str, int], mine: Mapping[int, Change]) -> IndexMap:
        own = coupling.owners[key]
        alike = own.width.tobytes(), own.neuron.tobytes(), key in reads
        if alike not in made:
            made[alike] = axis_map(own.width, own.neuron, mine, key in reads)
        return made[alike]

    maps = {key: made_once(key, mine) for key, mine in by_axis.items()}
    if coupling.replay is None or not coupling.replay.singly & changes.keys():
        return maps
    return maps | coupling.replay.maps(
        {key: (own.width, own.neuron) for key, own in coupling.owners.items()}, changes
    )


def set_attributes(module: nn.Module, coupling: Coupling, changes: Mapping[int, Change]) -> None:
    """Bring the numbers that the model's own code holds (heads, sizes) in line with the changed widths."""
    paths = dict(module.named_modules())
    for attribute in coupling.attributes:
        if attribute.width in changes and attribute.module in paths:
            setattr(
                paths[attribute.module],
                attribute.name,
                attribute.each * changes[attribute.width].size,
            )
