"""Widen what norms run over: the rules of ``coupling.norm_rules``, carried out on a module."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.coupling import Coupling, Fill, SiteRule, change_maps, set_attributes
from fxgrow.growth.emit import ParameterUpdate, apply_updates
from fxgrow.surgery import (
    NEW_INDEX,
    Change,
    IndexMap,
    StateTreatment,
    named_tensors,
    random_entries,
    require_sizes_of_torch,
    reshape_along,
    resize,
)


@torch.no_grad()
def widen_under_norms(
    module: nn.Module,
    coupling: Coupling,
    number: int,
    change: Change,
    rules: Sequence[SiteRule],
    generator: torch.Generator,
    optimizer: Optimizer | None,
    treatment: StateTreatment,
) -> dict[tuple[str, int], IndexMap]:
    """Add new neurons to one width under norms, in place.

    Args:
        module: the module that ``coupling`` describes.
        coupling: its widths.
        number: that of the width.
        change: how many new neurons it gets.
        rules: how each of its axes grows.
        generator: of random entries.
        optimizer: its state is resized along with the parameters.
        treatment: what becomes of that state.

    Returns:
        The IndexMap of every axis that changed.
    """
    growth = math.sqrt(change.size / len(change.times))
    # The maps in the standard order; nothing splits, so they do not scale.
    plain = change_maps(coupling, {number: change})
    tensors = named_tensors(module)
    maps: dict[tuple[str, int], IndexMap] = {}
    updates, shifts = {}, {}
    for rule in rules:
        name, axis = rule.key
        if name not in tensors:  # tied to one that is there under another name
            continue
        factor = growth**rule.power
        maps[rule.key] = _scaled(plain[rule.key], factor)
        shift = rule.offset * (factor - 1)  # (w + c) f - c = w f + c (f - 1)
        old = tensors[name].detach() * factor + shift
        new = _new_entries(old, rule, len(plain[rule.key].new), tensors, generator)
        updates[name] = ParameterUpdate(new={axis: new - shift})
        shifts[name] = shift
    # All new entries are known by now: resizing replaces what they are computed from.
    resize(module, maps, optimizer, treatment)
    set_attributes(module, coupling, {number: change})
    require_sizes_of_torch(module)
    apply_updates(module, maps, updates)
    # After the new entries, to which it is added as well.
    for name, shift in shifts.items():
        if shift:
            named_tensors(module)[name].data += shift
    return maps


def _scaled(index_map: IndexMap, factor: float) -> IndexMap:
    """The same map with old entries times a factor."""
    is_old = index_map.source != NEW_INDEX
    scale = torch.where(is_old, index_map.scale * factor, index_map.scale)
    return replace(index_map, scale=scale)


def _new_entries(
    old: Tensor,
    rule: SiteRule,
    count: int,
    tensors: Mapping[str, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """The new entries of an axis.

    Args:
        old: the parameter as the old neurons have it from now on.
        rule: of the axis.
        count: how many entries.
        tensors: the parameters as they were, for the weights of a mean.
        generator: of random entries.
    """
    axis = rule.key.axis
    shape = list(old.shape)
    shape[axis] = count
    if rule.fill is Fill.RANDOM:
        return random_entries(old, axis, count, generator)
    if rule.fill in (Fill.ZERO, Fill.ONE):
        return old.new_full(shape, float(rule.fill is Fill.ONE))
    exact = old.double()  # a mean in half precision loses digits
    if rule.fill is Fill.TYPICAL:
        used = exact + rule.offset
        value = used.square().mean(axis, keepdim=True).sqrt() - rule.offset
    else:
        value = (exact * _weights(rule, tensors, exact)).mean(axis, keepdim=True)
    return value.to(old.dtype).expand(shape).contiguous()


def _weights(rule: SiteRule, tensors: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """What each entry of a mean is multiplied by."""
    if rule.weights is None:
        return like.new_ones(())
    weights = tensors[rule.weights.parameter].detach().to(like).reshape(-1)
    return reshape_along(weights, rule.key.axis, like.dim())
