"""From selected candidates to the changes and fillings that emission carries out."""

from collections import defaultdict

import torch
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.growth.budget import Selection
from fxgrow.growth.emit import Filling
from fxgrow.rewrite import OverGrown
from fxgrow.surgery.index_map import Change


def changes_of(coupling: Coupling, grown: OverGrown, selection: Selection) -> dict[int, Change]:
    """What happens to each width that gained neurons, by its number."""
    touched = grown.candidates.split.keys() | grown.candidates.new.keys()
    found = {n: selection.change(grown.candidates, n, coupling.widths[n].size) for n in sorted(touched)}
    return {n: change for n, change in found.items() if change.size > coupling.widths[n].size}


@torch.no_grad()
def fillings_of(grown: OverGrown, selection: Selection, scale: float = 1.0) -> dict[str, Filling]:
    """What each parameter receives, with every eps multiplied by ``scale`` (0: the old function)."""
    split_eps, new_eps = grown.candidates.split_eps * scale, grown.candidates.new_eps * scale
    delta: dict[str, dict[int, Tensor]] = defaultdict(dict)
    fresh: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for entry in grown.entries:
        values = entry.values(split_eps, new_eps).detach()
        if entry.candidate is None:
            delta[entry.parameter][entry.axis] = values
        else:
            chosen = selection.new[entry.candidate].nonzero().reshape(-1).to(values.device)
            fresh[entry.parameter][entry.axis] = values.index_select(entry.axis, chosen)
    return {name: Filling(delta.get(name, {}), fresh.get(name, {})) for name in {*delta, *fresh}}
