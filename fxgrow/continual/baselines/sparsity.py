"""Sparsity by proximal steps, and the weights within a part of a network.

Reference: Yoon et al., "Lifelong Learning with Dynamically Expandable Networks", ICLR 2018,
Eqs. 3-5: an L1 norm, the weights of a subnetwork, and a norm of groups. How we differ: a proximal
step is taken after every step of the descent, so that a weight or a group becomes exactly zero.
"""

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from fxgrow.continual.baselines.connectivity import incoming_change
from fxgrow.continual.ownership import Masks
from fxgrow.coupling import Coupling, Owners, Role
from fxgrow.surgery import reshape_along

_TINY = 1e-12
"""The smallest norm that is divided by."""


def soft_threshold(weight: Tensor, by: float) -> None:
    """Take the proximal step of ``by`` times the L1 norm, in place: smaller entries become zero."""
    weight.copy_(weight.sign() * (weight.abs() - by).clamp(min=0))


def shrink_groups(
    coupling: Coupling, parameters: Mapping[str, Tensor], new: Masks, by: float
) -> None:
    """Take the proximal step of ``by`` times the sum of group norms, in place.

    A group is all weights into one new neuron.

    Args:
        coupling: the coupling of the network.
        parameters: its parameters by name.
        new: by name of a width, which of its neurons are new; the others keep their weights.
        by: the length of the step.
    """
    factors: dict[str, Tensor] = {}
    for name, norms in incoming_change(coupling, parameters).items():
        if name in new:
            # prox of by * |g| is g * max(0, 1 - by / |g|)
            shrunk = (1 - by / norms.clamp(min=_TINY)).clamp(min=0)
            factors[name] = torch.where(new[name], shrunk, 1)
    for name, axis, factor in _values_along_axes(coupling, factors, Role.WRITES, parameters, 1.0):
        weight = parameters[name]
        weight.mul_(reshape_along(factor, axis, weight.dim()).to(weight))


def writer_weights(
    coupling: Coupling, parameters: Mapping[str, Tensor], leading: Masks
) -> dict[str, Tensor]:
    """Mark the entries that write a chosen neuron and, if they read neurons, read a chosen one.

    Args:
        coupling: the coupling of the network.
        parameters: its parameters by name.
        leading: by name of a width, which of its neurons are chosen.

    Returns:
        By name of a parameter a mask in its shape; parameters that write no neuron are left out.
    """
    masks: dict[str, Tensor] = {}
    for name, axis, chosen in _values_along_axes(coupling, leading, Role.WRITES, parameters, 0):
        weight = parameters[name]
        along = reshape_along(chosen, axis, weight.dim())
        masks[name] = along.expand_as(weight).to(weight.device)
    for name, axis, chosen in _values_along_axes(coupling, leading, Role.READS, parameters, 1):
        if name in masks:
            weight = parameters[name]
            along = reshape_along(chosen, axis, weight.dim())
            masks[name] = masks[name] & along.to(weight.device)
    return masks


def _values_along_axes(
    coupling: Coupling,
    values: Mapping[str, Tensor],
    role: Role,
    parameters: Collection[str],
    default: float,
) -> Iterator[tuple[str, int, Tensor]]:
    """Spread a value per neuron over every axis of that role.

    Gives the parameter's name, the axis, and for each index along it the value of its neuron,
    ``default`` where it belongs to none of the widths in ``values``.
    """
    keys: dict[tuple[str, int], None] = {}  # a set that keeps its order
    for width in coupling.widths:
        for site in width.sites:
            if site.role is role and site.parameter in parameters:
                keys[site.key] = None
    for key in keys:
        along = _values_along(coupling, values, coupling.owners[key], default)
        if along is not None:
            yield *key, along


def _values_along(
    coupling: Coupling, values: Mapping[str, Tensor], owners: Owners, default: float
) -> Tensor | None:
    """The value of each index's neuron; None if no width has values at all."""
    width = torch.from_numpy(owners.width)
    neuron = torch.from_numpy(owners.neuron)
    along: Tensor | None = None
    for number, candidate in enumerate(coupling.widths):
        if candidate.name not in values:
            continue
        of_width = values[candidate.name]
        # The dtype is that of the first width's values: all have the same.
        if along is None:
            along = torch.full(width.shape, default, dtype=of_width.dtype)
        here = width == number
        along[here] = of_width[neuron[here]]
    return along
