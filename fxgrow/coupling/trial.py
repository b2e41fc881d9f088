"""Validate a coupling: widen every growable width on the meta device, run, compare what arrives.

Three things can go wrong; ``resolve`` tries what can be done about them. A reshape with a number
in it (``view(-1, 512)``) cannot follow its neurons: the run fails there, and everything that
modules of that kind reshape is to blame. Or it does not fail but cuts neurons apart, and the grid
must grow in another direction. Or the copies do not arrive where IndexMaps expect them (a channel
shuffle of indistinguishable neurons): then somewhere two different copies are united.
"""

import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxgrow.capture import first_line
from fxgrow.coupling.changes import change_maps, set_attributes
from fxgrow.coupling.grids import Direction
from fxgrow.coupling.keys import AnyAxisKey
from fxgrow.coupling.labels import FIXED, Ints, Pin, concatenated
from fxgrow.coupling.meta_copy import meta_copy
from fxgrow.coupling.number_log import NumberLog, first_difference
from fxgrow.coupling.size_checks import blamed_for_numbers, growing_directions
from fxgrow.coupling.trace import attach_values, run_once
from fxgrow.coupling.values import Axis, Context, Observed
from fxgrow.coupling.widths import Coupling, NeuronClasses
from fxgrow.errors import GrowthError
from fxgrow.surgery import (
    Change,
    IndexMap,
    apply_maps,
    has_size_attributes,
    named_tensors,
    resize,
)

MIXED_ORDER = "the model mixes copies of its neurons, so there is no order in which to insert them"

_COPIES = 4
"""In a trial, copy number c of class n has label ``4 (n + 1) + c``: no neuron has more copies."""


@dataclass(frozen=True)
class TrialFailure:
    """What a trial shows to be impossible.

    Args:
        banned: directions of grids to give up.
        pins: labels to give up.
        mixed: the labels of neurons whose copies arrived elsewhere than in the standard order.
        is_final: the model computes something else, so that no workaround can help.
    """

    banned: frozenset[Direction] = frozenset()
    pins: tuple[Pin, ...] = ()
    mixed: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    is_final: bool = False


def trial_growth(
    subject: Observed, ctx: Context, classes: NeuronClasses, coupling: Coupling
) -> TrialFailure | None:
    """Split every growable neuron on the meta device, and run the model.

    Args:
        subject: the model.
        ctx: what was observed of it.
        classes: its neurons.
        coupling: its widths.

    Returns:
        What to give up, or None if the model runs and its copies arrive where they should.
    """
    bare = meta_copy(subject.model)
    changes = _trial_changes(coupling)
    try:
        maps = _maps_of(bare, coupling, changes)
    except GrowthError as error:
        labels = np.flatnonzero(np.isin(classes.of, _replayed_classes(coupling)))
        return TrialFailure(pins=(Pin(labels, "order", str(error), ""),))
    resize(bare, maps)
    set_attributes(bare, coupling, changes)
    trial = Context(numbers=ctx.numbers)
    # What the run labels anew (lines of grids) must not look like a copy.
    trial.labels.count = _first_unused(classes)
    _label_copies(trial, bare, ctx.axes, classes, maps, _replayed_classes(coupling))
    # What never moves cannot be misplaced: then the shapes suffice.
    watch = not (ctx.steady and _runs_on_meta(bare, subject))
    run = _TrialRun(trial, bare, subject, watch)
    failure = _run_modes(run, ctx, classes, maps)
    failure = failure or _torn(trial, ctx, classes) or _misplaced(trial, classes)
    # Last, for a wrong assumption of the trial itself may change numbers too.
    return failure or _other_numbers(run, ctx, classes)


@dataclass(frozen=True)
class _TrialRun:
    """A grown model on the meta device and its context; ``watch``: whether labels are followed."""

    trial: Context
    bare: nn.Module
    subject: Observed
    watch: bool


def _trial_changes(coupling: Coupling) -> dict[int, Change]:
    """Every neuron in two; the last one of each width in three, since new neurons go there."""
    changes = {}
    for number, width in enumerate(coupling.widths):
        if width.growable:
            changes[number] = Change((2,) * (width.size - 1) + (3,))
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
    classes: NeuronClasses,
    maps: Mapping[AnyAxisKey, IndexMap],
) -> TrialFailure | None:
    """Run the grown model in the modes that were observed; its outputs must keep their shapes."""
    trial, subject = run.trial, run.subject
    for training, before in ctx.modes(subject).items():
        attach_values(trial, run.bare, _resized_numbers(ctx, subject.model, maps))
        error = run_once(trial, run.bare, subject, training, run.watch)
        if error is not None:
            return attribute_failure(
                ctx, subject.model, classes, trial.modules[-1], _message_and_line(error)
            )
        after = trial.passes[subject][training]
        if before != after:
            message = f"the output's shape changes from {before} to {after}"
            return attribute_failure(ctx, subject.model, classes, "", message)
    return None


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
    plain = Context(numbers=ctx.numbers, number_log=NumberLog(wanted))
    attach_values(plain, bare, named_tensors(subject.model))
    error = run_once(plain, bare, subject, training=False, watch=watch)
    return plain.number_log if error is None else None


def _runs_on_meta(bare: nn.Module, subject: Observed) -> bool:
    """Whether no number is involved, so that the model runs without an observer to compute it."""
    for leaf in tree_leaves(subject.example_inputs):
        if isinstance(leaf, Tensor) and not leaf.is_floating_point():
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


def _message_and_line(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{first_line(error)} ({Path(last.filename).name}:{last.lineno})"


def attribute_failure(
    ctx: Context, model: nn.Module, classes: NeuronClasses, place: str, message: str
) -> TrialFailure:
    """Find what to give up after a run that failed.

    It is what modules of the kind that failed reshape. If they reshape nothing that grows, their
    surroundings are blamed, one level after the other.

    Args:
        ctx: what was observed of the model.
        model: the model.
        classes: its neurons.
        place: path of the module in which the run failed.
        message: how it failed.

    Returns:
        The directions of grids to give up, or else the labels.
    """
    kinds = {name: type(module) for name, module in model.named_modules()}
    path = place
    # The sizes of torch's own layers are their parameters' own: the module around is to blame.
    while path and has_size_attributes(kinds[path]):
        path = _parent(path)
    while True:
        blamed = _same_kind(kinds, path)
        banned = _growing_grids(ctx, classes, blamed)
        if banned:
            return TrialFailure(banned)
        labels = _reshaped_labels(ctx, classes, blamed)
        if not labels and not path:
            labels = [axis.labels for axis in ctx.axes]
        if labels:
            reason = f"the model's own code cannot run with another size: {message}"
            pin = Pin(np.concatenate(labels), "fixed-code", reason, place or "model")
            return TrialFailure(pins=(pin,))
        path = _parent(path)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _same_kind(kinds: Mapping[str, type[nn.Module]], path: str) -> set[str]:
    """The modules of the kind of the one at ``path``; all of them if that is the model itself."""
    if not path:
        return set(kinds)
    return {name for name, kind in kinds.items() if kind is kinds[path]}


def _growing_grids(ctx: Context, classes: NeuronClasses, modules: set[str]) -> frozenset[Direction]:
    """The directions of grids that grow and were made in these modules."""
    growing = set()
    for number, direction in classes.decision.chosen.items():
        grid = ctx.grids[number]
        if grid.module in modules and classes.free(grid.joint):
            growing.add((number, direction))
    return frozenset(growing)


def _reshaped_labels(ctx: Context, classes: NeuronClasses, modules: set[str]) -> list[Ints]:
    """The labels that grow and were reshaped in these modules."""
    labels = []
    for event in ctx.shape_events:
        if event.module in modules and classes.free(event.labels):
            labels.append(event.labels)
    return labels
