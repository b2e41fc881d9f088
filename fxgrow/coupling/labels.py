"""Labels: one integer per index of every parameter axis, the unions found between them, the pins.

Label 0 (``FIXED``) stands for a position that is nobody's neuron; uniting a label with it pins the
label. Unions are only collected here and resolved by one connected-components call, so that
collecting costs an append per operator.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FIXED = 0


@dataclass(frozen=True, eq=False)
class Pin:
    """Labels that cannot grow, and why. ``node`` is ``module.path: operator (file:line)``."""

    labels: Ints
    code: str
    reason: str
    node: str


@dataclass
class Labels:
    """Hands out labels and collects what is learned about them."""

    count: int = 1  # label 0 is FIXED
    pairs: list[tuple[Ints, Ints]] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)

    def new(self, size: int) -> Ints:
        """``size`` consecutive labels that are not in use yet."""
        first = self.count
        self.count += size
        return np.arange(first, self.count)

    def unite(self, left: Ints, right: Ints) -> None:
        """Element by element, ``left[i]`` and ``right[i]`` belong to one neuron."""
        self.pairs.append((left, right))

    def pin(self, labels: Ints, code: str, reason: str, node: str) -> None:
        """Refuse these labels (``FIXED`` among them is nobody's)."""
        self.pins.append(Pin(labels[labels != FIXED], code, reason, node))


def concatenated(arrays: Sequence[Ints]) -> Ints:
    """One array after the other; an empty one if there are none, which numpy refuses."""
    return np.concatenate(arrays) if arrays else np.empty(0, np.int64)


def distinct(numbers: Ints, count: int) -> Ints:
    """The numbers below ``count`` that occur, ascending; ``np.unique`` hashes, which takes longer.

    Args:
        numbers: the numbers, many of them equal.
        count: how many numbers there are.

    Returns:
        Each that occurs, once.
    """
    occurs = np.zeros(count, dtype=bool)
    occurs[numbers] = True
    return np.flatnonzero(occurs)


def components(count: int, pairs: Sequence[tuple[Ints, Ints]]) -> Ints:
    """Resolve unions to classes.

    Args:
        count: number of labels.
        pairs: the unions, as arrays of equal length; a union with ``FIXED`` unites nothing.

    Returns:
        The class number of each label.
    """
    if not pairs:
        return np.arange(count)
    # Imported here: it takes a fifth of a second, and many programs couple nothing.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left = np.concatenate([pair[0] for pair in pairs])
    right = np.concatenate([pair[1] for pair in pairs])
    keep = (left != right) & (left != FIXED) & (right != FIXED)
    left, right = left[keep], right[keep]
    # Labels are the nodes of a graph and unions its edges: a class is a connected component.
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    classes: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return classes


def touching_fixed(pairs: Sequence[tuple[Ints, Ints]]) -> Ints:
    """Labels that were united with a position that is nobody's neuron, ascending."""
    touching = []
    for left, right in pairs:
        touching += [left[right == FIXED], right[left == FIXED]]
    return np.unique(concatenated(touching))
