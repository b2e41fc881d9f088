"""Validate a coupling: widen every growable width on the meta device, run, compare what arrives.

Three things can go wrong; ``resolve`` tries what can be done about them. A reshape with a number
in it (``view(-1, 512)``) cannot follow its neurons: the run fails there, and everything that
modules of that kind reshape is to blame. Or it does not fail but cuts neurons apart, and the grid
must grow in another direction. Or the copies do not arrive where IndexMaps expect them (a channel
shuffle of indistinguishable neurons): then somewhere two different copies are united.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxgrow.capture import first_line
from fxgrow.coupling.blame import Blame, RunFailure, WidthLabels
from fxgrow.coupling.changes import change_maps, set_attributes
from fxgrow.coupling.context import Context, Observed
from fxgrow.coupling.grids import Direction
from fxgrow.coupling.keys import AnyAxisKey
from fxgrow.coupling.labels import FIXED, Bools, Ints, Pin, concatenated
from fxgrow.coupling.meta_copy import holds_reals, meta_copy
from fxgrow.coupling.neuron_classes import NeuronClasses
from fxgrow.coupling.number_log import NumberLog, first_difference
from fxgrow.coupling.size_checks import blamed_for_numbers, growing_directions
from fxgrow.coupling.trace import attach_values, run_once
from fxgrow.coupling.values import Axis
from fxgrow.coupling.widths import Coupling
from fxgrow.errors import GrowthError
from fxgrow.surgery import (
    Change,
    IndexMap,
    apply_maps,
    named_tensors,
    resize,
)
from fxgrow.user_lines import frames_of, user_line

MIXED_ORDER = "the model mixes copies of its neurons, so there is no order in which to insert them"

_MAX_EXTRA = 4
"""In how many different numbers of copies the last neurons of widths come in a trial."""

Reach = tuple[float, int]
"""How many operators run, infinite if all do; then minus the number of misplaced labels."""

_COPIES = 8
"""In a trial, copy number c of class n has label ``8 (n + 1) + c``: no neuron has more copies."""


@dataclass(frozen=True, eq=False)
class TrialFailure:
    """What a trial shows to be impossible.

    Args:
        banned: directions of grids to give up.
        pins: labels to give up.
        mixed: the labels of neurons whose copies arrived elsewhere than in the standard order.
        place: path of the module in which it failed.
        run: how the run failed, if it did.
        is_final: the model computes something else, so that no workaround can help.
    """

    banned: frozenset[Direction] = frozenset()
    pins: tuple[Pin, ...] = ()
    mixed: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    place: str | None = None
    run: RunFailure | None = None
    is_final: bool = False


@dataclass(frozen=True)
class Trial:
    """A coupling to be tried.

    Args:
        subject: the model.
        ctx: what was observed of it.
        classes: its neurons.
        coupling: its widths.
    """

    subject: Observed
    ctx: Context
    classes: NeuronClasses
    coupling: Coupling

    def run(self, widths: Collection[int], expected: RunFailure | None = None) -> RunFailure | None:
        """Split every neuron of some widths on the meta device, and run the model.

        Args:
            widths: the numbers of the widths that grow.
            expected: how it failed before. Of the same failure again the neurons are not told,
                which takes less time.

        Returns:
            How the model failed to run, or to give outputs of the same shapes; None if it did not.
        """
        _, failure = self._watched(widths, expected)
        return failure

    def reach(self, widths: Collection[int], expected: RunFailure | None = None) -> "Reach":
        """How far the model comes when some widths grow.

        Args:
            widths: the numbers of the widths that grow.
            expected: how it failed before, as in ``run``.

        Returns:
            More is farther: best is a model that runs and moves no neuron elsewhere.
        """
        run, failure = self._watched(widths, expected)
        if failure is None and expected is not None:  # it runs, so see where the neurons went
            run, failure = self._watched(widths)
        if failure is not None:
            return failure.steps, 0
        flaw = _torn(run.trial, self.ctx, self.classes) or _misplaced(run.trial, self.classes)
        return math.inf, 0 if flaw is None else -len(flaw.mixed)

    def _watched(
        self, widths: Collection[int], expected: RunFailure | None = None
    ) -> tuple["_TrialRun", RunFailure | None]:
        bare = meta_copy(self.subject.model)
        changes = _trial_changes(self.coupling, widths)
        maps = _maps_of(bare, self.coupling, changes)
        resize(bare, maps)
        set_attributes(bare, self.coupling, changes)
        ctx, classes = self.ctx, self.classes
        trial = ctx.for_trial()
        # What the run labels anew (lines of grids) must not look like a copy.
        trial.labels.count = _first_unused(classes)
        # A rule may only doubt what it sees where something grows.
        trial.moving = self._moving(widths)
        _label_copies(trial, bare, ctx.axes, classes, maps, _replayed_classes(self.coupling))
        # What never moves cannot be misplaced, and whether it fails as before, the shapes show.
        shapes_suffice = ctx.steady or (expected is not None and not ctx.numbers)
        watch = not (shapes_suffice and _runs_on_meta(bare, self.subject))
        run = _TrialRun(trial, bare, self.subject, watch)
        return run, _run_modes(run, ctx, maps, _first_unused(classes), expected)

    def _moving(self, widths: Collection[int]) -> Bools:
        """For each label of the trial whether its neuron grows."""
        of_class = WidthLabels(self.ctx, self.classes, self.coupling).of_class
        is_grown = np.isin(of_class, list(widths))
        # Labels below the first copy of class 0 are nobody's.
        return np.concatenate([np.zeros(_COPIES, bool), np.repeat(is_grown, _COPIES)])

    def __call__(self) -> TrialFailure | None:
        """Grow every width that can grow.

        Returns:
            What to give up, or None if the model runs and its copies arrive where they should.
        """
        grown = [n for n, width in enumerate(self.coupling.widths) if width.growable]
        try:
            run, failure = self._watched(grown)
        except GrowthError as error:
            labels = np.flatnonzero(np.isin(self.classes.of, _replayed_classes(self.coupling)))
            return TrialFailure(pins=(Pin(labels, "order", str(error), ""),))
        if failure is not None:
            return self._given_up(failure, grown)
        failed = _torn(run.trial, self.ctx, self.classes) or _misplaced(run.trial, self.classes)
        # Last, for a wrong assumption of the trial itself may change numbers too.
        if failed is not None:
            return failed
        failed = _other_numbers(run, self.ctx, self.classes)
        return None if failed is None else self._to_blame_alone(failed)

    def _to_blame_alone(self, failure: TrialFailure) -> TrialFailure:
        """Of the widths that may have changed a number those that change it by themselves.

        What operator it is tells little: attention reads sizes of its own accord, in torch's code.
        """
        widths = WidthLabels(self.ctx, self.classes, self.coupling)
        pins = []
        for pin in failure.pins:
            numbers = [n for n in widths.widths(pin.labels) if self.coupling.widths[n].growable]
            alone = widths.failing(numbers, self._computes_otherwise)
            pins.append(replace(pin, labels=widths.labels(alone)) if alone else pin)
        return replace(failure, pins=tuple(pins))

    def _computes_otherwise(self, width: int) -> bool:
        """Whether the model computes with other numbers when one width grows alone."""
        run, failure = self._watched([width])
        if failure is not None:
            return True
        before, after = (logs.number_logs[self.subject] for logs in (self.ctx, run.trial))
        return first_difference(before, after) is not None

    def narrowed(self, failure: TrialFailure) -> TrialFailure:
        """What to give up of neurons whose order is mixed: those that are so by themselves.

        Args:
            failure: how this trial failed.

        Returns:
            The failure with fewer labels, or as it was.
        """
        if not len(failure.mixed) or failure.banned:
            return failure
        widths = WidthLabels(self.ctx, self.classes, self.coupling)
        numbers = [n for n in widths.widths(failure.mixed) if self.coupling.widths[n].growable]
        mixed = widths.failing(numbers, self._mixes)
        if not mixed:
            return failure
        pins = [replace(pin, labels=widths.labels(mixed)) for pin in failure.pins]
        return replace(failure, pins=tuple(pins))

    def _mixes(self, width: int) -> bool:
        """Whether copies of the neurons of one width are mixed when it grows alone."""
        run, failure = self._watched([width])
        return failure is not None or _misplaced(run.trial, self.classes) is not None

    def _given_up(self, failure: RunFailure, grown: Sequence[int]) -> TrialFailure:
        """What to give up after the growth of all widths failed."""
        widths = WidthLabels(self.ctx, self.classes, self.coupling)
        run = partial(self.run, expected=failure)
        blamed = Blame(self.subject.model, widths, grown, run).attribute(failure)
        banned = widths.grids(blamed)
        if banned:
            return TrialFailure(banned, place=failure.place, run=failure)
        reason = f"the model's own code cannot run with another size: {failure.message}"
        pin = Pin(widths.labels(blamed.widths), "fixed-code", reason, failure.place or "model")
        return TrialFailure(pins=(pin,), place=failure.place, run=failure)


@dataclass(frozen=True)
class _TrialRun:
    """A grown model on the meta device and its context; ``watch``: whether labels are followed."""

    trial: Context
    bare: nn.Module
    subject: Observed
    watch: bool


def _trial_changes(coupling: Coupling, widths: Collection[int]) -> dict[int, Change]:
    """Every neuron in two; the last one of each width in more, since new neurons go there.

    In how many differs between widths: two that must stay equal are otherwise not noticed.
    """
    changes = {}
    for number in widths:
        last = 3 + number % _MAX_EXTRA
        changes[number] = Change((2,) * (coupling.widths[number].size - 1) + (last,))
    return changes


def _maps_of(
    bare: nn.Module, coupling: Coupling, changes: Mapping[int, Change]
) -> dict[AnyAxisKey, IndexMap]:
    """The IndexMaps of the parameters that the bare model has: a tied one has one name there."""
    tensors = named_tensors(bare)
    maps = change_maps(coupling, changes)
    return {key: index_map for key, index_map in maps.items() if key[0] in tensors}


def _run_modes(
    run: _TrialRun,
    ctx: Context,
    maps: Mapping[AnyAxisKey, IndexMap],
    first_unused: int,
    expected: RunFailure | None,
) -> RunFailure | None:
    """Run the grown model in the modes that were observed; its outputs must keep their shapes."""
    trial, subject = run.trial, run.subject
    for training, before in ctx.modes(subject).items():
        attach_values(trial, run.bare, _resized_numbers(ctx, subject.model, maps))
        steps = trial.steps
        failure = _fails(run, training, first_unused, run.watch)
        if failure is not None and not run.watch and not failure.is_that_of(expected):
            # Once more, to see which neurons it failed with.
            trial.steps = steps
            failure = _fails(run, training, first_unused, watch=True)
        if failure is not None:
            return failure
        after = trial.passes[subject][training]
        if before != after:
            message = f"the output's shape changes from {before} to {after}"
            return RunFailure("", "", message, steps=trial.steps)
    return None


def _fails(run: _TrialRun, training: bool, first_unused: int, watch: bool) -> RunFailure | None:
    """Run the grown model once; gives back how it failed."""
    trial = run.trial
    error = run_once(trial, run.bare, run.subject, training, watch)
    if error is None:
        return None
    line = user_line(frames_of(error), trial.packages)
    message = f"{first_line(error)} ({line})" if line else first_line(error)
    noted, labels = trial.failure or (None, np.empty(0, np.int64))
    if noted is not error:
        labels = np.empty(0, np.int64)
    is_copy = (labels >= _COPIES) & (labels < first_unused)
    failed = np.unique(labels[is_copy] // _COPIES - 1)
    return RunFailure(trial.modules[-1], line, message, failed, trial.steps)


def _other_numbers(run: _TrialRun, ctx: Context, classes: NeuronClasses) -> TrialFailure | None:
    """What to give up if the grown model computes with other numbers than the model itself."""
    trial, subject, watch = run.trial, run.subject, run.watch
    if subject not in trial.number_logs:  # it ran in training only, where numbers may be random
        return None
    if subject not in ctx.number_logs:
        log = _numbers_of(subject, ctx, watch)
        if log is None:
            return None
        ctx.number_logs[subject] = log
    before = ctx.number_logs[subject]
    place = first_difference(before, trial.number_logs[subject])
    if place is None:
        return None
    # Once more, for the line, and because a model may compute otherwise at every call.
    again = _numbers_of(subject, ctx, watch, wanted=place)
    if again is None or first_difference(before, again) is not None:
        return None
    entries = again.entries
    if place >= len(entries):  # the grown model goes on: there is the line
        trial.number_log = NumberLog(wanted=place)
        run_once(trial, run.bare, subject, training=False, watch=watch)
        entries = trial.number_log.entries
    pin = blamed_for_numbers(ctx, subject.model, classes, entries[place])
    banned = growing_directions(ctx, classes, pin.labels)
    return TrialFailure(banned, () if banned else (pin,), is_final=True)


def _numbers_of(
    subject: Observed, ctx: Context, watch: bool, wanted: int | None = None
) -> NumberLog | None:
    """The numbers that a model computes with before it grows; None if it does not run."""
    bare = meta_copy(subject.model)
    plain = ctx.for_trial()
    plain.number_log = NumberLog(wanted)
    attach_values(plain, bare, named_tensors(subject.model))
    error = run_once(plain, bare, subject, training=False, watch=watch)
    return plain.number_log if error is None else None


def _runs_on_meta(bare: nn.Module, subject: Observed) -> bool:
    """Whether no number is involved, so that the model runs without an observer to compute it."""
    for leaf in tree_leaves(subject.example_inputs):
        if isinstance(leaf, Tensor) and not holds_reals(leaf):
            return False
    return all(tensor.is_meta for tensor in named_tensors(bare).values())


def _replayed_classes(coupling: Coupling) -> Ints:
    """The classes whose order is found and checked by a run of its own; here they are nobody's."""
    return coupling.replay.classes if coupling.replay else np.empty(0, np.int64)


def _resized_numbers(
    ctx: Context, model: nn.Module, maps: Mapping[AnyAxisKey, IndexMap]
) -> dict[str, Tensor]:
    """The numbers of the grown model: it has the old function, so its tokens go the same ways."""
    if not ctx.numbers:
        return {}
    axes: dict[str, dict[int, IndexMap]] = defaultdict(dict)
    for (name, axis), index_map in maps.items():
        axes[name][axis] = index_map
    numbers = {}
    for name, tensor in named_tensors(model).items():
        numbers[name] = apply_maps(tensor.detach(), axes[name])
    return numbers


def _first_unused(classes: NeuronClasses) -> int:
    """The first label after those of all copies."""
    return _COPIES * (len(classes.blame) + 1)


def _label_copies(
    trial: Context,
    bare: nn.Module,
    axes: Sequence[Axis],
    classes: NeuronClasses,
    maps: Mapping[AnyAxisKey, IndexMap],
    nobodys: Ints,
) -> None:
    """Label every index with its class and the number of its copy; ``nobodys`` with ``FIXED``."""
    by_name: dict[str, list[Axis]] = {}
    for axis in axes:
        of = classes.of[axis.labels]  # class of each index
        copies = np.zeros(len(of), np.int64)
        index_map = maps.get(axis.key)  # None: the axis keeps its size
        if index_map is not None:
            of = of[index_map.source.numpy()]
            copies = index_map.copy.numpy()
        labels = _COPIES * (of + 1) + copies
        # The order of these is checked elsewhere, so they unite with anything.
        labels = np.where(np.isin(of, nobodys), FIXED, labels)
        by_name.setdefault(axis.parameter, []).append(replace(axis, labels=labels))
    tensors = named_tensors(bare)
    for name, grown_axes in by_name.items():
        if name in tensors:
            trial.label(tensors[name], tuple(grown_axes))


def _torn(trial: Context, ctx: Context, classes: NeuronClasses) -> TrialFailure | None:
    """The grid directions in which the model's own code does not follow, but cuts neurons apart.

    In a trial all cells of a line are copies of one neuron, so a grid that can grow looks like a
    vector: what is still seen as a grid there is cut in the wrong places (``view(2, -1)`` when the
    2 should have become 4).
    """
    seen = concatenated([grid.joint.reshape(-1) for grid in trial.grids])
    is_copy = (seen >= _COPIES) & (seen < _first_unused(classes))
    torn = np.unique(seen[is_copy] // _COPIES - 1)  # the classes of the copies
    torn = torn[classes.blame[torn] < 0]  # what is refused anyway was not grown
    banned = []
    for number, direction in classes.decision.chosen.items():
        if np.isin(classes.of[ctx.grids[number].joint], torn).any():
            banned.append((number, direction))
    if not banned:
        return None
    labels = [ctx.grids[number].joint.reshape(-1) for number, _ in frozenset(banned)]
    return TrialFailure(frozenset(banned), mixed=concatenated(labels))


def _misplaced(trial: Context, classes: NeuronClasses) -> TrialFailure | None:
    """The neurons of which two different copies were united."""
    if not trial.labels.pairs:
        return None
    left = np.concatenate([pair[0] for pair in trial.labels.pairs])
    right = np.concatenate([pair[1] for pair in trial.labels.pairs])
    lowest, highest = np.minimum(left, right), np.maximum(left, right)
    both_copies = (lowest >= _COPIES) & (highest < _first_unused(classes))
    wrong = (left != right) & both_copies
    if not wrong.any():
        return None
    wrong_classes = np.concatenate([left[wrong], right[wrong]]) // _COPIES - 1
    labels = np.flatnonzero(np.isin(classes.of, wrong_classes))
    return TrialFailure(pins=(Pin(labels, "order", MIXED_ORDER, ""),), mixed=labels)
