"""Widen a model without changing its function.

Neurons are split as in Net2Net, or new ones get outgoing weights of zero.

Reference: Chen, Goodfellow, Shlens, "Net2Net", ICLR 2016, section 3.1 (wider), here for models of
any structure.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Amount, Count, Seed
from fxgrow.capture import Captured, positional_inputs
from fxgrow.copying import copy_with_optimizers
from fxgrow.coupling import (
    UNDER_NORMS,
    Coupling,
    Role,
    Site,
    Width,
    couple,
    free_for_multiples,
    free_for_new_neurons,
    require_multiple,
)
from fxgrow.errors import GrowthError
from fxgrow.growth.amounts import (
    requested_amounts,
    require_some,
    round_amounts,
)
from fxgrow.growth.data_parallel import require_same_end
from fxgrow.growth.emit import ParameterUpdate, emit
from fxgrow.growth.lineage import (
    Lineage,
    PendingStep,
    pending_step,
    shapes_only,
    width_record,
)
from fxgrow.growth.norm_compensation import random_readers
from fxgrow.growth.preservation import Preservation, culprits, excuse
from fxgrow.growth.size_guard import require_growth_memory
from fxgrow.modes import exclusive_autograd, plain_attention
from fxgrow.sharding import plain_inside, sharing_ranks
from fxgrow.spec import GrowthStep
from fxgrow.surgery import (
    DEFAULT_STATE,
    Change,
    ConfigUpdate,
    GivenOptimizers,
    IndexMap,
    NewEntryRate,
    Optimizers,
    StateRuleName,
    StateTreatment,
    WithOptimizers,
    carrier_entries,
    listed_optimizers,
    named_tensors,
    parameter_shapes,
    random_entries,
    restore_on_failure,
    update_config,
)


@dataclass(frozen=True)
class Widened(WithOptimizers):
    """A wider model.

    Args:
        module: the model, of the same class.
        index_maps: the IndexMap of every axis (parameter name, axis) that changed.
        config: what became of a Hugging Face style config; None if the model has none.
        preservation_error: the largest difference of its output on the example inputs from that of
            the model before, relative to the largest output; None if it was not compared.
        unchecked: why it was not compared (on the meta device there are no values), or what excuses
            a difference ("" if it was and is none).
        optimizers: those that grew along, in the order in which they were given; ``optimizer`` is
            the one of them.
        example_inputs: the arguments that it was widened with; ``fxgrow.save`` captures it on them.
        lineage: the growth steps behind it, which ``fxgrow.save`` writes down.

    Example:
        >>> wider = fxgrow.widen(model, {"layer1.0.conv1": 16}, inputs)
        >>> wider.module.layer1[0].conv1.out_channels
    """

    module: nn.Module
    index_maps: dict[tuple[str, int], IndexMap]
    config: ConfigUpdate | None = None
    preservation_error: float | None = None
    unchecked: str = ""
    optimizers: Optimizers = ()
    example_inputs: tuple[Any, ...] | None = field(default=None, repr=False)
    lineage: Lineage = field(default_factory=Lineage, repr=False)


@checked
def widen(
    model_or_captured: nn.Module | Captured,
    amounts: Mapping[str, Amount],
    example_inputs: Any = None,
    how: Literal["split", "new"] = "split",
    seed: Seed = 0,
    inplace: bool = False,
    round_to: Count | None = None,
    examples: Sequence[Any] = (),
    optimizer: GivenOptimizers = None,
    state: StateRuleName = DEFAULT_STATE,
    new_entry_rate: NewEntryRate | None = None,
    history: Lineage | Sequence[GrowthStep] = (),
) -> Widened:
    """Add neurons to some widths; the function stays the same to rounding.

    A width under layer norms or RMS norms grows if asked for by its own name: by any number of new
    neurons, or by splits in whole multiples. Both models are run on the example inputs and
    compared; if they differ, nothing has changed. A ``config`` follows.

    Args:
        model_or_captured: the model, or what ``fxgrow.capture`` gave for it.
        amounts: neurons to add by name of the width. A pattern as in ``fnmatch`` stands for every
            growable width that it matches and that is not named itself.
        example_inputs: in one of the forms of an input; left out, those of the captured model.
        how: ``"split"`` copies neurons and shares their outgoing weights; ``"new"`` adds random
            neurons with outgoing weight zero.
        seed: of what is split and of the new weights.
        inplace: change model and optimizers themselves, all or nothing; else copies.
        round_to: round the size of each named width up to a multiple of it (0 more may do then).
        examples: more example inputs, to reach what one does not (experts, the heads of other
            tasks); what can grow in all of them grows, and the models are compared on all.
        optimizer, state, new_entry_rate: as for ``fxgrow.grow``.
        history: earlier growth steps: a spec's ``history``, or the ``lineage`` of a result.

    Returns:
        The wider model.

    Raises:
        GrowthError: ``unknown-width``, the refusal code of a width that cannot grow, or
            ``unknown-plan`` for another ``how``; ``broken-promise`` if the function would change.
        BudgetError: ``empty-budget`` if no neuron is asked for, ``bad-budget`` for ``round_to``.
        ModelError: the model does not run on its example inputs.

    Example:
        >>> wider = fxgrow.widen(model, {"layer1.0.conv1": 16, "*mlp*": 4}, inputs, round_to=8)
    """
    rule = _widening_rule(how)
    model, given = model_and_examples(model_or_captured, example_inputs, examples)
    growing = _Growing(listed_optimizers(optimizer), StateTreatment(state, new_entry_rate))
    inside = plain_inside(model, growing.optimizers)
    with inside as sharded, exclusive_autograd(), sharing_ranks(model).together():
        growing.require(model)
        coupling = _coupling_for(model_or_captured, given, amounts, how, round_to)
        changes = _changes(coupling, _counts(coupling, amounts, round_to), rule, seed)
        lineage = Lineage.of(model, history)
        widening = _Widening(coupling, changes, given, seed, growing, how, lineage)
        widened = _checked(widening, model, inplace)
        sharded.becomes(widened.module, widened.optimizers, inplace=inplace)
    return widened


@dataclass(frozen=True)
class _Growing:
    """The optimizers that grow along, if any, and what becomes of their state."""

    optimizers: Optimizers
    treatment: StateTreatment

    def require(self, model: nn.Module) -> None:
        """Check that they can."""
        self.treatment.require_used(self.optimizers, "widen()")
        self.treatment.require(self.optimizers, model)


@dataclass(frozen=True)
class _Widening:
    """What is to be done to a model.

    ``changes``: by the name of the width.
    """

    coupling: Coupling
    changes: Mapping[str, Change]
    examples: tuple[tuple[Any, ...], ...]
    seed: int
    growing: _Growing
    how: str = "new"
    lineage: Lineage = field(default_factory=Lineage)

    def require_memory(self, model: nn.Module) -> None:
        """Check that the wider model fits into memory, before any of it is taken."""
        names = tuple(self.changes)
        require_growth_memory(
            model,
            self.coupling,
            self._by_number(names),
            self.examples[0],
            lambda bare: self.carry_out(bare, names),
        )

    def _by_number(self, names: Sequence[str]) -> dict[int, Change]:
        numbers = self.coupling.number_of
        return {numbers[name]: self.changes[name] for name in names}

    def carry_out(
        self, module: nn.Module, names: Sequence[str], optimizers: Optimizers = ()
    ) -> dict[tuple[str, int], IndexMap]:
        """Widen a module in place by some of the widths."""
        changes = self._by_number(names)
        under_norms: dict[int, Change] = {}
        for number in changes.keys() & self.coupling.under_norms.keys():
            under_norms[number] = changes.pop(number)
        generator = torch.Generator().manual_seed(self.seed)
        updates = new_neuron_updates(module, self.coupling, changes, generator)
        treatment = self.growing.treatment
        maps = emit(
            module,
            self.coupling,
            changes,
            updates,
            optimizers,
            treatment=treatment,
            twin_noise=generator,
        )
        for number, change in sorted(under_norms.items()):
            # After the others, whose new entries are drawn for the sizes that there were.
            readers = random_readers(module, self.coupling, number, change.new, generator)
            drawn = {name: ParameterUpdate(new=entries) for name, entries in readers.items()}
            changed = {number: change}
            maps |= emit(module, self.coupling, changed, drawn, optimizers, treatment=treatment)
        return maps

    def applied(self, module: nn.Module, optimizers: Optimizers, before: Preservation) -> Widened:
        """Widen a module in place, or leave it as it was if it does not compute the same."""
        shapes_before, parent = parameter_shapes(module), shapes_only(module)
        sizes = ((len(change.times), change.size) for change in self.changes.values())
        with restore_on_failure(module, optimizers):
            maps = self.carry_out(module, tuple(self.changes), optimizers)
            require_same_end(module, sharing_ranks(module))
            config = update_config(module, shapes_before, sizes, self.examples[0])
            error = before.require(module)
        lineage = self.lineage.then(self._step(parent, error))
        inputs = self.examples[0]
        return Widened(module, maps, config, error, before.skipped, optimizers, inputs, lineage)

    def _step(self, parent: nn.Module | None, error: float | None) -> PendingStep | None:
        """What was done, for the history."""
        widths = []
        for name, change in self.changes.items():
            widths.append(width_record(self.coupling.by_name[name], change))
        settings = {"how": self.how, "seed": self.seed}
        measured = {"preservation_error": error}
        return pending_step(parent, "widen", settings, widths=widths, measured=measured)


# Fused attention gives other numbers at padding as soon as gradients are asked for.
@plain_attention()
def _checked(widening: _Widening, model: nn.Module, inplace: bool) -> Widened:
    """Widen a model or a copy of it, and compare it with what it was."""
    ranks = sharing_ranks(model)
    ranks.require_same("widths to widen", repr((widening.changes, widening.seed)).encode())
    widening.require_memory(model)
    before = Preservation.of(model, *widening.examples)
    module, optimizers = model, widening.growing.optimizers
    if not inplace:
        module, optimizers = copy_with_optimizers(model, optimizers)
    try:
        return widening.applied(module, optimizers, before)
    except GrowthError as error:
        if error.code != "broken-promise":
            raise
        names = tuple(widening.changes)
        reason = excuse(before, model, lambda copied: widening.carry_out(copied, names))
        if not reason:
            broken_by = culprits(before, model, names, widening.carry_out)
            raise _broken_promise(widening.coupling, model, broken_by, error) from error
    return widening.applied(module, optimizers, replace(before, skipped=reason))


def _broken_promise(
    coupling: Coupling, model: nn.Module, names: Sequence[str], error: GrowthError
) -> GrowthError:
    kept = [width.name for width in coupling.widths if width.growable and width.name not in names]
    others = f"; leave them out and widen others ({_listed(kept)})" if kept else ""
    return GrowthError(
        "broken-promise",
        f"{type(model).__name__} computes something else with more neurons in {_listed(names)}: "
        f"{error}; its code probably computes with the size of that width, branches on it, or "
        f"multiplies a weight with itself; nothing was changed{others}",
    )


_MAX_LISTED = 8


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(map(repr, names[:_MAX_LISTED]))
    hidden = len(names) - _MAX_LISTED
    return f"{listed} and {hidden} more" if hidden > 0 else listed


def model_and_examples(
    model_or_captured: nn.Module | Captured, example_inputs: Any, examples: Sequence[Any]
) -> tuple[nn.Module, tuple[tuple[Any, ...], ...]]:
    """The model itself, and each example as positional arguments."""
    model: nn.Module
    inputs: tuple[Any, ...] | None = None
    if isinstance(model_or_captured, Captured):
        model, inputs = model_or_captured.model, model_or_captured.example_inputs
    else:
        model = model_or_captured
    if example_inputs is not None:
        inputs = positional_inputs(model, example_inputs)
    given = [positional_inputs(model, example) for example in examples]
    if inputs is not None or not given:
        given.insert(0, inputs or ())
    return model, tuple(given)


def _names_under_norms(coupling: Coupling, amounts: Mapping[str, int]) -> list[str]:
    """The widths that are asked for by name and refused because of norms."""
    names = []
    for name in amounts:
        width = coupling.by_name.get(name)
        if width is not None and width.refusal is not None and width.refusal.code in UNDER_NORMS:
            names.append(name)
    return names


def _coupling_for(
    model_or_captured: nn.Module | Captured,
    examples: Sequence[Any],
    amounts: Mapping[str, int],
    how: str,
    round_to: int | None,
) -> Coupling:
    """The widths of the model; those under norms that are asked for by name can grow."""
    coupling = couple(model_or_captured, examples[0], examples=examples[1:])
    names = _names_under_norms(coupling, amounts)
    if not names:
        return coupling
    if how == "new":
        return free_for_new_neurons(model_or_captured, coupling, names, examples)
    asked = {name: amounts[name] for name in names}
    for name, count in round_amounts(coupling, asked, round_to).items():
        require_multiple(coupling.by_name[name], count)
    return free_for_multiples(model_or_captured, coupling, names, examples)


def _counts(coupling: Coupling, amounts: Mapping[str, int], round_to: int | None) -> dict[str, int]:
    """How many neurons each width gets; some must get any."""
    counts = round_amounts(coupling, requested_amounts(coupling, amounts), round_to)
    require_some(counts, amounts)
    return counts


WideningRule = Callable[[Width, int, random.Random], Change]
"""What happens to a width that gets so many neurons more."""


def _changes(
    coupling: Coupling, amounts: Mapping[str, int], rule: WideningRule, seed: int
) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    rng = random.Random(seed)
    for name, count in amounts.items():
        if count:
            changes[name] = rule(coupling.by_name[name], count, rng)
    return changes


def _split(width: Width, count: int, rng: random.Random) -> Change:
    """Copy neurons, as evenly as possible, the odd ones at random."""
    times = [1 + count // width.size] * width.size
    for neuron in rng.sample(range(width.size), count % width.size):
        times[neuron] += 1
    return Change(tuple(times))


def _new(width: Width, count: int, _: random.Random) -> Change:
    return Change((1,) * width.size, count)


WIDENING_RULES: dict[str, WideningRule] = {"split": _split, "new": _new}


def _widening_rule(how: str) -> WideningRule:
    if how not in WIDENING_RULES:
        known = ", ".join(map(repr, WIDENING_RULES))
        raise GrowthError("unknown-plan", f"how={how!r} is no way to widen; say one of {known}")
    return WIDENING_RULES[how]


def new_neuron_updates(
    module: nn.Module, coupling: Coupling, changes: Mapping[int, Change], generator: torch.Generator
) -> dict[str, ParameterUpdate]:
    """Draw what new neurons start from; their outgoing weights are zero.

    Args:
        module: the module before it is resized.
        coupling: its widths.
        changes: what happens to each width, by its number.
        generator: of the random weights.

    Returns:
        Incoming weights with the spread of the existing ones, and neutral values in parameters that
        carry the neurons (batch norms, scales).
    """
    tensors = named_tensors(module)
    new: dict[str, dict[int, Tensor]] = {}
    for number, change in changes.items():
        width = coupling.widths[number]
        for site in width.sites:
            if change.new and site.role is not Role.READS:
                count = _num_new_entries(coupling, site.key, changes)
                tensor = tensors[site.parameter]
                values = _new_entries(module, tensor, site, count, generator, width.begun)
                new.setdefault(site.parameter, {})[site.axis] = values
    return {name: ParameterUpdate(new=values) for name, values in new.items()}


def _num_new_entries(
    coupling: Coupling, key: tuple[str, int], changes: Mapping[int, Change]
) -> int:
    """How many new entries an axis receives: new neurons follow each place of the last neuron."""
    owners = coupling.owners[key]
    total = 0
    for number, change in changes.items():
        last_neuron = len(change.times) - 1
        is_last = (owners.width == number) & (owners.neuron == last_neuron)
        total += int(is_last.sum()) * change.new
    return total


def _new_entries(
    module: nn.Module,
    tensor: Tensor,
    site: Site,
    count: int,
    generator: torch.Generator,
    begun: bool,
) -> Tensor:
    if site.role is Role.WRITES and tensor.dim() > 1:
        return random_entries(tensor, site.axis, count, generator)
    owner = module.get_submodule(site.parameter.rpartition(".")[0])
    return carrier_entries(owner, site.parameter, tensor, site.axis, count, generator, begun)
