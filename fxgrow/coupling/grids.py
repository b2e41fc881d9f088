"""Which way may a grid grow? A labelled axis seen as a grid (heads x head size, groups x channels) grows one way only.

Grids that share neurons are decided together: for each order of preference every grid takes the first direction that
stays legal beside what was already decided, and the assignment that leaves most positions growable wins, the one with
most neurons among equals.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fxgrow.coupling.labels import Ints, components
from fxgrow.coupling.values import Grid

Direction = tuple[int, int]
"""(number of the grid, dimension along which it grows)."""


@dataclass
class Decision:
    """The unions that the chosen directions add, and the classes that they fix (with the grid to blame)."""

    pairs: list[tuple[Ints, Ints]] = field(default_factory=list)
    fixed: dict[int, int] = field(default_factory=dict)
    chosen: dict[int, int] = field(default_factory=dict)


def decide(grids: Sequence[Grid], classes: Ints, pinned: set[int], banned: set[Direction]) -> Decision:
    """Choose a direction for every grid; ``classes`` maps labels to classes, ``pinned`` classes cannot grow."""
    total = Decision()
    for cluster in _clusters(grids, classes, pinned):
        trials = [_assign(grids, cluster, classes, pinned, banned, backwards) for backwards in (True, False)]
        best = max(trials, key=lambda trial: trial[0])[1]
        total.pairs += best.pairs
        total.fixed |= best.fixed
        total.chosen |= best.chosen
    return total


def _lines(grid: Grid, classes: Ints) -> tuple[Ints, list[Ints]]:
    return classes[grid.joint], [classes[lines] for lines in grid.factors]


def _clusters(grids: Sequence[Grid], classes: Ints, pinned: set[int]) -> list[list[int]]:
    """Grids that share an unpinned class, together."""
    owner: dict[int, int] = {}
    links: list[tuple[int, int]] = []
    for number, grid in enumerate(grids):
        joint, factors = _lines(grid, classes)
        for one in set(np.concatenate([joint.reshape(-1), *factors]).tolist()) - pinned:
            links.append((number, owner.setdefault(one, number)))
    if not links:
        return [[number] for number in range(len(grids))]
    pairs = np.array(links) + 1  # label 0 is FIXED to components()
    groups = components(len(grids) + 1, [(pairs[:, 0], pairs[:, 1])])[1:]
    return [np.flatnonzero(groups == group).tolist() for group in np.unique(groups)]


def _assign(
    grids: Sequence[Grid], cluster: Sequence[int], classes: Ints, pinned: set[int], banned: set[Direction], backwards: bool
) -> tuple[tuple[int, int], Decision]:
    """One greedy assignment, and how good it is: (positions left growable, number of neurons in them)."""
    local = _Local(grids, cluster, classes, pinned)
    decision = Decision()
    for number in cluster:
        joint, factors = _lines(grids[number], classes)
        order = range(joint.ndim)[::-1] if backwards else range(joint.ndim)
        legal = (d for d in order if (number, d) not in banned and local.allows(joint, factors, d))
        direction = next(legal, None)
        if direction is None:
            decision.fixed |= dict.fromkeys(np.unique(joint).tolist(), number)
            local.fix(joint)
            continue
        decision.chosen[number] = direction
        decision.pairs.append(local.take(joint, factors, direction))
        for other, lines in enumerate(factors):
            if other != direction:
                decision.fixed |= dict.fromkeys(lines.tolist(), number)
                local.fix(lines)
    return local.quality([_lines(grids[number], classes)[0] for number in cluster]), decision


class _Local:
    """The classes that one cluster touches, numbered from 1, with the unions and pins decided so far."""

    def __init__(self, grids: Sequence[Grid], cluster: Sequence[int], classes: Ints, pinned: set[int]) -> None:
        seen = [array for n in cluster for array in (classes[grids[n].joint].reshape(-1), *_lines(grids[n], classes)[1])]
        self.names = np.unique(np.concatenate(seen))
        self.pairs: list[tuple[Ints, Ints]] = []
        self.fixed = np.concatenate([[True], np.isin(self.names, list(pinned))])
        self._solve()

    def _number(self, classes: Ints) -> Ints:
        return np.searchsorted(self.names, classes) + 1

    def _solve(self) -> None:
        self.groups = components(len(self.names) + 1, self.pairs)
        bad = np.zeros(self.groups.max() + 1, dtype=bool)
        bad[self.groups[self.fixed]] = True
        self.bad = bad[self.groups]

    def allows(self, joint: Ints, factors: Sequence[Ints], direction: int) -> bool:
        """Growing along ``direction`` is legal if neither its cells nor its lines are fixed."""
        return not self.bad[self._number(joint)].any() and not self.bad[self._number(factors[direction])].any()

    def take(self, joint: Ints, factors: Sequence[Ints], direction: int) -> tuple[Ints, Ints]:
        """Unite all cells of a line with its label."""
        shape = [-1 if d == direction else 1 for d in range(joint.ndim)]
        lines = np.broadcast_to(factors[direction].reshape(shape), joint.shape).reshape(-1)
        cells = joint.reshape(-1)
        self.pairs.append((self._number(cells), self._number(lines)))
        self._solve()
        return cells, lines

    def fix(self, classes: Ints) -> None:
        self.fixed[self._number(classes)] = True
        self._solve()

    def quality(self, joints: Sequence[Ints]) -> tuple[int, int]:
        cells = self._number(np.unique(np.concatenate([joint.reshape(-1) for joint in joints])))
        free = cells[~self.bad[cells]]
        return len(free), len(np.unique(self.groups[free]))
