"""Names of local variables: ``x``, ``y``, ``z`` ..., each free again once its value is used for the last time."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count

from fxgrow.spec import NodeSpec

_POOL = ("x", "y", "z", "u", "v", "w")


def _pool(stem: str | None) -> Iterator[str]:
    if stem is not None:
        return chain((stem,), (f"{stem}_{number}" for number in count(2)))
    return chain(_POOL, (f"h{number}" for number in count(1)))


class Variables:
    """Which variable holds the value of which node. ``last``: the step at which a value is used last."""

    def __init__(self, held: Mapping[str, str], last: Mapping[str, float]) -> None:
        self.held = dict(held)
        self._last = last

    def __getitem__(self, node: str) -> str:
        return self.held[node]

    def assign(
        self, step: int, nodes: Sequence[str], operands: Sequence[str], stem: str | None = None
    ) -> list[str]:
        """A variable for each of ``nodes``, which are computed at ``step``; the first operand's own if it ends here."""
        alive = {name: self.held[name] for name in self.held if self._last.get(name, -1) > step}
        first = next((self.held[name] for name in operands if name in self.held), None)
        self.held = alive
        for node in nodes:
            follows = first is not None and first in _POOL and stem is None
            wanted = chain((first,), _pool(stem)) if follows and first is not None else _pool(stem)
            self.held[node] = next(name for name in wanted if name not in self.held.values())
        return [self.held[node] for node in nodes]


def name_stem(node: NodeSpec) -> str | None:
    """What values that are no tensors are called: sizes and what is read from them; None for the others."""
    if node.target == "builtins.getattr":
        return str(node.args[1])
    return _STEMS.get(node.target) if node.op in ("call_method", "call_function") else None


def is_element(node: NodeSpec, operand: str | None) -> bool:
    """Whether the node reads one size out of the sizes in the variable ``operand``."""
    return (
        node.target == "operator.getitem"
        and operand is not None
        and operand.partition("_")[0] in _SIZES
    )


ELEMENT = "length"
_SIZES = ("shape", "size")
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_STEMS = {"size": "size", "dim": "rank", **{f"operator.{name}": "holds" for name in _COMPARISONS}}
