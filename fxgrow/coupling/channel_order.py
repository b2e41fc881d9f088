"""Where do neurons arrive after they were shuffled? Send them through the grown model and look.

The standard order of insertion is local: a copy follows the run of its neuron's occurrences (``surgery.index_map``).
Where a model deals channels out like cards (the stages of a ShuffleNet) no local order is right on all axes at once.
For such widths the layers that *write* neurons put each copy beside its original, and every other axis is read off
from a run: the grown model moves pairs (row of a writer, number of the copy) about, and what arrives at an index says
which old index it comes from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from fxgrow.coupling.labels import FIXED, Ints
from fxgrow.coupling.meta_copy import meta_copy
from fxgrow.coupling.trace import run_once
from fxgrow.coupling.values import Axis, Context, Observed, Role
from fxgrow.errors import GrowthError
from fxgrow.surgery import Change, IndexMap, Placement, named_tensors, placement, resize

AxisName = tuple[str, int]
OwnerOf = tuple[Ints, Ints]
"""Number of the width, and of the neuron in it, per index of an axis."""


@dataclass(frozen=True)
class ChannelOrder:
    """Finds the order of the widths ``singly`` (by number), whose neurons are ``classes``.

    ``arrived[label]``: the writer's label that met it in the old model. ``directions``: how its grids grow.
    """

    ctx: Context
    subject: Observed
    singly: frozenset[int]
    classes: Ints
    arrived: Ints
    directions: Mapping[int, int]

    def maps(
        self, owners: Mapping[AxisName, OwnerOf], changes: Mapping[int, Change]
    ) -> dict[AxisName, IndexMap]:
        """The IndexMaps of all axes on which a width of ``singly`` changes.

        Raises ``GrowthError`` if copies of different neurons meet, so that no order keeps the function.
        """
        places = {key: placement(*owners[key], changes, self.singly) for key in owners}
        trial = _Trial(self.ctx, places)
        trial.run(self.subject, tuple(self.ctx.modes(self.subject)))
        arrived = trial.arrived()
        self._agree(arrived, trial)
        self._keep_lines(arrived, trial)
        touched = [
            key
            for key in owners
            if np.isin(owners[key][0], list(self.singly & changes.keys())).any()
        ]
        return {key: self._map(key, places, trial, arrived) for key in touched}

    def _map(
        self, key: AxisName, places: Mapping[AxisName, Placement], trial: "_Trial", arrived: Ints
    ) -> IndexMap:
        roles = self.ctx.roles[key]
        if Role.WRITES in roles:
            return places[key].index_map(Role.READS in roles)
        axis = trial.axes[key]
        element, block = trial.decode(arrived[trial.labels[key]])
        old = self.arrived[axis.labels]
        if (element < 0).any() or (old < 0).any():
            raise _mixed(key)
        source = _lookup(_numbered(old, np.zeros_like(old)), _numbered(element, block))
        if (source < 0).any():
            raise _mixed(key)
        return Placement(source, block, trial.times[element]).index_map(Role.READS in roles)

    def _agree(self, arrived: Ints, trial: "_Trial") -> None:
        """What meets in the grown model must be equal copies of what meets in the old one."""
        known = {(int(a), int(b)) for a, b in _meetings(self.arrived, self.ctx.labels.pairs)}
        for left, right in _meetings(arrived, trial.ctx.labels.pairs):
            (a, b), (i, j) = trial.decode(np.array([left, right]))
            if i != j or (
                a != b and (int(a), int(b)) not in known and (int(b), int(a)) not in known
            ):
                raise GrowthError("order", "copies of different neurons meet in the grown model")

    def _keep_lines(self, arrived: Ints, trial: "_Trial") -> None:
        """A grid that grows along d keeps its other sizes, and a line along d consists of copies of one number."""
        if len(trial.ctx.grids) != len(self.ctx.grids):
            raise GrowthError("order", "the grown model reshapes its neurons in another way")
        for number, direction in self.directions.items():
            old, new = self.ctx.grids[number].joint, trial.ctx.grids[number].joint
            _, block = trial.decode(arrived[np.moveaxis(new, direction, 0)])
            lines = block.reshape(len(block), -1)
            if np.delete(old.shape, direction).tolist() != np.delete(new.shape, direction).tolist():
                raise GrowthError(
                    "order", "a grid of neurons grows along another direction than it should"
                )
            if (lines != lines[:, :1]).any():
                raise GrowthError("order", "a grid of neurons is cut in other places")


class _Trial:
    """A run of the grown model. The copy ``block`` of a writer's label e is labelled ``base + e * blocks + block``."""

    def __init__(self, ctx: Context, places: Mapping[AxisName, Placement]) -> None:
        self.old, self.places = ctx, places
        self.ctx = Context(numbers=ctx.numbers)
        self.axes = {(axis.parameter, axis.axis): axis for axis in ctx.axes}
        self.blocks = 1 + max(int(place.block.max(initial=0)) for place in places.values())
        self.times = np.ones(ctx.labels.count, np.int64)
        for key, place in places.items():
            self.times[self.axes[key].labels[place.element]] = place.times
        self.known = ctx.labels.count * self.blocks
        self.ctx.labels.count = self.known
        self.labels = {key: self._labels(key, axis) for key, axis in self.axes.items()}

    def _labels(self, key: AxisName, axis: Axis) -> Ints:
        """Writers tell who they are; the other axes are told."""
        place = self.places.get(key)
        size = len(axis.labels) if place is None else len(place.element)
        if Role.WRITES not in self.old.roles.get(key, ()):
            return self.ctx.labels.new(size)
        if place is None:
            return axis.labels * self.blocks
        return axis.labels[place.element] * self.blocks + place.block

    def run(self, subject: Observed, modes: Sequence[bool]) -> None:
        bare = meta_copy(subject.model)
        found = named_tensors(bare)
        resize(
            bare,
            {
                key: place.index_map(reads=False)
                for key, place in self.places.items()
                if key[0] in found
            },
        )
        self._tell(bare)
        for training in modes:
            error = run_once(self.ctx, bare, subject, training)
            if error is not None:
                raise GrowthError("order", f"the grown model does not run: {error}") from error

    def _tell(self, bare: nn.Module) -> None:
        found = named_tensors(bare)
        by_name: dict[str, list[Axis]] = {}
        for key, axis in self.axes.items():
            told = Axis(axis.parameter, axis.axis, self.labels[key], axis.scales, axis.constant)
            by_name.setdefault(key[0], []).append(told)
        for name, axes in by_name.items():
            if name in found and found[name].is_meta:
                self.ctx.label(found[name], tuple(axes))

    def arrived(self) -> Ints:
        return new_neuron_positions(self.ctx, np.arange(self.ctx.labels.count) < self.known)

    def decode(self, labels: Ints) -> tuple[Ints, Ints]:
        """(writer's label, number of the copy); -1 where nobody knows."""
        return np.where(labels < 0, -1, labels // self.blocks), np.where(
            labels < 0, 0, labels % self.blocks
        )


def channel_order(
    ctx: Context,
    subject: Observed,
    singly: frozenset[int],
    classes: Ints,
    directions: Mapping[int, int],
) -> ChannelOrder:
    """A replay of the widths ``singly`` through ``subject``, on what was observed in ``ctx``."""
    writers = np.zeros(ctx.labels.count, bool)
    for axis in ctx.axes:
        if Role.WRITES in ctx.roles.get((axis.parameter, axis.axis), ()):
            writers[axis.labels] = True
    return ChannelOrder(
        ctx, subject, singly, classes, new_neuron_positions(ctx, writers), directions
    )


def new_neuron_positions(ctx: Context, known: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Ints:
    """For every label the first ``known`` one that it was united with, itself if it is known, -1 if there is none."""
    found: Ints = np.where(known, np.arange(ctx.labels.count), -1)
    found[FIXED] = -1
    while True:
        before = int((found >= 0).sum())
        for left, right in ctx.labels.pairs:
            for to, by in ((left, right), (right, left)):
                told = (found[to] < 0) & (found[by] >= 0)
                found[to[told]] = found[by[told]]
        if int((found >= 0).sum()) == before:
            return found


def _meetings(arrived: Ints, pairs: Sequence[tuple[Ints, Ints]]) -> Ints:
    """The different writers that meet, one pair a row."""
    sides = [np.stack([arrived[left], arrived[right]], 1) for left, right in pairs]
    both = np.concatenate(sides) if sides else np.empty((0, 2), np.int64)
    differ: Ints = np.unique(both[(both >= 0).all(1) & (both[:, 0] != both[:, 1])], axis=0)
    return differ


def _numbered(element: Ints, block: Ints) -> Ints:
    """Rows (element, how many equal (element, block) came before)."""
    order = np.lexsort((block, element))
    starts = np.diff(element[order], prepend=-2).astype(bool) | np.diff(
        block[order], prepend=-2
    ).astype(bool)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    number = np.empty_like(element)
    number[order] = np.arange(len(order)) - first
    return np.stack([element, number], 1)


def _lookup(old: Ints, new: Ints) -> Ints:
    """For every row of ``new`` its place in ``old``, -1 where it has none."""
    places = {(int(e), int(n)): i for i, (e, n) in enumerate(old)}
    return np.array([places.get((int(e), int(n)), -1) for e, n in new], np.int64)


def _mixed(key: AxisName) -> GrowthError:
    return GrowthError(
        "order",
        f"neurons arrive at {key[0]}, axis {key[1]}, that come from nowhere in the old model",
    )
