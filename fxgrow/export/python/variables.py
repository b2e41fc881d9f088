"""Names of local variables: ``x``, ``y``, ``z`` ..., each free again after its value's last use."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from fxgrow.spec import NodeSpec

_POOL = ("x", "y", "z", "u", "v", "w")

ELEMENT = "length"
_SIZES = ("shape", "size")
# What values that are no tensors are called, by what computes them.
_STEMS = {
    "size": "size",
    "dim": "rank",
    **dict.fromkeys(
        ("operator.eq", "operator.ne", "operator.lt", "operator.le", "operator.gt", "operator.ge"),
        "holds",
    ),
}


def _candidates(stem: str | None) -> Iterator[str]:
    """Names in the order in which they are tried: those of the pool, or a stem and its numbers."""
    if stem is None:
        yield from _POOL
        prefix, first_number = "h", 1
    else:
        yield stem
        prefix, first_number = f"{stem}_", 2
    for number in count(first_number):
        yield f"{prefix}{number}"


class Variables:
    """Which variable holds the value of which node.

    Args:
        held: node -> variable, to begin with.
        last_use: node -> the step at which its value is used last.
    """

    def __init__(self, held: Mapping[str, str], last_use: Mapping[str, float]) -> None:
        self.held = dict(held)
        self._last_use = last_use

    def __getitem__(self, node: str) -> str:
        return self.held[node]

    def assign(
        self, step: int, nodes: Sequence[str], operands: Sequence[str], stem: str | None = None
    ) -> list[str]:
        """Choose a variable for each of ``nodes``.

        Args:
            step: the step at which they are computed.
            nodes: the nodes.
            operands: the nodes that the step uses. The variable of the first is used again if its
                value ends here, so that a chain of layers reads ``x = f(x)``.
            stem: what to call the variables; None: a name of the pool.

        Returns:
            The variables, in the order of ``nodes``.
        """
        first_operand = self._first_held(operands)
        alive = {}
        for node, variable in self.held.items():
            if self._last_use.get(node, -1) > step:
                alive[node] = variable
        self.held = alive
        reused = first_operand if first_operand in _POOL and stem is None else None
        for node in nodes:
            self.held[node] = self._free_name(reused, stem)
        return [self.held[node] for node in nodes]

    def _first_held(self, nodes: Sequence[str]) -> str | None:
        for node in nodes:
            if node in self.held:
                return self.held[node]
        return None

    def _free_name(self, preferred: str | None, stem: str | None) -> str:
        """The preferred name if no value has it, else the first candidate that none has."""
        taken = set(self.held.values())
        if preferred is not None and preferred not in taken:
            return preferred
        candidates = _candidates(stem)
        name = next(candidates)
        while name in taken:
            name = next(candidates)
        return name


def name_stem(node: NodeSpec) -> str | None:
    """What values that are no tensors are called: sizes and what is read from them.

    None for the others, which take a name of the pool.
    """
    if node.target == "builtins.getattr":
        return str(node.args[1])
    return _STEMS.get(node.target) if node.op in ("call_method", "call_function") else None


def is_element(node: NodeSpec, operand: str | None) -> bool:
    """Whether the node reads one size out of the sizes in the variable ``operand``."""
    if node.target != "operator.getitem" or operand is None:
        return False
    return operand.partition("_")[0] in _SIZES
