"""Make up for norms where a width under them gets new neurons, by ``coupling.norm_rules``.

Beside its old neurons, which stay as they are, a stream of d neurons has new ones, of which a norm
knows that they are not counted: RMS norm divides by sqrt(sum(x^2) / d). That is the over-grown
graph (``rewrite.norms``), and what updates of parameters are made for. A model has no such norm:
every axis of the stream is multiplied by a power of s, old entries and new ones alike, with
s^2 d the size of the grown stream. Then new entries get what a rule adds to them: the mean of the
old ones, of which they are so far what they are beyond it. An eps that a norm adds to a mean of
what its writers gave is multiplied likewise.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from fxgrow.coupling import Coupling, Fill, SiteRule, WidthId
from fxgrow.surgery import (
    NEW_INDEX,
    Change,
    IndexMap,
    Maps,
    named_tensors,
    random_entries,
    reshape_along,
)

_MEANS = (Fill.MEAN, Fill.WEIGHTED_MEAN)


def scaled_maps(
    coupling: Coupling, changes: Mapping[int, Change], maps: Maps
) -> dict[tuple[str, int], IndexMap]:
    """The same maps, with the old entries of widths under norms times a power of s.

    Args:
        coupling: the widths.
        changes: what happens to each width, by its number.
        maps: the map of every axis that changes.
    """
    scaled = dict(maps)
    for rule, factor in _rules(coupling, changes, maps):
        index_map = maps[rule.key]
        is_old = index_map.source != NEW_INDEX
        scale = torch.where(is_old, index_map.scale * factor, index_map.scale)
        scaled[rule.key] = replace(index_map, scale=scale)
    return scaled


@torch.no_grad()
def compensate_norms(
    module: nn.Module, coupling: Coupling, changes: Mapping[int, Change], maps: Maps
) -> None:
    """Finish the axes of widths under norms, in place.

    Args:
        module: resized by ``scaled_maps``; its new entries are those of the over-grown graph.
        coupling: its widths.
        changes: what happened to each width, by its number.
        maps: the map of every axis that changed.
    """
    tensors = named_tensors(module)
    rules = list(_rules(coupling, changes, maps))
    for rule, factor in rules:
        tensor, places = tensors[rule.key.parameter], maps[rule.key].new
        _multiply(tensor, rule.key.axis, places, factor)
    # A mean is over entries that may be new along another axis, so all have their scale by now.
    for rule, factor in rules:
        tensor, index_map = tensors[rule.key.parameter], maps[rule.key]
        if rule.offset:
            # (w + c) f - c = w f + c (f - 1); what is new is made for a sum of w and c as well.
            tensor.data += rule.offset * (factor - 1)
        if rule.fill in (*_MEANS, Fill.TYPICAL, Fill.ONE):
            old = _old_entries(tensor, rule, index_map)
            _fill(tensor, rule, index_map.new, _added(old, rule, tensors, maps))
    for number, numbers in coupling.norm_numbers.items():
        if number in changes:
            for one in numbers:
                holder = module.get_submodule(one.module)
                value = getattr(holder, one.name) * _growth(changes[number]) ** one.power
                setattr(holder, one.name, value)


def _growth(change: Change) -> float:
    """The s of s^2 d neurons instead of d."""
    return math.sqrt(change.size / len(change.times))


def _rules(
    coupling: Coupling, changes: Mapping[int, Change], maps: Maps
) -> Iterator[tuple[SiteRule, float]]:
    """The rules of the axes that change, each with what its axis is multiplied by."""
    for number, rules in coupling.under_norms.items():
        if number not in changes:
            continue
        growth = _growth(changes[number])
        for rule in rules:
            if rule.key in maps:  # a tied parameter is there under another name
                yield rule, growth**rule.power


def _multiply(tensor: Tensor, axis: int, places: Tensor, factor: float) -> None:
    here = places.to(tensor.device)
    tensor.data.index_copy_(axis, here, tensor.data.index_select(axis, here) * factor)


def _old_entries(tensor: Tensor, rule: SiteRule, index_map: IndexMap) -> Tensor:
    places = (index_map.source != NEW_INDEX).nonzero().reshape(-1)
    return tensor.data.index_select(rule.key.axis, places.to(tensor.device))


def _fill(tensor: Tensor, rule: SiteRule, places: Tensor, added: Tensor) -> None:
    """Put a value into new entries; a mean is added to what they are beyond it."""
    axis, here = rule.key.axis, places.to(tensor.device)
    own = tensor.data.index_select(axis, here)
    values = own + added if rule.fill in _MEANS else added.expand_as(own)
    tensor.data.index_copy_(axis, here, values.to(tensor.dtype))


def _added(
    old: Tensor,
    rule: SiteRule,
    tensors: Mapping[str, Tensor],
    maps: Maps,
) -> Tensor:
    """What the new entries of an axis get, one entry along it.

    Args:
        old: the old entries, scaled.
        rule: of the axis.
        tensors: the parameters, for the weights of a mean.
        maps: the map of every axis that changed.
    """
    if rule.fill not in _MEANS:
        return rule.beyond_mean(old, 1)
    exact = old.double()  # a mean in half precision loses digits
    weighted = exact * _weights(rule, tensors, maps, exact)
    return weighted.mean(rule.key.axis, keepdim=True).to(old.dtype)


def _weights(rule: SiteRule, tensors: Mapping[str, Tensor], maps: Maps, like: Tensor) -> Tensor:
    """What each entry of a mean is multiplied by."""
    if rule.weights is None:
        return like.new_ones(())
    tensor, index_map = tensors[rule.weights.parameter], maps[rule.weights]
    places = (index_map.source != NEW_INDEX).nonzero().reshape(-1).to(tensor.device)
    weights = tensor.detach().index_select(rule.weights.axis, places).to(like).reshape(-1)
    return reshape_along(weights, rule.key.axis, like.dim())


def random_readers(
    module: nn.Module, coupling: Coupling, number: int, count: int, generator: torch.Generator
) -> dict[str, dict[int, Tensor]]:
    """Random entries of what reads new neurons behind a norm, where they are 0.

    Args:
        module: the module before it is resized.
        coupling: its widths.
        number: that of a width under norms.
        count: how many new neurons it gets.
        generator: draws them.

    Returns:
        New entries by parameter and axis.
    """
    tensors = named_tensors(module)
    updates: dict[str, dict[int, Tensor]] = {}
    size = coupling.widths[number].size
    for rule in coupling.under_norms[WidthId(number)]:
        name, axis = rule.key
        if rule.fill is Fill.RANDOM and name in tensors:
            # A weight that reads a concatenation holds every neuron several times.
            places = count * (len(coupling.owners[rule.key].width) // size)
            drawn = random_entries(tensors[name], axis, places, generator)
            updates.setdefault(name, {})[axis] = drawn
    return updates
