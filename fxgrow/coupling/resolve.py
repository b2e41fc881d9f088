"""From what was observed to a coupling that a trial growth confirms.

A trial that fails shows what cannot grow as it was assumed to. Before that is given up, two
workarounds are tried: numbers that the model's own code holds in attributes (``self.num_heads``)
follow the neurons, and neurons whose copies arrive elsewhere get their order from a run of the
grown model. A workaround is kept if the next trial no longer fails because of the same neurons.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from torch import nn

from fxgrow.coupling.grids import Direction
from fxgrow.coupling.labels import Ints, Pin, concatenated
from fxgrow.coupling.patterns import Patterns
from fxgrow.coupling.size_checks import size_failure
from fxgrow.coupling.trial import TrialFailure, trial_growth
from fxgrow.coupling.unreached import check_unreached, follow_siblings
from fxgrow.coupling.values import Context, Grid, Observed
from fxgrow.coupling.widths import (
    Coupling,
    NeuronClasses,
    SizeAttributeGuess,
    Workarounds,
    build_widths,
    classify,
)
from fxgrow.errors import InternalError

_MAX_ATTRIBUTES = 2
"""How many attributes of one kind of module may follow together (heads, and heads x head size)."""

GridDirection = tuple[Grid, int]


@dataclass(frozen=True)
class _Assumptions:
    """What is given up, and the workarounds in use, so far."""

    banned: frozenset[Direction] = frozenset()
    pins: tuple[Pin, ...] = ()
    workarounds: Workarounds = field(default_factory=Workarounds)

    def giving_up(self, failure: TrialFailure) -> "_Assumptions":
        """These assumptions, without what a trial shows to be impossible."""
        banned = self.banned | failure.banned
        return replace(self, banned=banned, pins=(*self.pins, *failure.pins))

    def with_mixed(self, mixed: Ints) -> "_Assumptions":
        """These assumptions, and that the order of the labels ``mixed`` is found by a run."""
        return replace(self, workarounds=replace(self.workarounds, mixed=mixed))

    def with_attributes(self, guesses: Sequence[SizeAttributeGuess]) -> "_Assumptions":
        """These assumptions, and that more attributes follow their neurons."""
        attributes = (*self.workarounds.attributes, *guesses)
        return replace(self, workarounds=replace(self.workarounds, attributes=attributes))


@dataclass(frozen=True)
class _Attempt:
    """One trial: what it assumed, the coupling that follows from it, and how the trial failed."""

    assumptions: _Assumptions
    coupling: Coupling
    failure: TrialFailure | None


@dataclass(frozen=True)
class _Setting:
    """What every attempt starts from.

    Args:
        ctx: what was observed.
        subjects: the model with each example.
        patterns: what the user wants left alone.
        followed: the modules that no example reaches, but that follow a sibling.
    """

    ctx: Context
    subjects: Sequence[Observed]
    patterns: Patterns
    followed: Mapping[str, str]

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self.subjects[0].model


def resolve_coupling(ctx: Context, subjects: Sequence[Observed], patterns: Patterns) -> Coupling:
    """Find a coupling that a trial growth confirms.

    Args:
        ctx: what was observed.
        subjects: the model with each example.
        patterns: what the user wants left alone.

    Returns:
        The neurons of the model, refused where no trial growth succeeds.

    Raises:
        InternalError: if every trial of a bounded number of them fails.
    """
    followed = follow_siblings(ctx, subjects[0].model)
    setting = _Setting(ctx, subjects, patterns, followed)
    attempt = _attempt(setting, _Assumptions())
    # Every failed trial gives up a direction of a grid, a reshape, or some labels of a size.
    bound = len(ctx.grids) * 3 + len(ctx.shape_events) + len(ctx.size_log.reads) + len(ctx.axes) + 3
    for _ in range(bound):
        if attempt.failure is None:
            return attempt.coupling
        attempt = _next_attempt(setting, attempt.assumptions, attempt.failure)
    raise InternalError(f"the trial growth of {type(setting.model).__name__} never succeeds")


def _attempt(setting: _Setting, assumptions: _Assumptions) -> _Attempt:
    ctx = setting.ctx
    classes = classify(ctx, assumptions.banned, assumptions.pins)
    coupling = build_widths(
        ctx, classes, setting.patterns, setting.subjects[0], assumptions.workarounds
    )
    report = check_unreached(ctx, classes, coupling, setting.followed)
    coupling = replace(coupling, unreached=report.unreached)
    return _Attempt(assumptions, coupling, _failure(setting, classes, coupling, report.pins))


def _failure(
    setting: _Setting, classes: NeuronClasses, coupling: Coupling, unreached: tuple[Pin, ...]
) -> TrialFailure | None:
    """What is impossible, the cheapest checks first."""
    if unreached:
        return TrialFailure(pins=unreached, is_final=True)
    impossible = size_failure(setting.ctx, classes, coupling)
    if impossible is not None:
        return TrialFailure(impossible.banned, impossible.pins, is_final=True)
    for subject in setting.subjects:
        failure = trial_growth(subject, setting.ctx, classes, coupling)
        if failure is not None:
            return failure
    return None


def _next_attempt(setting: _Setting, assumptions: _Assumptions, failure: TrialFailure) -> _Attempt:
    """The first workaround that helps; if none does, give up what the trial failed with."""
    ctx = setting.ctx
    candidates = () if failure.is_final else _workarounds(ctx, setting.model, assumptions, failure)
    for candidate in candidates:
        attempt = _attempt(setting, candidate)
        if attempt.failure is not None and attempt.failure.is_final:
            continue
        if not _same_failure(ctx, failure, attempt.failure):
            return attempt
    return _attempt(setting, assumptions.giving_up(failure))


def _workarounds(
    ctx: Context, model: nn.Module, assumptions: _Assumptions, failure: TrialFailure
) -> Iterator[_Assumptions]:
    """What else could be assumed, the likeliest first."""
    known = assumptions.workarounds
    mixed = failure.mixed
    if len(mixed) and not ctx.numbers and not np.isin(mixed, known.mixed).all():
        yield assumptions.with_mixed(np.union1d(known.mixed, mixed))
    # An attribute that follows one width already cannot follow another.
    in_use = _attribute_names(known.attributes)
    for guesses in _grid_size_guesses(ctx, model, failure):
        if in_use.isdisjoint(_attribute_names(guesses)):
            yield assumptions.with_attributes(guesses)
    for guesses in _parameter_size_guesses(ctx, model, failure):
        if in_use.isdisjoint(_attribute_names(guesses)):
            yield assumptions.with_attributes(guesses)


def _attribute_names(guesses: Sequence[SizeAttributeGuess]) -> set[tuple[str, str]]:
    return {(guess.module, guess.name) for guess in guesses}


def _grid_size_guesses(
    ctx: Context, model: nn.Module, failure: TrialFailure
) -> Iterator[list[SizeAttributeGuess]]:
    """The attributes that hold a banned grid's size along its direction, or that of the whole grid.

    They are those of the modules that reshape it, alone and in pairs, the same ones in all modules
    of a kind.
    """
    modules = dict(model.named_modules())
    banned = _banned_in_user_code(ctx, modules, failure)
    if not banned:
        return
    kind = type(modules[banned[0][0].module])
    of_kind = [(grid, d) for grid, d in banned if type(modules[grid.module]) is kind]
    names = sorted(_common_size_attributes(modules, of_kind))  # the same order in every run
    for count in range(1, _MAX_ATTRIBUTES + 1):
        for combination in combinations(names, count):
            guesses = []
            for grid, direction in of_kind:
                labels = grid.factors[direction]
                for name in combination:
                    guesses.append(SizeAttributeGuess(grid.module, name, labels))
            yield guesses


def _banned_in_user_code(
    ctx: Context, modules: dict[str, nn.Module], failure: TrialFailure
) -> list[GridDirection]:
    """The banned directions of grids that modules of the user's own make."""
    banned = []
    for number, direction in sorted(failure.banned):
        module = modules.get(ctx.grids[number].module)
        if module is not None and not _is_torch_module(module):
            banned.append((ctx.grids[number], direction))
    return banned


def _common_size_attributes(
    modules: dict[str, nn.Module], grids: Sequence[GridDirection]
) -> set[str]:
    """Names of the attributes that hold a size of its grid in every one of the modules."""
    names_of_each = []
    for grid, direction in grids:
        sizes = len(grid.factors[direction]), grid.joint.size
        attributes = _integers(modules[grid.module])
        names_of_each.append({name for name, value in attributes if value in sizes})
    return set.intersection(*names_of_each)


def _parameter_size_guesses(
    ctx: Context, model: nn.Module, failure: TrialFailure
) -> Iterator[list[SizeAttributeGuess]]:
    """The attributes that repeat a size of their own module's parameter (``nf`` of ``Conv1D``).

    They are those of the module that failed, the same one for the same axis in all modules of its
    kind.
    """
    modules = dict(model.named_modules())
    of_kind = _kind_of_failed_modules(modules, failure)
    # Guesses by (name of the attribute, name of the parameter in its module, axis).
    guesses: dict[tuple[str, str, int], list[SizeAttributeGuess]] = defaultdict(list)
    for axis in ctx.axes:
        path, _, leaf = axis.parameter.rpartition(".")
        if path not in of_kind:
            continue
        for name, value in _integers(modules[path]):
            if value == len(axis.labels):
                guess = SizeAttributeGuess(path, name, axis.labels)
                guesses[name, leaf, axis.axis].append(guess)
    for _, same_axis in sorted(guesses.items()):
        # A coincidence in one module would not hold in all of its kind.
        if len(same_axis) == len(of_kind):
            yield same_axis


def _kind_of_failed_modules(modules: dict[str, nn.Module], failure: TrialFailure) -> set[str]:
    """Paths of the modules of the kind that failed, if it is the user's own."""
    kinds = set()
    for pin in failure.pins:
        if pin.node in modules and not _is_torch_module(modules[pin.node]):
            kinds.add(type(modules[pin.node]))
    return {path for path, module in modules.items() if type(module) in kinds}


def _integers(module: nn.Module) -> list[tuple[str, int]]:
    """The attributes that hold an integer; a bool is none."""
    return [(name, value) for name, value in vars(module).items() if type(value) is int]


def _is_torch_module(module: nn.Module) -> bool:
    """Whether it is one of torch's own: their sizes are in the table of ``surgery.attributes``."""
    return type(module).__module__.startswith("torch.")


def _same_failure(ctx: Context, before: TrialFailure, after: TrialFailure | None) -> bool:
    """Whether a trial fails because of some neuron that the one before failed with."""
    if after is None or _failed_modules(after) != _failed_modules(before):
        return False
    return bool(np.isin(_failed_labels(ctx, after), _failed_labels(ctx, before)).any())


def _failed_modules(failure: TrialFailure) -> set[str]:
    """The modules in which a trial failed, where that is known."""
    return {pin.node for pin in failure.pins if pin.node}


def _failed_labels(ctx: Context, failure: TrialFailure) -> Ints:
    labels = [ctx.grids[number].joint.reshape(-1) for number, _ in failure.banned]
    labels += [pin.labels for pin in failure.pins]
    return concatenated(labels)
