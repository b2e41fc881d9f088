"""Sparsity by proximal steps, and the weights within a part of a network.

Reference: Yoon et al., "Lifelong Learning with Dynamically Expandable Networks", ICLR 2018, Eqs. 3-5: an L1 norm, the
weights of a subnetwork, and a norm of groups. How we differ: a proximal step is taken after every step of the descent,
so that a weight or a group becomes exactly zero.
"""

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from fxgrow.continual.baselines.connectivity import incoming_change
from fxgrow.continual.ownership import Masks
from fxgrow.coupling import Coupling, Role
from fxgrow.surgery import reshape_along

_TINY = 1e-12
"""No norm is divided by that is smaller."""


def soft_threshold(weight: Tensor, by: float) -> None:
    """The proximal step of ``by`` times the L1 norm: what is smaller becomes zero."""
    weight.copy_(weight.sign() * (weight.abs() - by).clamp(min=0))


def shrink_groups(coupling: Coupling, own: Mapping[str, Tensor], new: Masks, by: float) -> None:
    """The proximal step of ``by`` times the sum of norms, a group being all weights into one ``fresh`` neuron."""
    factors = {
        name: torch.where(new[name], (1 - by / norms.clamp(min=_TINY)).clamp(min=0), 1)
        for name, norms in incoming_change(coupling, own).items()
        if name in new
    }
    for name, axis, factor in _rows(coupling, factors, Role.WRITES, own, 1.0):
        own[name].mul_(reshape_along(factor, axis, own[name].dim()).to(own[name]))


def writer_weights(
    coupling: Coupling, own: Mapping[str, Tensor], leading: Masks
) -> dict[str, Tensor]:
    """The entries that write a neuron on the paths, and read from one if they read."""
    found: dict[str, Tensor] = {}
    for name, axis, mask in _rows(coupling, leading, Role.WRITES, own, 0):
        found[name] = (
            reshape_along(mask, axis, own[name].dim()).expand_as(own[name]).to(own[name].device)
        )
    for name, axis, mask in _rows(coupling, leading, Role.READS, own, 1):
        if name in found:
            found[name] = found[name] & reshape_along(mask, axis, own[name].dim()).to(
                own[name].device
            )
    return found


def _rows(
    coupling: Coupling, values: Mapping[str, Tensor], role: Role, own: Collection[str], other: float
) -> Iterator[tuple[str, int, Tensor]]:
    """Per axis of that role, and per index along it, its neuron's value; ``other`` where that is in no such width."""
    sites = dict.fromkeys(
        s.key
        for width in coupling.widths
        for s in width.sites
        if s.role is role and s.parameter in own
    )
    for key in sites:
        width, neuron = map(
            torch.from_numpy, (coupling.owners[key].width, coupling.owners[key].neuron)
        )
        found: Tensor | None = None
        for number, one in enumerate(coupling.widths):
            if one.name in values:
                found = (
                    torch.full(width.shape, other, dtype=values[one.name].dtype)
                    if found is None
                    else found
                )
                found[width == number] = values[one.name][neuron[width == number]]
        if found is not None:
            yield *key, found
