"""Which way may a grid grow? A labeled axis seen as a grid (heads x head size) grows one way only.

Grids that share neurons are decided together: for each order of preference every grid takes the
first direction that stays legal beside what was already decided, and the assignment that leaves
most positions growable wins, the one with most neurons among equals.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fxgrow.coupling.labels import Bools, Ints, components, distinct
from fxgrow.coupling.values import Grid

Direction = tuple[int, int]
"""(number of the grid, dimension along which it grows)."""

Quality = tuple[int, int]
"""(positions that are left growable, number of neurons in them): more is better."""


@dataclass(frozen=True, eq=False)
class Lines:
    """A grid in terms of classes: ``joint[i, j, ...]`` and ``factors[d][i]`` as in ``Grid``."""

    joint: Ints
    factors: tuple[Ints, ...]

    @cached_property
    def flat(self) -> Ints:
        """All classes in it, cells first."""
        return np.concatenate([self.cells, *self.factors])

    @property
    def cells(self) -> Ints:
        """The classes of its cells, as a vector."""
        return self.joint.reshape(-1)


@dataclass
class Decision:
    """How grids grow.

    Args:
        pairs: the unions of classes that this adds.
        fixed: (number of a grid, classes that it fixes).
        chosen: the direction of each grid that has one.
    """

    pairs: list[tuple[Ints, Ints]] = field(default_factory=list)
    fixed: list[tuple[int, Ints]] = field(default_factory=list)
    chosen: dict[int, int] = field(default_factory=dict)


def decide(
    grids: Sequence[Grid], classes: Ints, pinned: Bools, written: Bools, banned: Set[Direction]
) -> Decision:
    """Choose a direction for every grid.

    Args:
        grids: the grids, in terms of labels.
        classes: the class of each label.
        pinned: for each class whether it cannot grow.
        written: for each class whether some parameter writes it.
        banned: directions that failed in a trial.

    Returns:
        The directions, and what they unite and fix.
    """
    lines = []
    for grid in grids:
        factors = [classes[factor] for factor in grid.factors]
        lines.append(Lines(classes[grid.joint], tuple(factors)))
    total = Decision()
    for cluster in _clusters(lines, pinned):
        members = {number: lines[number] for number in cluster}
        best = _best_assignment(members, pinned, written, banned)
        total.pairs += best.pairs
        total.fixed += best.fixed
        total.chosen |= best.chosen
    return total


def _clusters(lines: Sequence[Lines], pinned: Bools) -> list[list[int]]:
    """Numbers of the grids that share an unpinned class, together."""
    if not lines:
        return []
    sizes = [len(grid_lines.flat) for grid_lines in lines]
    grid = np.repeat(np.arange(len(lines)), sizes)
    members = np.concatenate([grid_lines.flat for grid_lines in lines])
    grid, members = grid[~pinned[members]], members[~pinned[members]]
    # A graph of grids (numbered from 1, because 0 is FIXED to components) and classes (numbered
    # after them), with an edge where a grid holds a class.
    first = 1 + len(lines)
    groups = components(first + len(pinned), [(grid + 1, members + first)])[1:first]
    clusters = []
    for group in np.unique(groups):
        clusters.append(np.flatnonzero(groups == group).tolist())
    return clusters


def _best_assignment(
    members: Mapping[int, Lines], pinned: Bools, written: Bools, banned: Set[Direction]
) -> Decision:
    """The better of two greedy assignments; of equals the one that prefers late dimensions."""
    late_quality, late = _assign(members, pinned, written, banned, prefer_late=True)
    early_quality, early = _assign(members, pinned, written, banned, prefer_late=False)
    return early if early_quality > late_quality else late


def _assign(
    members: Mapping[int, Lines],
    pinned: Bools,
    written: Bools,
    banned: Set[Direction],
    *,
    prefer_late: bool,
) -> tuple[Quality, Decision]:
    """One greedy assignment, and how good it is."""
    cluster = _Cluster(list(members.values()), pinned, written)
    decision = Decision()
    for number, lines in members.items():
        direction = _first_legal(cluster, number, lines, banned, prefer_late)
        if direction is None:
            fixed = [lines.cells]
        else:
            decision.chosen[number] = direction
            decision.pairs.append(cluster.take(lines, direction))
            # The grid keeps its size along all other directions.
            fixed = [factor for d, factor in enumerate(lines.factors) if d != direction]
        for classes in fixed:
            decision.fixed.append((number, classes))
        cluster.fix(fixed)
    return cluster.quality(), decision


def _first_legal(
    cluster: "_Cluster", number: int, lines: Lines, banned: Set[Direction], prefer_late: bool
) -> int | None:
    directions = range(lines.joint.ndim)
    for direction in reversed(directions) if prefer_late else directions:
        if (number, direction) not in banned and cluster.allows(lines, direction):
            return direction
    return None


class _Cluster:
    """The classes that one cluster touches, numbered from 1, with its unions and pins so far."""

    def __init__(self, members: Sequence[Lines], pinned: Bools, written: Bools) -> None:
        count = len(pinned)
        self.classes = distinct(np.concatenate([lines.flat for lines in members]), count)
        # A table, because grids of tokens x tokens have too many cells to search for.
        self.numbers = np.zeros(count, np.int64)
        self.numbers[self.classes] = np.arange(1, len(self.classes) + 1)
        cells = distinct(np.concatenate([lines.cells for lines in members]), count)
        self.cells = self._numbers(cells)
        self.pairs: list[tuple[Ints, Ints]] = []
        # Number 0 is FIXED to components, so it counts as fixed here too.
        self.fixed = np.concatenate([[True], pinned[self.classes]])
        self.written = np.concatenate([[False], written[self.classes]])
        self._solve()

    def _numbers(self, classes: Ints) -> Ints:
        numbers: Ints = self.numbers[classes]
        return numbers

    def _solve(self) -> None:
        """Find the groups under the unions so far; a group with a fixed class is fixed."""
        self.groups = components(len(self.classes) + 1, self.pairs)
        fixed_groups = np.zeros(self.groups.max() + 1, dtype=bool)
        fixed_groups[self.groups[self.fixed]] = True
        self.in_fixed_group = fixed_groups[self.groups]

    def allows(self, lines: Lines, direction: int) -> bool:
        """Growing along ``direction`` is legal if neither its cells nor its lines are fixed."""
        used = np.concatenate([lines.cells, lines.factors[direction]])
        return not self.in_fixed_group[self._numbers(used)].any()

    def take(self, lines: Lines, direction: int) -> tuple[Ints, Ints]:
        """Unite all cells of a line with its label; gives back the union, cell by cell."""
        # The factor as a grid with size 1 along the other dimensions, repeated over all cells.
        shape = [1] * lines.joint.ndim
        shape[direction] = -1
        factor = lines.factors[direction].reshape(shape)
        along = np.broadcast_to(factor, lines.joint.shape).reshape(-1)
        self.pairs.append((self._numbers(lines.cells), self._numbers(along)))
        return lines.cells, along

    def fix(self, fixed: Sequence[Ints]) -> None:
        """Fix these classes, and find the groups again."""
        for classes in fixed:
            self.fixed[self._numbers(classes)] = True
        self._solve()

    def quality(self) -> Quality:
        """How many cells can still grow, and how many neurons they make.

        What no parameter writes is no neuron.
        """
        written_groups = np.zeros(self.groups.max() + 1, dtype=bool)
        written_groups[self.groups[self.written]] = True
        is_written = written_groups[self.groups[self.cells]]
        free = self.cells[is_written & ~self.in_fixed_group[self.cells]]
        return len(free), len(distinct(self.groups[free], len(written_groups)))
