"""Which way may a grid grow? A labelled axis seen as a grid (heads x head size, groups x channels) grows one way only.

Grids that share neurons are decided together: for each order of preference every grid takes the first direction that
stays legal beside what was already decided, and the assignment that leaves most positions growable wins, the one with
most neurons among equals.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fxgrow.coupling.labels import Bools, Ints, components
from fxgrow.coupling.values import Grid

Direction = tuple[int, int]
"""(number of the grid, dimension along which it grows)."""


@dataclass(frozen=True)
class Lines:
    """A grid in terms of classes: ``joint[i, j, ...]`` and ``factors[d][i]`` as in ``Grid``."""

    joint: Ints
    factors: tuple[Ints, ...]

    @cached_property
    def flat(self) -> Ints:
        """All classes in it, cells first."""
        return np.concatenate([self.joint.reshape(-1), *self.factors])


@dataclass
class Decision:
    """``chosen``: direction per grid; ``pairs``: the unions that this adds; ``fixed``: (grid, classes it fixes)."""

    pairs: list[tuple[Ints, Ints]] = field(default_factory=list)
    fixed: list[tuple[int, Ints]] = field(default_factory=list)
    chosen: dict[int, int] = field(default_factory=dict)


def decide(grids: Sequence[Grid], classes: Ints, pinned: Bools, banned: Set[Direction]) -> Decision:
    """Choose a direction for every grid; ``classes`` maps labels to classes, ``pinned`` classes cannot grow."""
    total = Decision()
    lines = [
        Lines(classes[grid.joint], tuple(classes[factor] for factor in grid.factors))
        for grid in grids
    ]
    for cluster in _clusters(lines, pinned):
        members = {number: lines[number] for number in cluster}
        trials = [_assign(members, pinned, banned, backwards) for backwards in (True, False)]
        best = max(trials, key=lambda trial: trial[0])[1]
        total.pairs += best.pairs
        total.fixed += best.fixed
        total.chosen |= best.chosen
    return total


def _clusters(lines: Sequence[Lines], pinned: Bools) -> list[list[int]]:
    """Grids that share an unpinned class, together."""
    if not lines:
        return []
    grid = np.repeat(np.arange(len(lines)), [len(one.flat) for one in lines])
    members = np.concatenate([one.flat for one in lines])
    grid, members = grid[~pinned[members]], members[~pinned[members]]
    # a graph of grids (numbered from 1, because 0 is FIXED to components) and classes (numbered after them)
    first = 1 + len(lines)
    groups = components(first + len(pinned), [(grid + 1, members + first)])[1:first]
    return [np.flatnonzero(groups == group).tolist() for group in np.unique(groups)]


def _assign(
    members: Mapping[int, Lines], pinned: Bools, banned: Set[Direction], backwards: bool
) -> tuple[tuple[int, int], Decision]:
    """One greedy assignment, and how good it is: (positions left growable, number of neurons in them)."""
    local = _Local(list(members.values()), pinned)
    decision = Decision()
    for number, lines in members.items():
        order = range(lines.joint.ndim)[::-1] if backwards else range(lines.joint.ndim)
        legal = (d for d in order if (number, d) not in banned and local.allows(lines, d))
        direction = next(legal, None)
        if direction is None:
            fixed = [lines.joint.reshape(-1)]
        else:
            decision.chosen[number] = direction
            decision.pairs.append(local.take(lines, direction))
            fixed = [factor for d, factor in enumerate(lines.factors) if d != direction]
        for one in fixed:
            decision.fixed.append((number, one))
        local.fix(fixed)
    return local.quality(), decision


class _Local:
    """The classes that one cluster touches, numbered from 1, with the unions and pins decided so far."""

    def __init__(self, members: Sequence[Lines], pinned: Bools) -> None:
        self.names = np.unique(np.concatenate([lines.flat for lines in members]))
        self.cells = self._number(
            np.unique(np.concatenate([lines.joint.reshape(-1) for lines in members]))
        )
        self.pairs: list[tuple[Ints, Ints]] = []
        self.fixed = np.concatenate([[True], pinned[self.names]])
        self._solve()

    def _number(self, classes: Ints) -> Ints:
        return np.searchsorted(self.names, classes) + 1

    def _solve(self) -> None:
        self.groups = components(len(self.names) + 1, self.pairs)
        bad = np.zeros(self.groups.max() + 1, dtype=bool)
        bad[self.groups[self.fixed]] = True
        self.bad = bad[self.groups]

    def allows(self, lines: Lines, direction: int) -> bool:
        """Growing along ``direction`` is legal if neither its cells nor its lines are fixed."""
        used = np.concatenate([lines.joint.reshape(-1), lines.factors[direction]])
        return not self.bad[self._number(used)].any()

    def take(self, lines: Lines, direction: int) -> tuple[Ints, Ints]:
        """Unite all cells of a line with its label."""
        shape = [-1 if d == direction else 1 for d in range(lines.joint.ndim)]
        along = np.broadcast_to(lines.factors[direction].reshape(shape), lines.joint.shape).reshape(
            -1
        )
        cells = lines.joint.reshape(-1)
        self.pairs.append((self._number(cells), self._number(along)))
        return cells, along

    def fix(self, classes: Sequence[Ints]) -> None:
        """Fix these classes, and bring the picture up to date."""
        for one in classes:
            self.fixed[self._number(one)] = True
        self._solve()

    def quality(self) -> tuple[int, int]:
        """How many cells can still grow, and how many neurons they make."""
        free = self.cells[~self.bad[self.cells]]
        return len(free), len(np.unique(self.groups[free]))
