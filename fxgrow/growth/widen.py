"""Widen a model without changing its function: Net2Net's split, or new neurons whose outgoing weight is zero.

Reference: Chen, Goodfellow, Shlens, "Net2Net", ICLR 2016, section 3.1 (wider), for models of any structure.
"""

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fxgrow.capture import Captured
from fxgrow.coupling import Coupling, Role, Site, Width, couple
from fxgrow.errors import BudgetError, GrowthError
from fxgrow.growth.emit import Filling, emit
from fxgrow.surgery.fresh import carrier_entries, random_entries
from fxgrow.surgery.index_map import Change, IndexMap
from fxgrow.surgery.resize import tensors


@dataclass(frozen=True)
class Widened:
    """The wider ``module`` and the IndexMap of every axis (parameter name, axis) that changed."""

    module: nn.Module
    index_maps: dict[tuple[str, int], IndexMap]


def widen(
    model_or_captured: nn.Module | Captured,
    amounts: Mapping[str, int],
    example_inputs: tuple[Any, ...] | None = None,
    how: Literal["split", "new"] = "split",
    seed: int = 0,
    inplace: bool = False,
) -> Widened:
    """Add ``amounts[width]`` neurons to each named width; the function stays the same to rounding.

    ``how="split"`` copies neurons and shares their outgoing weights; ``how="new"`` adds random neurons with outgoing
    weight zero. ``inplace=True`` changes the given module itself, else a copy of it (same class). Raises
    ``GrowthError`` for a width that is unknown or not growable, ``BudgetError`` if no neuron is asked for.
    """
    if how not in PLANS:
        raise GrowthError("unknown-plan", f"how={how!r} is no way to widen; say one of {', '.join(map(repr, PLANS))}")
    model = model_or_captured.model if isinstance(model_or_captured, Captured) else model_or_captured
    coupling = couple(model_or_captured, example_inputs)
    changes = _changes(coupling, amounts, PLANS[how], random.Random(seed))
    module = model if inplace else copy.deepcopy(model)
    fillings = fresh_fillings(module, coupling, changes, torch.Generator().manual_seed(seed))
    return Widened(module, emit(module, coupling, changes, fillings))


def _changes(coupling: Coupling, amounts: Mapping[str, int], plan: "Plan", rng: random.Random) -> dict[int, Change]:
    if not any(amounts.values()) or min(amounts.values()) < 0:
        raise BudgetError("empty-budget", f"{dict(amounts)} adds no neuron; ask for at least one in some width")
    for name in amounts:
        width = coupling.by_name.get(name)
        if width is None:
            known = ", ".join(w.name for w in coupling.widths[:8])
            raise GrowthError("unknown-width", f"there is no width {name!r}; the model's widths are {known}, ...")
        if width.refusal:
            raise GrowthError(width.refusal.code, f"width {name!r} cannot grow: {width.refusal.reason}")
    numbers = {width.name: number for number, width in enumerate(coupling.widths)}
    return {numbers[name]: plan(coupling.by_name[name], k, rng) for name, k in amounts.items() if k}


Plan = Callable[[Width, int, random.Random], Change]


def _split(width: Width, k: int, rng: random.Random) -> Change:
    """That many copies, spread as evenly as possible, the odd ones at random."""
    times = [1 + k // width.size] * width.size
    for i in rng.sample(range(width.size), k % width.size):
        times[i] += 1
    return Change(tuple(times))


def _new(width: Width, k: int, _: random.Random) -> Change:
    return Change((1,) * width.size, k)


PLANS: dict[str, Plan] = {"split": _split, "new": _new}


def fresh_fillings(
    module: nn.Module, coupling: Coupling, changes: Mapping[int, Change], generator: torch.Generator
) -> dict[str, Filling]:
    """Random incoming weights (of the spread of the existing ones) and neutral carriers for fresh neurons."""
    found = tensors(module)
    fresh: dict[str, dict[int, Tensor]] = {}
    for number, change in changes.items():
        for site in coupling.widths[number].sites:
            if change.fresh and site.role is not Role.READS:
                places = _fresh_places(coupling, site.key, changes)
                values = _entries(module, found[site.parameter], site, places, generator)
                fresh.setdefault(site.parameter, {})[site.axis] = values
    return {name: Filling(fresh=values) for name, values in fresh.items()}


def _fresh_places(coupling: Coupling, key: tuple[str, int], changes: Mapping[int, Change]) -> int:
    """How many fresh entries an axis receives: the occurrences of each width's last neuron times its fresh neurons."""
    owners = coupling.owners[key]
    return sum(
        int(((owners.width == number) & (owners.neuron == len(change.times) - 1)).sum()) * change.fresh
        for number, change in changes.items()
    )


def _entries(module: nn.Module, tensor: Tensor, site: Site, count: int, generator: torch.Generator) -> Tensor:
    if site.role is Role.WRITES and tensor.dim() > 1:
        return random_entries(tensor, site.axis, count, generator)
    owner = module.get_submodule(site.parameter.rpartition(".")[0])
    return carrier_entries(owner, site.parameter, tensor, site.axis, count, generator)
