"""From what was observed to a coupling that a trial growth confirms.

A trial that fails shows what cannot grow as it was assumed to. Before that is given up, two
workarounds are tried: numbers that the model's own code holds in attributes (``self.num_heads``)
follow the neurons, and neurons whose copies arrive elsewhere get their order from a run of the
grown model. A workaround is kept if the next trial no longer fails because of the same neurons.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from torch import nn

from fxgrow.coupling.attribute_guesses import (
    Keys,
    attribute_guesses,
    confirmed_records,
    failed_classes,
)
from fxgrow.coupling.blame import RunFailure, WidthLabels
from fxgrow.coupling.context import Context, Observed
from fxgrow.coupling.grids import Direction
from fxgrow.coupling.keys import AxisKey
from fxgrow.coupling.labels import Ints, Pin, components, concatenated
from fxgrow.coupling.neuron_classes import NeuronClasses, classify
from fxgrow.coupling.norm_rules import UNDER_NORMS
from fxgrow.coupling.patterns import Patterns
from fxgrow.coupling.size_checks import size_failure
from fxgrow.coupling.size_numbers import SizeAttributeGuess, SizeUse
from fxgrow.coupling.size_records import SizeRecord
from fxgrow.coupling.trace import observe
from fxgrow.coupling.trial import Reach, Trial, TrialFailure
from fxgrow.coupling.unreached import check_unreached, follow_siblings
from fxgrow.coupling.width_building import Workarounds, build_widths, size_attributes
from fxgrow.coupling.widths import Coupling
from fxgrow.errors import InternalError


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
    """One trial: what it assumed, what follows from that, and how it failed, on which example."""

    assumptions: _Assumptions
    classes: NeuronClasses
    coupling: Coupling
    subject: Observed
    failure: TrialFailure | None


@dataclass(frozen=True)
class _Setting:
    """What every attempt starts from.

    Args:
        ctx: what was observed.
        examples: what was observed of each example.
        subjects: the model with each example.
        patterns: what the user wants left alone.
        followed: the modules that no example reaches, but that follow a sibling.
        idle: guesses that helped nowhere, by how many attributes followed then, and by the kinds of
            their modules: dozens of alike blocks fail one after the other.
        uses: by attributes that follow, what is done with sizes if these are sizes as well.
    """

    ctx: Context
    examples: Sequence[Sequence[Observed]]
    subjects: Sequence[Observed]
    patterns: Patterns
    followed: Mapping[str, str]
    idle: set[tuple[int, frozenset[tuple[type[nn.Module], str, Keys]]]] = field(default_factory=set)
    uses: dict[tuple[SizeAttributeGuess, ...], Sequence[SizeUse]] = field(default_factory=dict)

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self.subjects[0].model

    def uses_with(self, attributes: tuple[SizeAttributeGuess, ...]) -> Sequence[SizeUse]:
        """What is done with sizes, attributes that follow among them."""
        if attributes not in self.uses:
            again = observe(self.examples, followed=attributes)
            # Both runs number labels alike, unless the model computes otherwise at every call.
            is_alike = again.labels.count == self.ctx.labels.count
            self.uses[attributes] = (again if is_alike else self.ctx).size_log.uses
        return self.uses[attributes]


@dataclass(frozen=True)
class UnderNorms:
    """Widths that grow although norms run over them.

    Args:
        keys: all of their axes.
        ties: whether their growth knows what an axis does that both writes and reads one.
        bare: the paths of norms without a weight, by an axis of the width that they run over.
    """

    keys: Collection[AxisKey] = ()
    ties: bool = False
    bare: Mapping[str, AxisKey] = field(default_factory=dict)


def resolve_coupling(
    examples: Sequence[Sequence[Observed]],
    subjects: Sequence[Observed],
    patterns: Patterns,
    records: Sequence[SizeRecord] = (),
    under_norms: UnderNorms = UnderNorms(),
) -> Coupling:
    """Find a coupling that a trial growth confirms.

    Args:
        examples: what to observe of each example.
        subjects: the model with each example.
        patterns: what the user wants left alone.
        records: sizes that the model writes down.
        under_norms: the widths whose norms are made up for, and refuse nothing.

    Returns:
        The neurons of the model, refused where no trial growth succeeds.

    Raises:
        ModelError: ``does-not-run``, as for ``observe``.
        InternalError: if every trial of a bounded number of them fails.
    """
    ctx = observe(examples, records)
    _free_of_norms(ctx, under_norms.keys)
    followed = follow_siblings(ctx, subjects[0].model)
    setting = _Setting(ctx, examples, subjects, patterns, followed)
    shapes = (*_shapes_of_norms(ctx, under_norms), *_sizes_of_group_norms(ctx, subjects[0].model))
    tied = frozenset(under_norms.keys if under_norms.ties else ())
    workarounds = Workarounds(attributes=shapes, tied=tied)
    attempt = _attempt(setting, _Assumptions(workarounds=workarounds))
    # Every failed trial gives up a direction of a grid, a width, or some labels of a size.
    bound = len(ctx.grids) * 3 + len(ctx.size_log.reads) + len(ctx.axes) + 3
    for _ in range(bound):
        if attempt.failure is None:
            return _with_records(ctx, attempt, records)
        attempt = _next_attempt(setting, attempt, attempt.failure)
    raise InternalError(f"the trial growth of {type(setting.model).__name__} never succeeds")


def _shapes_of_norms(ctx: Context, under_norms: UnderNorms) -> tuple[SizeAttributeGuess, ...]:
    """The shapes that norms without a weight keep: nothing else tells them."""
    labels = {axis.key: axis.labels for axis in ctx.axes}
    shapes = []
    for path, key in under_norms.bare.items():
        shapes.append(SizeAttributeGuess(path, "normalized_shape", (0,), labels[key]))
    return tuple(shapes)


def _sizes_of_group_norms(ctx: Context, model: nn.Module) -> Iterator[SizeAttributeGuess]:
    """The sizes that torch's group norms keep: channels come in whole groups."""
    modules, seen = dict(model.named_modules()), set()
    for grid in ctx.grids:
        if isinstance(modules.get(grid.module), nn.GroupNorm) and grid.module not in seen:
            seen.add(grid.module)
            yield SizeAttributeGuess(grid.module, "num_groups", (), grid.factors[0])
            yield SizeAttributeGuess(grid.module, "num_channels", (), grid.joint.reshape(-1))


def _free_of_norms(ctx: Context, under_norms: Collection[AxisKey]) -> None:
    """Take the refusals of norms off the neurons of some axes."""
    if not under_norms:
        return
    classes = components(ctx.labels.count, ctx.labels.pairs)
    freed = [classes[axis.labels] for axis in ctx.axes if axis.key in under_norms]
    is_freed = np.isin(classes, np.concatenate(freed))
    for number, pin in enumerate(ctx.labels.pins):
        if pin.code in UNDER_NORMS:
            ctx.labels.pins[number] = replace(pin, labels=pin.labels[~is_freed[pin.labels]])


def _with_records(ctx: Context, attempt: _Attempt, records: Sequence[SizeRecord]) -> Coupling:
    """A coupling that is confirmed, with the sizes that the model writes down."""
    classes, coupling = attempt.classes, attempt.coupling
    width_of = WidthLabels(ctx, classes, coupling).of_class
    confirmed = confirmed_records(ctx, records, classes)
    known = _targets(attempt.assumptions.workarounds.attributes)
    new = [guess for guess in confirmed if (guess.module, guess.name, guess.keys) not in known]
    written = size_attributes(width_of, coupling.widths, new, classes)
    return replace(coupling, attributes=(*coupling.attributes, *written))


def _attempt(setting: _Setting, assumptions: _Assumptions) -> _Attempt:
    ctx, subject = setting.ctx, setting.subjects[0]
    classes = classify(ctx, assumptions.banned, assumptions.pins)
    coupling = build_widths(ctx, classes, setting.patterns, subject, assumptions.workarounds)
    report = check_unreached(ctx, setting.model, classes, coupling, setting.followed)
    coupling = replace(coupling, unreached=report.unreached)
    attempt = _Attempt(assumptions, classes, coupling, subject, None)
    # The cheapest checks first.
    if report.pins:
        return replace(attempt, failure=TrialFailure(pins=report.pins, is_final=True))
    impossible = _impossible_sizes(setting, assumptions, classes, coupling)
    if impossible is not None:
        return replace(attempt, failure=impossible)
    # What works with one example may fail with another.
    for subject in setting.subjects:
        failed = Trial(subject, ctx, classes, coupling)()
        if failed is not None:
            return replace(attempt, subject=subject, failure=failed)
    return attempt


def _impossible_sizes(
    setting: _Setting, assumptions: _Assumptions, classes: NeuronClasses, coupling: Coupling
) -> TrialFailure | None:
    """What branches and sizes show to be impossible, as if a trial had."""
    ctx, attributes = setting.ctx, assumptions.workarounds.attributes
    failure = size_failure(ctx, ctx.size_log.uses, classes, coupling)
    # A quotient by an attribute that follows is whole: only now worth another run.
    if failure is not None and attributes:
        failure = size_failure(ctx, setting.uses_with(attributes), classes, coupling)
    if failure is None:
        return None
    is_final = failure.rounded_in is None
    return TrialFailure(failure.banned, failure.pins, place=failure.rounded_in, is_final=is_final)


def _next_attempt(setting: _Setting, attempt: _Attempt, failure: TrialFailure) -> _Attempt:
    """The first workaround that helps; if none does, give up what the trial failed with."""
    assumptions = attempt.assumptions
    if failure.is_final:
        return _attempt(setting, assumptions.giving_up(failure))
    ctx = setting.ctx
    mixed, known = failure.mixed, assumptions.workarounds.mixed
    if len(mixed) and not ctx.numbers and not np.isin(mixed, known).all():
        after = _attempt(setting, assumptions.with_mixed(np.union1d(known, mixed)))
        is_final = after.failure is not None and after.failure.is_final
        if not is_final and not _same_failure(ctx, failure, after.failure):
            return after
    guesses = _helpful_guesses(setting, attempt, failure)
    if guesses:
        return _attempt(setting, assumptions.with_attributes(guesses))
    # Only what is given up for good is worth the runs that find out what is to blame by itself.
    narrowed = Trial(attempt.subject, ctx, attempt.classes, attempt.coupling).narrowed(failure)
    return _attempt(setting, assumptions.giving_up(narrowed))


def _helpful_guesses(
    setting: _Setting, attempt: _Attempt, failure: TrialFailure
) -> Sequence[SizeAttributeGuess]:
    """The first attributes with which the widths that failed run farther, grown by themselves."""
    ctx, modules = setting.ctx, dict(setting.model.named_modules())
    num_known = len(attempt.assumptions.workarounds.attributes)
    experiment = _Experiment(
        Trial(attempt.subject, ctx, attempt.classes, attempt.coupling),
        attempt.assumptions.workarounds.attributes,
        failed_classes(ctx, attempt.classes, failure),
        failure.run,
    )
    in_use = _targets(attempt.assumptions.workarounds.attributes)
    before: dict[frozenset[int], Reach] = {}
    for guesses in attribute_guesses(ctx, attempt.subject.model, attempt.classes, failure):
        # An attribute that follows one width already cannot follow another.
        if not in_use.isdisjoint(_targets(guesses)):
            continue
        kinds = [(type(modules[one.module]), one.name, one.keys) for one in guesses]
        signature = (num_known, frozenset(kinds))
        if signature in setting.idle:
            continue
        meant = experiment.meant(guesses)
        if meant not in before:
            before[meant] = experiment.reach(meant, ())
        after = experiment.reach(meant, guesses)
        if after > before[meant]:
            return experiment.without_idle(meant, guesses, after)
        setting.idle.add(signature)
    return ()


@dataclass(frozen=True, eq=False)
class _Experiment:
    """Grows single widths under guesses.

    Args:
        trial: the trial that failed.
        known: the attributes that follow in it.
        failed: the neurons that it failed with.
        expected: how its run failed.
    """

    trial: Trial
    known: tuple[SizeAttributeGuess, ...]
    failed: Ints
    expected: RunFailure | None

    @cached_property
    def width_labels(self) -> WidthLabels:
        """The widths by label."""
        return WidthLabels(self.trial.ctx, self.trial.classes, self.trial.coupling)

    def meant(self, guesses: Sequence[SizeAttributeGuess]) -> frozenset[int]:
        """The widths that failed and that some attributes would count."""
        counted = np.concatenate([guess.labels for guess in guesses])
        is_failed = np.isin(self.trial.classes.of[counted], self.failed)
        return frozenset(self.width_labels.widths(counted[is_failed]))

    def reach(self, widths: Collection[int], guesses: Sequence[SizeAttributeGuess]) -> Reach:
        """How far the model comes when only these widths grow."""
        coupling = self.trial.coupling
        attributes = size_attributes(
            self.width_labels.of_class,
            coupling.widths,
            (*self.known, *guesses),
            self.trial.classes,
        )
        guessed = replace(self.trial, coupling=replace(coupling, attributes=attributes))
        growable = [number for number in widths if coupling.widths[number].growable]
        # A model may run and be wrong: ``view(n, -1, size // self.heads)`` fits any size.
        return guessed.reach(growable, self.expected)

    def without_idle(
        self, meant: frozenset[int], guesses: Sequence[SizeAttributeGuess], reach: Reach
    ) -> Sequence[SizeAttributeGuess]:
        """The guesses without those that change nothing: equal to a size by chance, perhaps."""
        names = sorted({(guess.name, guess.keys) for guess in guesses}, key=str)
        for name in names:
            fewer = [guess for guess in guesses if (guess.name, guess.keys) != name]
            if fewer and self.reach(meant, fewer) >= reach:
                guesses = fewer
        return guesses


def _targets(guesses: Sequence[SizeAttributeGuess]) -> set[tuple[str, str, Keys]]:
    return {(guess.module, guess.name, guess.keys) for guess in guesses}


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
