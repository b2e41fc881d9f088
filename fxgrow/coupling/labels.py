"""Labels: one integer per index of every parameter axis, the unions found between them, and the pins.

Label 0 (``FIXED``) stands for a position that is nobody's neuron; uniting a label with it pins the label. Unions are
only collected here and resolved by one connected-components call, so that collecting costs an append per operator.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FIXED = 0


@dataclass(frozen=True)
class Pin:
    """These labels cannot grow, and why. ``node`` is ``module.path: operator (file:line)``."""

    labels: Ints
    code: str
    reason: str
    node: str


@dataclass
class Labels:
    """Hands out labels and collects what is learnt about them."""

    count: int = 1
    pairs: list[tuple[Ints, Ints]] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)

    def new(self, size: int) -> Ints:
        """``size`` labels that nobody has yet."""
        first = self.count
        self.count += size
        return np.arange(first, self.count)

    def unite(self, left: Ints, right: Ints) -> None:
        """Element by element, ``left[i]`` and ``right[i]`` belong to one neuron."""
        self.pairs.append((left, right))

    def pin(self, labels: Ints, code: str, reason: str, node: str) -> None:
        """These labels cannot grow (``FIXED`` among them is nobody's)."""
        self.pins.append(Pin(labels[labels != FIXED], code, reason, node))


def components(count: int, pairs: list[tuple[Ints, Ints]]) -> Ints:
    """Class number of each of ``count`` labels under the unions ``pairs`` (``FIXED`` unites nothing)."""
    if not pairs:
        return np.arange(count)
    left = np.concatenate([pair[0] for pair in pairs])
    right = np.concatenate([pair[1] for pair in pairs])
    keep = (left != right) & (left != FIXED) & (right != FIXED)
    left, right = left[keep], right[keep]
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    classes: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return classes


def touching_fixed(pairs: list[tuple[Ints, Ints]]) -> Ints:
    """Labels that were united with a position that is nobody's neuron."""
    found = [np.concatenate([left[right == FIXED], right[left == FIXED]]) for left, right in pairs]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
