"""Which neurons lead to a head, and how large (or how far moved) the weights into each neuron are.

Reference: Yoon et al., "Lifelong Learning with Dynamically Expandable Networks", ICLR 2018,
Algorithm 2: breadth-first from the new head through weights that are not zero. How we differ: a
kernel is one connection; and no L1 keeps earlier tasks sparse here, so connections below a share of
the strongest of their layer count as zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from fxgrow.coupling import Coupling, Role


@dataclass(frozen=True, eq=False)
class Connections:
    """The connections that one weight makes.

    Neurons are numbered across all widths, one width after the other; one number more stands for
    indices that belong to no neuron (a network's inputs, say).

    Args:
        present: ``present[i, j]``: whether ``out_of[j]`` is connected to ``into[i]``.
        into: the numbers of the neurons that the weight writes.
        out_of: the numbers of the neurons that the weight reads.

    Shapes:
        present: [written, read]; into: [written]; out_of: [read].
    """

    present: Tensor
    into: Tensor
    out_of: Tensor


def connected_neurons(
    network: nn.Module, coupling: Coupling, head: str, zero: float
) -> dict[str, Tensor]:
    """Find the neurons from which a head can be reached.

    Args:
        network: the network.
        coupling: its coupling.
        head: the path of the head, of which only weights of exactly zero are no connection.
        zero: connections below this share of the strongest of their layer count as zero.

    Returns:
        By name of the width one boolean per neuron.
    """
    starts = [0, *accumulate(width.size for width in coupling.widths)]
    nobody = starts[-1]
    connections = _all_connections(network, coupling, head, zero, starts)
    reached = torch.zeros(nobody + 1, dtype=torch.bool)
    # What writes nobody's index is an end of the network: the search begins there.
    reached[nobody] = True
    while True:
        before = reached.clone()
        # One step backwards: whoever is connected to a reached neuron is reached.
        for link in connections:
            leads_on = (link.present & reached[link.into][:, None]).any(0)
            reached[link.out_of[leads_on]] = True
        if torch.equal(reached, before):
            break
    by_width: dict[str, Tensor] = {}
    for width, start in zip(coupling.widths, starts, strict=False):
        by_width[width.name] = reached[start : start + width.size]
    return by_width


def _all_connections(
    network: nn.Module, coupling: Coupling, head: str, zero: float, starts: list[int]
) -> list[Connections]:
    """The connections of every parameter that reads some width."""
    parameters = dict(network.named_parameters())
    reading_axes: dict[tuple[str, int], None] = {}  # a set that keeps its order
    for width in coupling.widths:
        for site in width.sites:
            if site.role is Role.READS and site.parameter in parameters:
                reading_axes[site.key] = None
    connections: list[Connections] = []
    for name, axis in reading_axes:
        is_head = name.rpartition(".")[0] == head
        threshold = 0.0 if is_head else zero
        weight = parameters[name]
        connections.append(_connections(weight, name, axis, coupling, starts, threshold))
    return connections


def _connections(
    weight: Tensor, name: str, axis: int, coupling: Coupling, starts: list[int], zero: float
) -> Connections:
    """What reads along ``axis`` writes along the first other axis that can grow, if any."""
    out_of = _neuron_numbers(coupling, (name, axis), starts)
    writes = _written_axis(weight, name, axis, coupling)
    values = weight.detach().cpu()
    if writes is None:
        front = values.movedim(axis, 0)
        rows = front.reshape(len(front), 1, -1)
        into = torch.full((1,), starts[-1])
    else:
        front = values.movedim((axis, writes), (0, 1))
        rows = front.reshape(len(front), front.shape[1], -1)
        into = _neuron_numbers(coupling, (name, writes), starts)
    # [read, written, kernel] -> the norm of each kernel, [written, read]
    strength = rows.norm(dim=2).T
    return Connections(strength > zero * strength.max(), into, out_of)


def _written_axis(weight: Tensor, name: str, axis: int, coupling: Coupling) -> int | None:
    for other in range(weight.dim()):
        if other != axis and _can_grow(coupling, (name, other)):
            return other
    return None


def _can_grow(coupling: Coupling, key: tuple[str, int]) -> bool:
    """Whether some neuron along that axis is growable; what writes no such neuron always counts."""
    if key not in coupling.owners:
        return False
    numbers = set(coupling.owners[key].width) - {-1}
    return any(coupling.widths[number].growable for number in numbers)


def _neuron_numbers(coupling: Coupling, key: tuple[str, int], starts: list[int]) -> Tensor:
    """The number of each index's neuron across all widths; the last number is nobody's."""
    owners = coupling.owners[key]
    width = torch.from_numpy(owners.width)
    neuron = torch.from_numpy(owners.neuron)
    return torch.where(width >= 0, torch.tensor(starts)[width] + neuron, starts[-1])


def incoming_change(coupling: Coupling, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compute the norm of all entries that write each neuron.

    Args:
        coupling: the coupling of a network.
        tensors: by name of a parameter its values, or how far they have moved.

    Returns:
        By name of the width one norm per neuron, over the parameters that ``tensors`` has.
    """
    norms: dict[str, Tensor] = {}
    for number, width in enumerate(coupling.widths):
        squares = torch.zeros(width.size, dtype=torch.float64)
        for site in width.sites:
            if site.role is not Role.WRITES or site.parameter not in tensors:
                continue
            owners = coupling.owners[site.key]
            # An axis may carry several widths (after a concatenation): take this one's rows.
            of_width = torch.from_numpy(owners.width == number)
            rows = tensors[site.parameter].detach().cpu().double().movedim(site.axis, 0)
            sums = rows.reshape(len(rows), -1).square().sum(1)
            squares.index_add_(0, torch.from_numpy(owners.neuron)[of_width], sums[of_width])
        norms[width.name] = squares.sqrt()
    return norms
