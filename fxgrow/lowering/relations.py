"""Sizes of reshapes, computed from what is reshaped.

Code that reshapes a layer's output into heads (``view(b, n, 3, self.heads, c // self.heads)``) and
back (``reshape(b, n, c)``) knows the sizes from elsewhere: from the stream, whose size need not be
heads times head size. Here each size becomes one of the tensor that is reshaped, or a quotient of
it, so that the code runs with as many heads as the layer writes:

    the size of a dimension that stays:        size(x, i)
    of one into which several are merged:      the product of theirs
    of one of those that i is split into:      the number that it is, but for the heads, of which
                                               there are size(x, i) // (product of the others)
    of the last of the pieces that i is cut into (queries, keys, values): size(x, i) - (the others)
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from fxgrow.capture import drop_unused
from fxgrow.coupling import NodeShape

GraphSize = int | fx.Node
"""A size in a graph: a number, or the node that computes it."""

FreePart = Callable[[Sequence[int]], int]
"""Which of the parts of a split dimension, given their sizes, is as large as there is room for."""


def second_to_last(parts: Sequence[int]) -> int:
    """The heads of ``(3, heads, head size)`` and of ``(heads, head size)``."""
    return max(len(parts) - 2, 0)


def first_part(parts: Sequence[int]) -> int:
    """The heads of ``(heads, 3, head size)``."""
    return min(0, len(parts) - 1)


def last_part(parts: Sequence[int]) -> int:
    """The heads of ``(head size, heads)``."""
    return len(parts) - 1


FREE_PARTS: tuple[FreePart, ...] = (second_to_last, first_part, last_part)
"""What may be free in a module, the likeliest first."""


@dataclass(frozen=True)
class _Part:
    """What an old and a new dimension of a reshape have in common, and how large it is."""

    old: int
    new: int
    size: int


def shared_parts(old: Sequence[int], new: Sequence[int]) -> list[_Part] | None:
    """Take a reshape apart into the smallest dimensions that old and new ones are made of.

    Args:
        old: the shape before.
        new: the shape after, with as many elements.

    Returns:
        The parts in order, or None if some dimension is cut across (``[2, 3]`` to ``[3, 2]``).

    Example:
        >>> shared_parts([5, 12], [5, 3, 4])
        [_Part(old=0, new=0, size=5), _Part(old=1, new=1, size=3), _Part(old=1, new=2, size=4)]
    """
    # Dimensions of size 1 come and go anywhere; what they belong to is seen afterwards.
    olds = [i for i, size in enumerate(old) if size != 1]
    news = [j for j, size in enumerate(new) if size != 1]
    parts: list[_Part] = []
    left = room = 1
    while olds or news or left > 1 or room > 1:
        if left == 1:
            i = olds.pop(0)
            left = old[i]
        if room == 1:
            j = news.pop(0)
            room = new[j]
        size = min(left, room)
        if size == 0 or left % size or room % size:
            return None
        parts.append(_Part(i, j, size))
        left //= size
        room //= size
    return _with_single_heads(parts, new)


def _with_single_heads(parts: Sequence[_Part], new: Sequence[int]) -> list[_Part]:
    """The parts, with a new dimension of size 1 between two parts of one old dimension.

    There, as in ``(3, 1, head size)``, it is one head; elsewhere it holds nothing.
    """
    filled: list[_Part] = []
    for part in parts:
        before = filled[-1] if filled else part
        if before.old == part.old:
            for j in range(before.new + 1, part.new):
                filled.append(_Part(part.old, j, new[j]))
        filled.append(part)
    return filled


@dataclass
class _Sizes:
    """Rewrites the sizes in one graph.

    Args:
        graph: the graph.
        shapes: the shape of each node's value, and where neurons are in it.
        free_part: which part of a split dimension is free.
        free: by what they were, the sizes that are free so far, as nodes.
        expanded: by node, the dimensions that were expanded to a free size.
    """

    graph: fx.Graph
    shapes: Mapping[str, NodeShape]
    free_part: FreePart
    free: dict[int, fx.Node] = field(default_factory=dict)
    expanded: dict[str, set[int]] = field(default_factory=dict)
    changed: bool = False

    def rewrite(self, node: fx.Node) -> None:
        """Rewrite the sizes that a node takes, if it takes any."""
        name = node.target if node.op == "call_method" else _FUNCTIONS.get(node.target)
        rewrite = _REWRITES.get(str(name))
        source = _tensor_of(node.args[0]) if node.args else None
        if rewrite is None or not isinstance(source, fx.Node) or source.name not in self.shapes:
            return
        with self.graph.inserting_before(node):
            rewrite(self, node, source)

    def reshape(self, node: fx.Node, source: fx.Node) -> None:
        """A view or reshape: the sizes of the dimensions that hold neurons."""
        if node.name not in self.shapes:
            return
        old, new = self.shapes[source.name].size, self.shapes[node.name].size
        sizes = size_arguments(node, len(new)) or self._of_computed_shape(node, len(new))
        parts = shared_parts(old, new)
        if sizes is None or parts is None:
            return
        labeled = self.shapes[source.name].dims | self.expanded.get(source.name, set())
        if all(part.old not in labeled for part in parts):
            return
        part_sizes = self._part_sizes(source, parts, labeled)
        for j in range(len(new)):
            of_new = [part for part in parts if part.new == j]
            if any(part.old in labeled for part in of_new):
                sizes[j] = self._product([part_sizes[part] for part in of_new])
        self._give(node, source, sizes)

    def _of_computed_shape(self, node: fx.Node, rank: int) -> list[Any] | None:
        """The sizes of ``reshape(shape)``, a shape that is computed; None for other forms."""
        given = () if node.kwargs else node.args[1:]
        if len(given) != 1 or not isinstance(given[0], fx.Node) or rank < 2:
            return None
        return [self._call("call_function", operator.getitem, given[0], j) for j in range(rank)]

    def compare(self, node: fx.Node, source: fx.Node) -> None:
        """A check of a whole shape: along dimensions that hold neurons it is as it is."""
        shape, expected = node.args
        dims = self.shapes[source.name].dims | self.expanded.get(source.name, set())
        rank = len(self.shapes[source.name].size)
        if not dims or not isinstance(expected, tuple) or len(expected) != rank:
            return
        sizes: list[Any] = list(expected)
        for dim in dims:
            sizes[dim] = self._call("call_method", "size", source, dim)
        node.args = (shape, tuple(sizes))
        self.changed = True

    def expand(self, node: fx.Node, source: fx.Node) -> None:
        """An expansion to as many as there are heads."""
        if node.name not in self.shapes:
            return
        old, new = self.shapes[source.name].size, self.shapes[node.name].size
        sizes = size_arguments(node, len(new))
        if sizes is None:
            return
        added = len(new) - len(old)
        for j, size in enumerate(sizes):
            is_expanded = j < added or old[j - added] == 1
            if isinstance(size, int) and size > 1 and is_expanded and size in self.free:
                sizes[j] = self.free[size]
                self.expanded.setdefault(node.name, set()).add(j)
        self._give(node, source, sizes)

    def split(self, node: fx.Node, source: fx.Node) -> None:
        """A cut into pieces along a dimension that holds neurons: the last takes what is left."""
        sizes, dim = _split_arguments(node)
        shape = self.shapes[source.name]
        if sizes is None or not isinstance(dim, int) or dim % len(shape.size) not in shape.dims:
            return
        whole = self._call("call_method", "size", source, dim)
        rest = self._call("call_function", operator.sub, whole, sum(sizes[:-1]))
        node.args, node.kwargs = (source, [*sizes[:-1], rest], dim), {}
        self.changed = True

    def _part_sizes(
        self, source: fx.Node, parts: Sequence[_Part], labeled: frozenset[int]
    ) -> dict[_Part, GraphSize]:
        sizes: dict[_Part, GraphSize] = {}
        for i in sorted({part.old for part in parts}):
            of_old = [part for part in parts if part.old == i]
            whole = self._call("call_method", "size", source, i)
            if len(of_old) == 1:
                sizes[of_old[0]] = whole
                continue
            numbers = [part.size for part in of_old]
            free = self.free_part(numbers)
            for position, part in enumerate(of_old):
                sizes[part] = part.size
                if position == free:
                    rest = math.prod(numbers) // max(part.size, 1)
                    sizes[part] = self._call("call_function", operator.floordiv, whole, rest)
                    if i in labeled:
                        self.free.setdefault(part.size, sizes[part])  # type: ignore[arg-type]
        return sizes

    def _product(self, factors: Sequence[GraphSize]) -> GraphSize:
        product: GraphSize = factors[0]
        for factor in factors[1:]:
            product = self._call("call_function", operator.mul, product, factor)
        return product

    def _call(self, op: str, target: Any, *args: Any) -> fx.Node:
        return self.graph.create_node(op, target, args)

    def _give(self, node: fx.Node, source: fx.Node, sizes: Sequence[Any]) -> None:
        before = size_arguments(node, len(sizes))
        if before is None or any(a is not b for a, b in zip(before, sizes, strict=True)):
            is_method = node.op == "call_method"
            node.args = (source, *sizes) if is_method else (source, tuple(sizes))
            self.changed = True


def _tensor_of(value: Any) -> Any:
    """The tensor whose whole shape a node is; any other argument itself."""
    if not isinstance(value, fx.Node):
        return value
    is_size = value.op == "call_method" and value.target == "size" and len(value.args) == 1
    is_shape = value.target is getattr and value.args[1:] == ("shape",)
    return value.args[0] if is_size or is_shape else value


def _split_arguments(node: fx.Node) -> tuple[list[int] | None, Any]:
    """The sizes of the pieces, if there are several numbers, and the dimension."""
    names = ("split_sizes", "split_size_or_sections", "split_size")
    sizes: Any = next((node.kwargs[name] for name in names if name in node.kwargs), None)
    sizes = node.args[1] if len(node.args) > 1 else sizes
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    is_list = isinstance(sizes, (tuple, list)) and len(sizes) > 1
    if not is_list or not all(isinstance(size, int) for size in sizes):
        return None, dim
    return list(sizes), dim


def size_arguments(node: fx.Node, rank: int) -> list[Any] | None:
    """The sizes that a view, reshape or expansion takes, one per dimension of its result.

    Args:
        node: the node.
        rank: how many dimensions its result has.

    Returns:
        Numbers and nodes; None for other forms (a ``torch.Size`` that is computed, a dtype).
    """
    given: Any = () if node.kwargs else node.args[1:]
    if len(given) == 1 and isinstance(given[0], (tuple, list)):
        given = given[0]
    sizes = list(given)
    if len(sizes) != rank or not all(isinstance(size, (int, fx.Node)) for size in sizes):
        return None
    # One node alone may be all sizes together.
    return None if rank > 1 and len(given) == 1 else sizes


_FUNCTIONS: Mapping[Any, str] = {
    torch.reshape: "reshape",
    torch.split: "split",
    operator.eq: "compare",
    operator.ne: "compare",
}
_REWRITES: Mapping[str, Callable[[_Sizes, fx.Node, fx.Node], None]] = {
    "view": _Sizes.reshape,
    "reshape": _Sizes.reshape,
    "expand": _Sizes.expand,
    "split": _Sizes.split,
    "compare": _Sizes.compare,
}


def compute_sizes(
    graph_module: fx.GraphModule, shapes: Mapping[str, NodeShape], free_part: FreePart
) -> bool:
    """Have the reshapes of a graph take their sizes from what they reshape, in place.

    Args:
        graph_module: the graph.
        shapes: the shape of each node's value on the example inputs, and where neurons are in it.
        free_part: which part of a dimension that is split is as large as there is room for.

    Returns:
        Whether anything changed. The graph computes the same for the example inputs.
    """
    sizes = _Sizes(graph_module.graph, shapes, free_part)
    for node in list(graph_module.graph.nodes):
        sizes.rewrite(node)
    drop_unused(graph_module)
    return sizes.changed
