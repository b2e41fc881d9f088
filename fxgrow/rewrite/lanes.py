"""Lanes: the nodes of the over-grown graph that one node of the old graph becomes.

The old graph is walked once, with an environment that maps each node to its lanes, as in
forward-mode differentiation. A node becomes one node (``plus`` alone), two (``plus`` and ``minus``,
the halves of split neurons), and one more for each width whose new neurons pass through it
(``new``). A layer that writes a width opens lanes. A layer that reads the width closes them: the
mean of the halves is exactly two copies with half of the outgoing weight each. Everything between
is copied lane by lane.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

PLUS, MINUS, NEW = "plus", "minus", "new"


@dataclass(frozen=True)
class Lanes:
    """The nodes that one node of the old graph became.

    Args:
        plus: the old neurons, or the first half of those that are split.
        minus: the second half; None if it is the same as the first.
        new: ``new[width]`` carries the new neurons of a width, by its number.
    """

    plus: fx.Node
    minus: fx.Node | None = None
    new: Mapping[int, fx.Node] = field(default_factory=dict)

    def half(self, minus: bool) -> fx.Node:
        """One of the halves; a value that is not split is the same in both."""
        return self.minus if minus and self.minus is not None else self.plus

    def lane(self, width: int) -> fx.Node:
        """The lane of a width; a value that does not carry it is the same in every lane."""
        return self.new.get(width, self.plus)


Environment = dict[fx.Node, Lanes]


def pick_lane(env: Environment, choose: Callable[[Lanes], fx.Node]) -> Callable[[fx.Node], Any]:
    """An argument mapping that takes one lane of every argument.

    Args:
        env: the lanes of each node of the old graph.
        choose: which of the lanes.

    Returns:
        A function from a node of the old graph to a node of the new one.
    """
    return lambda node: choose(env[node])
