"""From selected candidates to what emission carries out: width changes and parameter updates."""

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.growth.emit import ParameterUpdate
from fxgrow.growth.select import Selection
from fxgrow.rewrite import OverGrown, entry_values
from fxgrow.surgery import Change, run_starts


def width_changes(
    coupling: Coupling, overgrown: OverGrown, selection: Selection
) -> dict[int, Change]:
    """What happens to each width that gains neurons.

    Args:
        coupling: the widths of the model.
        overgrown: the graph that was searched.
        selection: the selected candidates.

    Returns:
        The changes by number of the width, ascending.
    """
    candidates = overgrown.candidates
    changes: dict[int, Change] = {}
    for width in sorted(candidates.split.keys() | candidates.new.keys()):
        size = coupling.widths[width].size
        change = selection.change(candidates, width, size)
        if change.new or change.size > size:
            changes[width] = change
    return changes


@torch.no_grad()
def parameter_updates(
    coupling: Coupling, overgrown: OverGrown, selection: Selection, scale: float = 1.0
) -> dict[str, ParameterUpdate]:
    """What each parameter and buffer receives.

    Args:
        coupling: the widths of the model.
        overgrown: the graph that holds eps and directions of the candidates.
        selection: the selected candidates.
        scale: every eps is multiplied by it; 0 gives the old function.

    Returns:
        The updates by name of the parameter.
    """
    split_eps = overgrown.candidates.split_eps * scale
    new_eps = overgrown.candidates.new_eps * scale
    delta: dict[str, dict[int, Tensor]] = defaultdict(dict)
    by_width: dict[tuple[str, int], dict[int, Tensor]] = defaultdict(dict)
    all_values = entry_values(overgrown.entries, split_eps, new_eps)
    for entry, values in zip(overgrown.entries, all_values, strict=True):
        if entry.slots is None:
            delta[entry.parameter][entry.axis] = values
        else:
            is_selected = selection.new[entry.slots.candidate]
            places = is_selected.nonzero().reshape(-1).to(values.device)
            selected = values.index_select(entry.axis, places)
            by_width[entry.parameter, entry.axis][entry.slots.width] = selected
    new: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for (name, axis), parts in by_width.items():
        new[name][axis] = _in_axis_order(coupling, (name, axis), parts, overgrown, selection)
    updates = {}
    # In the same order in all processes, whatever the hashes of names: some must gather together.
    for name in dict.fromkeys((*delta, *new)):
        updates[name] = ParameterUpdate(delta.get(name, {}), new.get(name, {}))
    return updates


def _in_axis_order(
    coupling: Coupling,
    key: tuple[str, int],
    by_width: dict[int, Tensor],
    overgrown: OverGrown,
    selection: Selection,
) -> Tensor:
    """The new entries of several widths on one axis, in the order in which emission inserts them.

    New neurons of a width follow each run of its last neuron. An axis may hold several such runs
    (of a flattened feature map, say) and runs of other widths between them.
    """
    axis = key[1]
    owners = coupling.owners[key]
    starts = run_starts(owners.width, owners.neuron)
    lengths = np.diff(starts, append=len(owners.width))
    used = dict.fromkeys(by_width, 0)  # entries of each width that have their place already
    parts: list[Tensor] = []
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        width = int(owners.width[start])
        last_neuron = coupling.widths[width].size - 1
        if width in by_width and owners.neuron[start] == last_neuron:
            num_new = int(selection.new[overgrown.candidates.new[width]].sum())
            count = length * num_new
            parts.append(by_width[width].narrow(axis, used[width], count))
            used[width] += count
    return torch.cat(parts, axis)
