"""Grids by themselves: labels are classes here, nothing is united yet."""

import numpy as np
import pytest

from fxgrow.coupling.grids import decide
from fxgrow.coupling.labels import Bools
from fxgrow.coupling.values import Grid

GRID = Grid(np.arange(1, 7).reshape(2, 3), (np.array([7, 8]), np.array([9, 10, 11])), "view", "")
CLASSES = np.arange(12)


WRITTEN = np.ones(len(CLASSES), dtype=bool)


def pinned(*classes: int) -> Bools:
    mask = np.zeros(len(CLASSES), dtype=bool)
    mask[list(classes)] = True
    return mask


def test_a_free_grid_grows_where_it_has_most_neurons() -> None:
    decision = decide([GRID], CLASSES, pinned(), WRITTEN, set())
    assert decision.chosen == {0: 1}
    cells, lines = decision.pairs[0]
    assert lines.tolist() == [9, 10, 11] * 2
    assert cells.tolist() == [1, 2, 3, 4, 5, 6]
    assert [(grid, fixed.tolist()) for grid, fixed in decision.fixed] == [(0, [7, 8])]


def test_a_pinned_line_turns_the_grid() -> None:
    assert decide([GRID], CLASSES, pinned(10), WRITTEN, set()).chosen == {0: 0}


def test_a_banned_direction_turns_the_grid() -> None:
    assert decide([GRID], CLASSES, pinned(), WRITTEN, {(0, 1)}).chosen == {0: 0}


@pytest.mark.parametrize("classes", [(3,), (7, 9)])
def test_a_grid_that_is_pinned_everywhere_is_fixed(classes: tuple[int, ...]) -> None:
    decision = decide([GRID], CLASSES, pinned(*classes), WRITTEN, set())
    assert decision.chosen == {}
    assert decision.fixed[0][1].tolist() == [1, 2, 3, 4, 5, 6]


def test_grids_that_share_lines_are_decided_together() -> None:
    other = Grid(GRID.joint + 11, (np.array([7, 8]), np.array([18, 19, 20])), "view", "")
    mask = np.zeros(21, dtype=bool)
    mask[18] = (
        True  # the other grid can only grow along its first dimension, so the shared lines must stay free
    )
    assert decide([GRID, other], np.arange(21), mask, ~mask, set()).chosen == {0: 0, 1: 0}


def test_lines_that_nothing_writes_are_no_neurons() -> None:
    rows = Grid(np.arange(1, 7).reshape(2, 3), (np.array([7, 8]), np.array([9, 10, 11])), "", "")
    written = np.zeros(len(CLASSES), dtype=bool)
    written[[7, 8]] = True
    assert decide([rows], CLASSES, pinned(), written, set()).chosen == {0: 0}


def test_no_grids() -> None:
    assert decide([], CLASSES, pinned(), WRITTEN, set()).chosen == {}
