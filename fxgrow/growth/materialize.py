"""From selected candidates to the changes and fillings that emission carries out."""

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.growth.emit import ParameterUpdate
from fxgrow.growth.select import Selection
from fxgrow.rewrite import OverGrown
from fxgrow.surgery import Change, run_starts


def width_changes(coupling: Coupling, grown: OverGrown, selection: Selection) -> dict[int, Change]:
    """What happens to each width that gained neurons, by its number."""
    touched = grown.candidates.split.keys() | grown.candidates.new.keys()
    found = {
        n: selection.change(grown.candidates, n, coupling.widths[n].size) for n in sorted(touched)
    }
    return {
        n: change
        for n, change in found.items()
        if change.new or change.size > coupling.widths[n].size
    }


@torch.no_grad()
def parameter_updates(
    coupling: Coupling, grown: OverGrown, selection: Selection, scale: float = 1.0
) -> dict[str, ParameterUpdate]:
    """What each parameter receives, with every eps multiplied by ``scale`` (0: the old function)."""
    split_eps, new_eps = grown.candidates.split_eps * scale, grown.candidates.new_eps * scale
    delta: dict[str, dict[int, Tensor]] = defaultdict(dict)
    pieces: dict[tuple[str, int], dict[int, Tensor]] = defaultdict(dict)
    for entry in grown.entries:
        values = entry.values(split_eps, new_eps).detach()
        if entry.slots is None:
            delta[entry.parameter][entry.axis] = values
        else:
            chosen = selection.new[entry.slots.candidate].nonzero().reshape(-1).to(values.device)
            pieces[entry.parameter, entry.axis][entry.slots.width] = values.index_select(
                entry.axis, chosen
            )
    new: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for (name, axis), by_width in pieces.items():
        new[name][axis] = _in_order(coupling, (name, axis), by_width, grown, selection)
    return {
        name: ParameterUpdate(delta.get(name, {}), new.get(name, {})) for name in {*delta, *new}
    }


def _in_order(
    coupling: Coupling,
    key: tuple[str, int],
    by_width: dict[int, Tensor],
    grown: OverGrown,
    selection: Selection,
) -> Tensor:
    """The fresh entries of several widths on one axis, in the order of the places where emission inserts them."""
    owners = coupling.owners[key]
    starts = run_starts(owners.width, owners.neuron)
    lengths = np.diff(starts, append=len(owners.width))
    cursor = dict.fromkeys(by_width, 0)
    parts = []
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        width = int(owners.width[start])
        if width in by_width and owners.neuron[start] == coupling.widths[width].size - 1:
            count = length * int(selection.new[grown.candidates.new[width]].sum())
            parts.append(by_width[width].narrow(key[1], cursor[width], count))
            cursor[width] += count
    return torch.cat(parts, key[1])
