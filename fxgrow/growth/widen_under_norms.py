"""Widen what norms run over: the rules of ``coupling.norm_rules``, carried out on a module."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.coupling import AxisKey, Coupling, Fill, SiteRule, set_attributes
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
    size = len(change.times)
    growth = math.sqrt(change.size / size)
    tensors = named_tensors(module)
    maps: dict[tuple[str, int], IndexMap] = {}
    updates = {}
    for rule in rules:
        tensor = tensors.get(rule.key.parameter)
        if tensor is None:  # tied to one that is there under another name
            continue
        maps[rule.key] = _scaled_map(size, change.new, growth**rule.power)
        old = tensor.detach() * growth**rule.power
        new = _new_entries(old, rule, change.new, tensors, generator)
        updates[rule.key.parameter] = ParameterUpdate(new={rule.key.axis: new})
    resize(module, maps, optimizer, treatment)
    set_attributes(module, coupling, {number: change})
    require_sizes_of_torch(module)
    apply_updates(module, maps, updates)
    return maps


def _scaled_map(size: int, count: int, factor: float) -> IndexMap:
    """Old entries times a factor, and new ones behind them."""
    source = torch.cat([torch.arange(size), torch.full((count,), NEW_INDEX)])
    scale = torch.full((size + count,), factor, dtype=torch.float64)
    copy = torch.cat([torch.zeros(size, dtype=torch.long), torch.arange(count)])
    return IndexMap(source, scale, copy)


def _new_entries(
    old: Tensor,
    rule: SiteRule,
    count: int,
    tensors: Mapping[str, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """The new entries of an axis.

    Args:
        old: the parameter, scaled.
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
    exact = old.double()
    if rule.fill is Fill.TYPICAL:
        value = exact.square().mean(axis, keepdim=True).sqrt()
    else:
        value = (exact * _weights(rule, tensors, exact)).mean(axis, keepdim=True)
    return value.to(old.dtype).expand(shape).contiguous()


def _weights(rule: SiteRule, tensors: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """What each entry of a mean is multiplied by."""
    if rule.weights is None:
        return like.new_ones(())
    weights = tensors[rule.weights.parameter].detach().to(like).reshape(-1)
    return reshape_along(weights, rule.key.axis, like.dim())
