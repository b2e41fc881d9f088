"""Whether branches and sizes of the model's own code still hold when its neurons grow.

What was observed is evaluated again for other sizes of each growable width (see ``size_numbers``);
what only shows in a run is found by comparing the numbers of both runs (see ``number_log``).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from fxgrow.coupling.context import Context
from fxgrow.coupling.grids import Direction
from fxgrow.coupling.labels import FIXED, Ints, Pin, concatenated
from fxgrow.coupling.neuron_classes import NeuronClasses
from fxgrow.coupling.number_log import NumberEntry
from fxgrow.coupling.size_numbers import TRACKED, SizeUse, value_for
from fxgrow.coupling.width_building import width_of_class
from fxgrow.coupling.widths import Coupling

BRANCH = "the model's own code compares its size, and takes another way when it is larger"
ROUNDED = "the model's own code rounds a part of its size, which does not grow evenly"
OTHER_NUMBERS = "a number that depends on its size is computed with (%s)"

_STEPS = (*range(1, 130), 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 8192, 1 << 16, 1 << 24)
"""How many neurons more a branch is tried with."""

_EVEN_STEPS = 16
"""How many sizes must lie on one line."""


@dataclass(frozen=True, eq=False)
class _Sizes:
    """The sizes of dimensions, by the widths that their labels belong to.

    Args:
        classes: the class of each label.
        width: the number of the growable width of each class; -1: none.
        sizes: the size of each growable width.
    """

    classes: Ints
    width: Ints
    sizes: Mapping[int, int]

    @staticmethod
    def of(ctx: Context, classes: NeuronClasses, coupling: Coupling) -> "_Sizes":
        sizes = {n: width.size for n, width in enumerate(coupling.widths) if width.growable}
        width = width_of_class(ctx, classes, coupling.owners)
        width[~np.isin(width, list(sizes))] = -1
        return _Sizes(classes.of, width, sizes)

    def widths(self, dimensions: Iterable[Ints]) -> set[int]:
        """The growable widths along these dimensions."""
        numbers: set[int] = set()
        for labels in dimensions:
            numbers.update(self._widths_along(labels).tolist())
        return numbers - {-1}

    def _widths_along(self, labels: Ints) -> Ints:
        along: Ints = np.where(labels == FIXED, -1, self.width[self.classes[labels]])
        return along

    def size_of(self, labels: Ints, number: int, new_size: int) -> int:
        """The size of a dimension if one width had another size."""
        places = int((self._widths_along(labels) == number).sum())
        rows = places // self.sizes[number]
        return len(labels) - places + rows * new_size

    def labels_of(self, number: int) -> Ints:
        """All labels of a width."""
        labels = np.flatnonzero(self.width[self.classes] == number)
        own: Ints = labels[labels != FIXED]
        return own


@dataclass(frozen=True)
class SizeFailure:
    """What branches and sizes show to be impossible.

    Args:
        banned: directions of grids.
        pins: else labels.
        rounded_in: path of the module that rounds, if nothing else is impossible: the other number
            may be an attribute that could follow (``h.shape[1] // self.heads``).
    """

    banned: frozenset[Direction] = frozenset()
    pins: tuple[Pin, ...] = ()
    rounded_in: str | None = None


def size_failure(
    ctx: Context, uses: Sequence[SizeUse], classes: NeuronClasses, coupling: Coupling
) -> SizeFailure | None:
    """Refuse the widths whose size decides on a branch, or grows unevenly.

    Args:
        ctx: what was observed.
        uses: what is done with sizes.
        classes: the neurons.
        coupling: the widths.

    Returns:
        What to give up; None if all sizes may change.
    """
    # What no attribute can help is given up first.
    fixed = [use for use in uses if not use.is_rounded]
    rounded = [use for use in uses if use.is_rounded]
    return _failure(ctx, fixed, classes, coupling) or _failure(ctx, rounded, classes, coupling)


def _failure(
    ctx: Context, uses: Sequence[SizeUse], classes: NeuronClasses, coupling: Coupling
) -> SizeFailure | None:
    if not uses:
        return None
    sizes = _Sizes.of(ctx, classes, coupling)
    banned: set[Direction] = set()
    found: dict[int, Pin] = {}
    rounded_in: str | None = None
    for use in uses:
        for number in sizes.widths(use.axis_sizes()) - found.keys():
            if not _changes(use, sizes, number):
                continue
            pin = _pin(use, sizes.labels_of(number))
            # Along the other direction of a grid (heads x head size) the quotient is whole.
            directions: frozenset[Direction] = frozenset()
            if use.is_rounded:
                rounded_in = rounded_in or use.module
                directions = growing_directions(ctx, classes, pin.labels)
            banned |= directions
            if not directions:
                found[number] = pin
    if not banned and not found:
        return None
    return SizeFailure(frozenset(banned), tuple(found.values()), rounded_in)


def _pin(use: SizeUse, labels: Ints) -> Pin:
    if use.comparison is None:
        return Pin(labels, "uneven", ROUNDED, use.node)
    return Pin(labels, "size-branch", BRANCH, use.node)


def growing_directions(ctx: Context, classes: NeuronClasses, labels: Ints) -> frozenset[Direction]:
    """The directions in which the grids grow that hold some of these labels.

    Args:
        ctx: what was observed.
        classes: the neurons.
        labels: the labels.

    Returns:
        The directions; none of a grid that cannot grow.
    """
    of = np.unique(classes.of[labels])
    growing = set()
    for number, direction in classes.decision.chosen.items():
        joint = ctx.grids[number].joint
        if classes.free(joint) and np.isin(classes.of[joint], of).any():
            growing.add((number, direction))
    return frozenset(growing)


def _changes(use: SizeUse, sizes: _Sizes, number: int) -> bool:
    """Whether a branch is taken otherwise, or a size is uneven, for some size of a width."""
    values = []
    for new_size in _trial_sizes(use, sizes, number):
        size_of = lambda labels, new=new_size: sizes.size_of(labels, number, new)  # noqa: E731
        if use.comparison is None:
            values.append(value_for(use.size, size_of))
        elif use.comparison.outcome_for(size_of) != use.comparison.outcome:
            return True
    steps = np.diff(values)
    return bool(len(steps) and (steps != steps[0]).any())


def _trial_sizes(use: SizeUse, sizes: _Sizes, number: int) -> Iterator[int]:
    """Sizes of a width: the next ones, larger ones, and those that reach a constant."""
    size = sizes.sizes[number]
    if use.comparison is None:
        yield from range(size, size + _EVEN_STEPS)
        return
    for step in _STEPS:
        yield size + step
    for side in (use.comparison.left, use.comparison.right):
        if isinstance(side, TRACKED) or side != side or abs(side) > 1 << 40:
            continue
        for labels in use.axis_sizes():
            yield from _near(int(side), sizes, labels, number)


def _near(constant: int, sizes: _Sizes, labels: Ints, number: int) -> Iterator[int]:
    """Sizes of a width for which a dimension has about the size ``constant``."""
    rows = sizes.size_of(labels, number, 1) - sizes.size_of(labels, number, 0)
    if not rows:
        return
    others = sizes.size_of(labels, number, 0)
    nearest = (constant - others) // rows
    for new_size in range(nearest - 1, nearest + 3):
        if new_size > sizes.sizes[number]:
            yield new_size


def blamed_for_numbers(
    ctx: Context, model: nn.Module, classes: NeuronClasses, entry: NumberEntry
) -> Pin:
    """Whom to blame for an operator that computes with another number after growth.

    It is what modules of its kind read the size of; if they read none that grows, the parameters
    that they and their parts hold (``self.fc.in_features``); then those of their surroundings.

    Args:
        ctx: what was observed of the model.
        model: the model.
        classes: its neurons.
        entry: the operator, and the module that ran it.

    Returns:
        What to give up.
    """
    kinds = {name: type(module) for name, module in model.named_modules()}
    path = entry.module
    while True:
        modules = {name for name, kind in kinds.items() if kind is kinds[path]} if path else {""}
        labels = _read_in(ctx, classes, modules) or _held_by(ctx, classes, modules)
        if labels or not path:
            break
        path = path.rpartition(".")[0]
    labels = labels or [axis.labels for axis in ctx.axes]
    reason = OTHER_NUMBERS % entry.operator
    return Pin(concatenated(labels), "size-value", reason, entry.node or entry.module or "model")


def _read_in(ctx: Context, classes: NeuronClasses, modules: set[str]) -> list[Ints]:
    """The labels that grow and whose number was read in these modules."""
    reads = ctx.size_log.reads
    return [labels for module, labels in reads if module in modules and classes.free(labels)]


def _held_by(ctx: Context, classes: NeuronClasses, modules: set[str]) -> list[Ints]:
    """The labels that grow and are of parameters of these modules or of their parts."""
    labels = []
    for axis in ctx.axes:
        owner = axis.parameter.rpartition(".")[0]
        is_near = owner in modules or owner.rpartition(".")[0] in modules
        if is_near and classes.free(axis.labels):
            labels.append(axis.labels)
    return labels
