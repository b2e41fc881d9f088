"""Where do neurons arrive after they were shuffled? Send them through the grown model and look.

The standard order of insertion is local: a copy follows the run of its neuron's occurrences
(``surgery.index_map``). Where a model deals channels out like cards (the stages of a ShuffleNet) no
local order is right on all axes at once. For such widths the layers that *write* neurons put each
copy beside its original, and every other axis is read off from a run: the grown model moves pairs
(row of a writer, number of the copy) about, and what arrives at an index says which old index it
comes from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from fxgrow.coupling.context import Context, Observed
from fxgrow.coupling.keys import AnyAxisKey, WidthId
from fxgrow.coupling.labels import FIXED, Bools, Ints
from fxgrow.coupling.meta_copy import meta_copy
from fxgrow.coupling.trace import run_once
from fxgrow.coupling.values import Axis, Role
from fxgrow.errors import GrowthError
from fxgrow.surgery import Change, IndexMap, Placement, named_tensors, placement, resize

OwnerOf = tuple[Ints, Ints]
"""Number of the width, and of the neuron in it, per index of an axis."""


@dataclass(frozen=True, eq=False)
class ChannelOrder:
    """Finds the order of shuffled widths by running the grown model.

    Args:
        ctx: what was observed of the old model.
        subject: the model.
        singly: the numbers of the shuffled widths, each of which may change by itself.
        classes: the classes of their neurons.
        arrived: for each label the writer's label that met it in the old model (-1: none).
        directions: for each grid of their neurons the direction in which it grows.
    """

    ctx: Context
    subject: Observed
    singly: frozenset[WidthId]
    classes: Ints
    arrived: Ints
    directions: Mapping[int, int]

    def maps(
        self, owners: Mapping[AnyAxisKey, OwnerOf], changes: Mapping[int, Change]
    ) -> dict[AnyAxisKey, IndexMap]:
        """The IndexMaps of all axes on which a shuffled width changes.

        Args:
            owners: who owns each index of every axis.
            changes: the change of each width that changes, by number.

        Returns:
            The IndexMaps by axis.

        Raises:
            GrowthError: ``order``, if copies of different neurons meet, so that no order keeps the
                function.
        """
        places = {}
        for key, (width, neuron) in owners.items():
            places[key] = placement(width, neuron, changes, self.singly)
        trial = _TrialRun(self.ctx, places)
        trial.run(self.subject, tuple(self.ctx.modes(self.subject)))
        arrived = trial.arrived()
        self._require_equal_meetings(arrived, trial)
        self._require_same_grids(arrived, trial)
        changed = list(self.singly & changes.keys())
        maps = {}
        for key, (width, _) in owners.items():
            if np.isin(width, changed).any():
                maps[key] = self._map(key, places[key], trial, arrived)
        return maps

    def _map(
        self, key: AnyAxisKey, place: Placement, trial: "_TrialRun", arrived: Ints
    ) -> IndexMap:
        """The map of one axis: where a writer puts its copies, or what arrives at a reader."""
        roles = self.ctx.roles[key]
        if Role.WRITES in roles:
            return place.index_map(Role.READS in roles)
        old = self.arrived[trial.axes[key].labels]
        element, block = trial.decode(arrived[trial.labels[key]])
        if (element < 0).any() or (old < 0).any():
            raise _mixed(key)
        # One writer's row may arrive several times: its n-th arrival in the grown model comes from
        # its n-th one in the old model.
        old_rows = _numbered(old, np.zeros_like(old))
        source = _lookup(old_rows, _numbered(element, block))
        if (source < 0).any():
            raise _mixed(key)
        return Placement(source, block, trial.times[element]).index_map(Role.READS in roles)

    def _require_equal_meetings(self, arrived: Ints, trial: "_TrialRun") -> None:
        """What meets in the grown model must be equal copies of what meets in the old one."""
        known = set()
        for left, right in _meetings(self.arrived, self.ctx.labels.pairs).tolist():
            known |= {(left, right), (right, left)}
        elements, blocks = trial.decode(_meetings(arrived, trial.ctx.labels.pairs))
        for (a, b), (i, j) in zip(elements.tolist(), blocks.tolist(), strict=True):
            if i != j or (a != b and (a, b) not in known):
                raise GrowthError("order", "copies of different neurons meet in the grown model")

    def _require_same_grids(self, arrived: Ints, trial: "_TrialRun") -> None:
        """A grid keeps its other sizes, and a line that grows holds copies of one number."""
        if len(trial.ctx.grids) != len(self.ctx.grids):
            raise GrowthError("order", "the grown model reshapes its neurons in another way")
        for number, direction in self.directions.items():
            old, new = self.ctx.grids[number].joint, trial.ctx.grids[number].joint
            old_sizes = np.delete(old.shape, direction).tolist()
            new_sizes = np.delete(new.shape, direction).tolist()
            if old_sizes != new_sizes:
                raise GrowthError(
                    "order", "a grid of neurons grows along another direction than it should"
                )
            _, block = trial.decode(arrived[np.moveaxis(new, direction, 0)])
            lines = block.reshape(len(block), -1)  # [lines along the direction, cells of a line]
            if (lines != lines[:, :1]).any():
                raise GrowthError("order", "a grid of neurons is cut in other places")


class _TrialRun:
    """A run of the grown model. Copy ``block`` of a writer's label e is ``e * blocks + block``."""

    def __init__(self, ctx: Context, places: Mapping[AnyAxisKey, Placement]) -> None:
        self.old, self.places = ctx, places
        self.ctx = ctx.for_trial()
        self.axes: dict[AnyAxisKey, Axis] = {axis.key: axis for axis in ctx.axes}
        self.blocks = 1 + max(int(place.block.max(initial=0)) for place in places.values())
        # In how many copies each old label comes.
        self.times = np.ones(ctx.labels.count, np.int64)
        for key, place in places.items():
            self.times[self.axes[key].labels[place.element]] = place.times
        # Labels below this one are copies of writers' labels, the others are new.
        self.first_new = ctx.labels.count * self.blocks
        self.ctx.labels.count = self.first_new
        self.labels = {key: self._labels(key, axis) for key, axis in self.axes.items()}

    def _labels(self, key: AnyAxisKey, axis: Axis) -> Ints:
        """Writers send labels that are known; all other axes get new ones, and receive."""
        place = self.places.get(key)
        size = len(axis.labels) if place is None else len(place.element)
        if Role.WRITES not in self.old.roles.get(key, ()):
            return self.ctx.labels.new(size)
        if place is None:
            return axis.labels * self.blocks
        return axis.labels[place.element] * self.blocks + place.block

    def run(self, subject: Observed, modes: Sequence[bool]) -> None:
        """Grow a bare copy of the model, and run it in these modes (True: training)."""
        bare = meta_copy(subject.model)
        tensors = named_tensors(bare)
        maps: dict[AnyAxisKey, IndexMap] = {}
        for key, place in self.places.items():
            if key[0] in tensors:
                maps[key] = place.index_map(reads=False)
        resize(bare, maps)
        self._label(bare)
        for training in modes:
            error = run_once(self.ctx, bare, subject, training)
            if error is not None:
                raise GrowthError("order", f"the grown model does not run: {error}") from error

    def _label(self, bare: nn.Module) -> None:
        by_name: dict[str, list[Axis]] = {}
        for key, axis in self.axes.items():
            grown = Axis(axis.parameter, axis.axis, self.labels[key], axis.scales, axis.constant)
            by_name.setdefault(axis.parameter, []).append(grown)
        tensors = named_tensors(bare)
        for name, axes in by_name.items():
            if name in tensors and tensors[name].is_meta:
                self.ctx.label(tensors[name], tuple(axes))

    def arrived(self) -> Ints:
        """For each label of the grown model the writer's label that met it."""
        return arrivals(self.ctx, np.arange(self.ctx.labels.count) < self.first_new)

    def decode(self, labels: Ints) -> tuple[Ints, Ints]:
        """(writer's label, number of the copy) of labels of this run; (-1, 0) for none."""
        is_none = labels < 0
        element = np.where(is_none, -1, labels // self.blocks)
        block = np.where(is_none, 0, labels % self.blocks)
        return element, block


def channel_order(
    ctx: Context,
    subject: Observed,
    singly: frozenset[WidthId],
    classes: Ints,
    directions: Mapping[int, int],
) -> ChannelOrder:
    """Prepare to find the order of shuffled widths.

    Args:
        ctx: what was observed of the model.
        subject: the model.
        singly: the numbers of the shuffled widths.
        classes: the classes of their neurons.
        directions: for each grid of their neurons the direction in which it grows.

    Returns:
        What finds their order, change by change.
    """
    is_writer = np.zeros(ctx.labels.count, bool)
    for axis in ctx.axes:
        if Role.WRITES in ctx.roles.get(axis.key, ()):
            is_writer[axis.labels] = True
    arrived = arrivals(ctx, is_writer)
    return ChannelOrder(ctx, subject, singly, classes, arrived, directions)


def arrivals(ctx: Context, known: Bools) -> Ints:
    """Follow labels through the unions of a run.

    Args:
        ctx: the context of the run.
        known: for each label whether it is one to look for.

    Returns:
        For each label the first known one that it was united with: itself if it is known, -1 if
        there is none.
    """
    met: Ints = np.where(known, np.arange(ctx.labels.count), -1)
    met[FIXED] = -1
    while True:
        before = int((met >= 0).sum())
        for left, right in ctx.labels.pairs:
            _spread(met, left, right)
            _spread(met, right, left)
        # A union may come before the one that tells what its labels are: again until all are told.
        if int((met >= 0).sum()) == before:
            return met


def _spread(met: Ints, to: Ints, source: Ints) -> None:
    """Where ``to`` has met nothing yet, it meets what ``source`` met."""
    is_new = (met[to] < 0) & (met[source] >= 0)
    met[to[is_new]] = met[source[is_new]]


def _meetings(arrived: Ints, pairs: Sequence[tuple[Ints, Ints]]) -> Ints:
    """The different writers that meet, ``[pairs, 2]``."""
    both = np.empty((0, 2), np.int64)
    if pairs:
        both = np.concatenate([np.stack([arrived[a], arrived[b]], 1) for a, b in pairs])
    is_known = (both >= 0).all(1)
    differ: Ints = np.unique(both[is_known & (both[:, 0] != both[:, 1])], axis=0)
    return differ


def _numbered(element: Ints, block: Ints) -> Ints:
    """Rows (element, how many equal (element, block) came before), ``[size, 2]``."""
    # Sorted, equal ones form runs: a position less the start of its run is its number.
    order = np.lexsort((block, element))
    element_changes = np.diff(element[order], prepend=-2).astype(bool)
    block_changes = np.diff(block[order], prepend=-2).astype(bool)
    positions = np.arange(len(order))
    run_start = np.where(element_changes | block_changes, positions, 0)
    number = np.empty_like(element)
    number[order] = positions - np.maximum.accumulate(run_start)
    return np.stack([element, number], 1)


def _lookup(old: Ints, new: Ints) -> Ints:
    """For every row of ``new`` its place in ``old``, -1 where it has none."""
    places: dict[tuple[int, int], int] = {}
    for place, (element, number) in enumerate(old.tolist()):
        places[element, number] = place
    source = np.full(len(new), -1, np.int64)
    for i, (element, number) in enumerate(new.tolist()):
        source[i] = places.get((element, number), -1)
    return source


def _mixed(key: AnyAxisKey) -> GrowthError:
    parameter, axis = key
    return GrowthError(
        "order",
        f"neurons arrive at {parameter}, axis {axis}, that come from nowhere in the old model",
    )
