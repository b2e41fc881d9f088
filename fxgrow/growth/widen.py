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

from fxgrow.capture import Captured, positional_inputs
from fxgrow.coupling import Coupling, Role, Site, Width, couple
from fxgrow.errors import BudgetError, GrowthError
from fxgrow.growth.emit import ParameterUpdate, emit
from fxgrow.growth.scope import matching_widths, require_growable
from fxgrow.surgery import (
    Change,
    ConfigUpdate,
    IndexMap,
    carrier_entries,
    named_tensors,
    parameter_shapes,
    random_entries,
    restore_on_failure,
    update_config,
)


@dataclass(frozen=True)
class Widened:
    """The wider ``module`` and the IndexMap of every axis (parameter name, axis) that changed.

    ``config``: what became of a Hugging Face style config; None if the model has none.
    """

    module: nn.Module
    index_maps: dict[tuple[str, int], IndexMap]
    config: ConfigUpdate | None = None


def widen(
    model_or_captured: nn.Module | Captured,
    amounts: Mapping[str, int],
    example_inputs: Any = None,
    how: Literal["split", "new"] = "split",
    seed: int = 0,
    inplace: bool = False,
    round_to: int | None = None,
) -> Widened:
    """Add ``amounts[width]`` neurons to each named width; the function stays the same to rounding.

    A name may be a pattern as in ``fnmatch`` (``{"*mlp*": 4}``): it stands for every growable width that it fits and
    that is not named itself. ``round_to=8`` rounds the resulting number of neurons of each named width up to a
    multiple of 8 (then even 0 more may be asked for). ``example_inputs``: a tuple of arguments, a tensor, or a dict of
    keyword arguments; left out, those of the captured model.

    ``how="split"`` copies neurons and shares their outgoing weights; ``how="new"`` adds random neurons with outgoing
    weight zero. ``inplace=True`` changes the given module itself, or leaves it as it was if anything fails; else a copy
    of it (same class) is changed. A Hugging Face model's ``config`` follows if it can (``Widened.config``), so that
    ``save_pretrained`` and ``from_pretrained`` keep the wider model.

    Raises ``GrowthError`` for a width that is unknown or not growable, ``BudgetError`` if no neuron is asked for.
    """
    if how not in WIDENING_RULES:
        raise GrowthError(
            "unknown-plan",
            f"how={how!r} is no way to widen; say one of {', '.join(map(repr, WIDENING_RULES))}",
        )
    model = (
        model_or_captured.model if isinstance(model_or_captured, Captured) else model_or_captured
    )
    inputs = _inputs(model_or_captured, model, example_inputs)
    coupling = couple(model_or_captured, inputs)
    named = round_amounts(coupling, requested_amounts(coupling, amounts), round_to)
    if not any(named.values()):
        raise BudgetError(
            "empty-budget", f"{dict(amounts)} adds no neuron; ask for at least one in some width"
        )
    changes = _changes(coupling, named, WIDENING_RULES[how], random.Random(seed))
    module = model if inplace else copy.deepcopy(model)
    before = parameter_shapes(module)
    fillings = new_neuron_updates(module, coupling, changes, torch.Generator().manual_seed(seed))
    with restore_on_failure(module):
        maps = emit(module, coupling, changes, fillings)
        sizes = ((len(change.times), change.size) for change in changes.values())
        return Widened(module, maps, update_config(module, before, sizes, inputs))


def _inputs(
    model_or_captured: nn.Module | Captured, model: nn.Module, example_inputs: Any
) -> tuple[Any, ...]:
    if example_inputs is None:
        return model_or_captured.example_inputs if isinstance(model_or_captured, Captured) else ()
    return positional_inputs(model, example_inputs)


def requested_amounts(coupling: Coupling, amounts: Mapping[str, int]) -> dict[str, int]:
    """The amount per width; raises for a name or pattern that stands for no growable width."""
    if any(k < 0 for k in amounts.values()):
        raise BudgetError(
            "empty-budget", f"{dict(amounts)} adds no neuron; ask for at least one in some width"
        )
    patterns = {name: k for name, k in amounts.items() if name not in coupling.by_name}
    found = {
        width.name: k
        for pattern, k in patterns.items()
        for width in matching_widths(coupling, pattern)
    }
    exact = {name: k for name, k in amounts.items() if name not in patterns}
    for name in exact:
        require_growable(coupling.by_name[name], name)
    return found | exact


def round_amounts(
    coupling: Coupling, amounts: Mapping[str, int], multiple: int | None
) -> dict[str, int]:
    """The amounts, raised so that each width's resulting size is a ``multiple``."""
    if multiple is None:
        return dict(amounts)
    if multiple < 1:
        raise BudgetError(
            "bad-budget", f"sizes cannot be rounded to multiples of {multiple}; say at least 1"
        )
    return {name: k + -(coupling.by_name[name].size + k) % multiple for name, k in amounts.items()}


def _changes(
    coupling: Coupling, amounts: Mapping[str, int], plan: "SplitRule", rng: random.Random
) -> dict[int, Change]:
    numbers = {width.name: number for number, width in enumerate(coupling.widths)}
    return {numbers[name]: plan(coupling.by_name[name], k, rng) for name, k in amounts.items() if k}


SplitRule = Callable[[Width, int, random.Random], Change]


def _split(width: Width, k: int, rng: random.Random) -> Change:
    """That many copies, spread as evenly as possible, the odd ones at random."""
    times = [1 + k // width.size] * width.size
    for i in rng.sample(range(width.size), k % width.size):
        times[i] += 1
    return Change(tuple(times))


def _new(width: Width, k: int, _: random.Random) -> Change:
    return Change((1,) * width.size, k)


WIDENING_RULES: dict[str, SplitRule] = {"split": _split, "new": _new}


def new_neuron_updates(
    module: nn.Module, coupling: Coupling, changes: Mapping[int, Change], generator: torch.Generator
) -> dict[str, ParameterUpdate]:
    """Random incoming weights (of the spread of the existing ones) and neutral carriers for fresh neurons."""
    found = named_tensors(module)
    new: dict[str, dict[int, Tensor]] = {}
    for number, change in changes.items():
        for site in coupling.widths[number].sites:
            if change.new and site.role is not Role.READS:
                places = _new_entry_count(coupling, site.key, changes)
                values = _entries(module, found[site.parameter], site, places, generator)
                new.setdefault(site.parameter, {})[site.axis] = values
    return {name: ParameterUpdate(new=values) for name, values in new.items()}


def _new_entry_count(
    coupling: Coupling, key: tuple[str, int], changes: Mapping[int, Change]
) -> int:
    """How many fresh entries an axis receives: the occurrences of each width's last neuron times its fresh neurons."""
    owners = coupling.owners[key]
    return sum(
        int(((owners.width == number) & (owners.neuron == len(change.times) - 1)).sum())
        * change.new
        for number, change in changes.items()
    )


def _entries(
    module: nn.Module, tensor: Tensor, site: Site, count: int, generator: torch.Generator
) -> Tensor:
    if site.role is Role.WRITES and tensor.dim() > 1:
        return random_entries(tensor, site.axis, count, generator)
    owner = module.get_submodule(site.parameter.rpartition(".")[0])
    return carrier_entries(owner, site.parameter, tensor, site.axis, count, generator)
