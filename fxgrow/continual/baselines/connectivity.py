"""The sparse paths that lead to a head, and how large or how far moved the weights into each neuron are.

Reference: Yoon et al., "Lifelong Learning with Dynamically Expandable Networks", ICLR 2018, Algorithm 2: breadth-first
from the new head through weights that are not zero. How we differ: a kernel is one connection; and no L1 keeps earlier
tasks sparse here, so connections below a share of the strongest of their layer count as zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from fxgrow.coupling import Coupling, Role


@dataclass(frozen=True, eq=False)
class Connections:
    """One weight: ``present[i, j]`` connects the neuron ``out_of[j]`` to ``into[i]``; the last neuron is nobody."""

    present: Tensor
    into: Tensor
    out_of: Tensor


def connected_neurons(
    network: nn.Module, coupling: Coupling, head: str, zero: float
) -> dict[str, Tensor]:
    """By name of the width, which neurons lead to ``head``, whose zeros are exact; ``zero``: see above."""
    starts = [0, *accumulate(width.size for width in coupling.widths)]
    reads = [
        (s.parameter, s.axis)
        for width in coupling.widths
        for s in width.sites
        if s.role is Role.READS
    ]
    own = dict(network.named_parameters())
    links = [
        _links(
            own[name],
            name,
            axis,
            coupling,
            starts,
            0.0 if name.rpartition(".")[0] == head else zero,
        )
        for name, axis in dict.fromkeys(reads)
        if name in own
    ]
    on = torch.zeros(starts[-1] + 1, dtype=torch.bool)
    on[-1] = True
    while True:
        before = on.clone()
        for link in links:
            on[link.out_of[(link.present & on[link.into][:, None]).any(0)]] = True
        if torch.equal(on, before):
            return {
                w.name: on[a : a + w.size] for w, a in zip(coupling.widths, starts, strict=False)
            }


def _links(
    weight: Tensor, name: str, axis: int, coupling: Coupling, starts: list[int], zero: float
) -> Connections:
    """What reads along ``axis`` writes along the first other axis that can grow, if there is one."""
    writes = next(
        (a for a in range(weight.dim()) if a != axis and _grows(coupling, (name, a))), None
    )
    axes = (axis,) if writes is None else (axis, writes)
    front = weight.detach().cpu().movedim(axes, tuple(range(len(axes))))
    strength = front.reshape(len(front), 1 if writes is None else front.shape[1], -1).norm(dim=2).T
    out_of = _neurons(coupling, (name, axis), starts)
    into = (
        torch.full((len(strength),), starts[-1])
        if writes is None
        else _neurons(coupling, (name, writes), starts)
    )
    return Connections(strength > zero * strength.max(), into, out_of)


def _grows(coupling: Coupling, key: tuple[str, int]) -> bool:
    """Whether some neuron along that axis is one that can be chosen; what writes others is taken to matter."""
    return key in coupling.owners and any(
        coupling.widths[n].growable for n in set(coupling.owners[key].width) - {-1}
    )


def _neurons(coupling: Coupling, key: tuple[str, int], starts: list[int]) -> Tensor:
    """The number of each index's neuron, all widths in a row; nobody's is the last."""
    width, neuron = map(torch.from_numpy, (coupling.owners[key].width, coupling.owners[key].neuron))
    return torch.where(width >= 0, torch.tensor(starts)[width] + neuron, starts[-1])


def incoming_change(coupling: Coupling, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By name of the width: the norm of all entries of ``held``, per parameter, that write each neuron."""
    squares = {
        width.name: torch.zeros(width.size, dtype=torch.float64) for width in coupling.widths
    }
    for number, width in enumerate(coupling.widths):
        for site in (s for s in width.sites if s.role is Role.WRITES and s.parameter in held):
            owners = coupling.owners[site.key]
            mine = torch.from_numpy(owners.width == number)
            rows = held[site.parameter].detach().cpu().double().movedim(site.axis, 0)
            sums = rows.reshape(len(rows), -1).square().sum(1)
            squares[width.name].index_add_(0, torch.from_numpy(owners.neuron)[mine], sums[mine])
    return {name: found.sqrt() for name, found in squares.items()}
