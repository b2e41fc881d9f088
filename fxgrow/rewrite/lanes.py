"""The twin transform: one walk over an fx graph with an environment that maps each node to its lanes.

Like forward-mode differentiation, every node of the old graph becomes one node (``plus`` alone), two (the halves
``plus`` and ``minus`` of split neurons), and one more for each width whose new neurons pass through it (``fresh``).
A layer that writes a width opens lanes, a layer that reads it closes them (the mean of the halves is exactly two
copies with half of the outgoing weight each), and everything between is copied lane by lane.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

PLUS, MINUS, NEW = "plus", "minus", "fresh"


@dataclass(frozen=True)
class Lanes:
    """The nodes that one node of the old graph became; ``fresh[width]`` carries the new neurons of a width."""

    plus: fx.Node
    minus: fx.Node | None = None
    new: Mapping[int, fx.Node] = field(default_factory=dict)

    def half(self, minus: bool) -> fx.Node:
        return self.minus if minus and self.minus is not None else self.plus

    def lane(self, width: int) -> fx.Node:
        """The lane of a width; a value that does not carry it is the same in every lane."""
        return self.new.get(width, self.plus)


Environment = dict[fx.Node, Lanes]


def pick_lane(env: Environment, choose: Callable[[Lanes], fx.Node]) -> Callable[[fx.Node], Any]:
    """An argument mapping that takes one lane of every argument."""
    return lambda node: choose(env[node])
