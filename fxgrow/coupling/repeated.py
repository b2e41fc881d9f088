"""What a run in training mode sees once more after one in evaluation mode: it is recorded once.

Else each grid would have to be given up twice, and it would be unclear what an attribute counts.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from fxgrow.coupling.context import Context
from fxgrow.coupling.values import Grid, ShapeEvent


@dataclass(frozen=True)
class Recorded:
    """How much was recorded before a run."""

    grids: int
    merged: int
    shape_events: int

    @staticmethod
    def of(ctx: Context) -> "Recorded":
        """What is recorded now."""
        return Recorded(len(ctx.grids), len(ctx.merged), len(ctx.shape_events))

    def drop_repeated(self, ctx: Context) -> None:
        """Take away what was recorded since, where it had been recorded before.

        Args:
            ctx: grids and shape events are known by their places in the model's code, as often as
                the code came there before.
        """
        new = _new(list(map(_place_of_grid, ctx.grids)), self.grids)
        # Numbers of grids change, and ``merged`` holds some.
        numbers = {number: self.grids + place for place, number in enumerate(new)}
        ctx.grids[self.grids :] = [ctx.grids[number] for number in new]
        merged = [numbers[number] for number in ctx.merged[self.merged :] if number in numbers]
        ctx.merged[self.merged :] = merged
        events = ctx.shape_events
        new = _new(list(map(_place_of_event, events)), self.shape_events)
        events[self.shape_events :] = [events[number] for number in new]


def _place_of_grid(grid: Grid) -> Hashable:
    return grid.module, grid.node, grid.line


def _place_of_event(event: ShapeEvent) -> Hashable:
    return event.module, event.line


def _new(places: Sequence[Hashable], start: int) -> list[int]:
    """The numbers from ``start`` on that come to a place more often than those before did."""
    left = Counter(places[:start])
    found = []
    for number, place in enumerate(places[start:], start=start):
        if left[place] > 0:
            left[place] -= 1
        else:
            found.append(number)
    return found
