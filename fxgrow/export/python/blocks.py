"""Which containers of a flat graph can be modules with a ``forward`` of their own.

A container is a block if the calls of its modules are a run of the graph that no other module
interrupts. Operations between two calls belong to the innermost container around both. A block
goes on over the operations after its last call as long as fewer values are alive afterwards: the
sum that closes a residual block is part of it.

Example, with ``a`` and ``b`` inside the container ``block``::

    a = self.block.a(x)          starts the block
    relu = F.relu(a)             between two calls: inside
    b = self.block.b(relu)
    y = b + x                    leaves one value alive (y) instead of two (b, x): inside
    out = self.head(y)           another module: after the block
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fxgrow.spec import (
    CONTAINER,
    IN_PLACE_OPERATORS,
    ArchitectureSpec,
    NodeSpec,
    parent_of,
    references,
)

# A block that takes or gives more values than this reads better inline.
MAX_VALUES = 6
_READS = ("builtins.getattr", "operator.")

# Container path -> the place of its first call, and the one after its last.
Runs = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class SourceBlock:
    """The nodes ``start .. stop - 1`` of a program that become one module.

    Args:
        path: the path of the container; "" for the whole model.
        start: the place of its first node.
        stop: the place after its last node.
        takes: nodes before it whose values it uses, and tensors from outside of the container.
        gives: its nodes whose values are used after it.
        inner: the blocks within it, in order.
    """

    path: str
    start: int
    stop: int
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    inner: "tuple[SourceBlock, ...]" = ()


class SourceProgram:
    """The nodes of a spec that become statements, in order.

    A node that fetches a tensor (``get_attr``) is no statement: the tensor is written where it is
    used.

    Args:
        spec: the architecture.

    Attributes:
        tensors: node that fetches a tensor -> the tensor's path.
        nodes: the other nodes, without sizes and elements that are read and never used.
        index: node -> its place among ``nodes``.
        last_use: node -> the place of the last node that uses it.
        containers: paths of the modules that only hold others.
    """

    def __init__(self, spec: ArchitectureSpec) -> None:
        self.tensors = {node.name: node.target for node in spec.nodes if node.op == "get_attr"}
        self.nodes = _without_unused_reads([node for node in spec.nodes if node.op != "get_attr"])
        self.index = {node.name: place for place, node in enumerate(self.nodes)}
        self.last_use: dict[str, int] = {}
        for place, node in enumerate(self.nodes):
            self.last_use.update(dict.fromkeys(block_operands(node), place))
        self.containers = {item.name for item in spec.modules if item.type == CONTAINER}

    def owner(self, node: NodeSpec) -> str | None:
        """The container in which a node stands; None if that depends on its neighbors."""
        if node.op == "call_module":
            return self.container_of(node.target)
        return "" if node.op in ("placeholder", "output") else None

    def container_of(self, path: str) -> str:
        """The innermost container around a module or tensor."""
        outer = parent_of(path)
        # A tensor lies in a leaf module, and a wrapped module may lie in another leaf.
        while outer and outer not in self.containers:
            outer = parent_of(outer)
        return outer

    def alive(self, place: int) -> int:
        """How many values that were computed before ``place`` are used from there on."""
        return len(self._used_from(self.nodes[:place], place))

    def _used_from(self, nodes: Sequence[NodeSpec], place: int) -> list[str]:
        return [node.name for node in nodes if self.last_use.get(node.name, -1) >= place]

    def takes(self, start: int, stop: int, path: str) -> tuple[str, ...]:
        """What a run of nodes uses from before it, or as tensors from outside of ``path``.

        Args:
            start: the place of the first node of the run.
            stop: the place after its last node.
            path: the container that the run belongs to.

        Returns:
            Names of nodes, in order of their first use.
        """
        names: dict[str, None] = {}
        for node in self.nodes[start:stop]:
            names.update(dict.fromkeys(block_operands(node)))
        return tuple(name for name in names if not self._inside(name, start, path))

    def _inside(self, name: str, start: int, path: str) -> bool:
        if name in self.tensors:
            return is_within(self.tensors[name], path)
        return self.index[name] >= start

    def gives(self, start: int, stop: int) -> tuple[str, ...]:
        """The nodes from ``start`` to ``stop - 1`` whose values later nodes use."""
        return tuple(self._used_from(self.nodes[start:stop], stop))


def is_within(name: str, path: str) -> bool:
    """Whether a module or tensor lies in the container ``path``."""
    return not path or name.startswith(f"{path}.")


def block_operands(node: NodeSpec) -> Iterator[str]:
    """The names of the nodes that a node uses, in order, repeats included."""
    for argument in (*node.args, *node.kwargs.values()):
        yield from references(argument)


def _without_unused_reads(nodes: Sequence[NodeSpec]) -> list[NodeSpec]:
    """Without sizes and elements that are read and never used."""
    used: set[str] = set()
    useful = []
    # From the end, so that a read that only an unused read uses is dropped too.
    for node in reversed(nodes):
        if node.name in used or not _only_reads(node):
            useful.append(node)
            used.update(block_operands(node))
    return useful[::-1]


def _only_reads(node: NodeSpec) -> bool:
    writes = node.target.removeprefix("operator.") in IN_PLACE_OPERATORS
    return node.op == "call_function" and node.target.startswith(_READS) and not writes


def blocks(program: SourceProgram) -> SourceBlock:
    """The whole program as a block of blocks."""
    return _nested(program, "", 0, len(program.nodes), _runs(program))


def all_blocks(block: SourceBlock) -> Iterator[SourceBlock]:
    """The block and all within it, outer ones first."""
    yield block
    for inner in block.inner:
        yield from all_blocks(inner)


def _runs(program: SourceProgram) -> dict[str, tuple[int, int]]:
    """The containers whose calls nothing interrupts, with where these calls start and end."""
    owners = [program.owner(node) for node in program.nodes]
    # Container -> the places of the calls of its modules, in order.
    places: dict[str, list[int]] = {}
    for place, owner in enumerate(owners):
        for path in _containers_around(owner) if owner else ():
            places.setdefault(path, []).append(place)
    runs = {}
    for path, calls in places.items():
        start, stop = calls[0], calls[-1] + 1
        if _is_uninterrupted(owners[start:stop], path):
            runs[path] = (start, stop)
    return runs


def _is_uninterrupted(owners: Iterable[str | None], path: str) -> bool:
    """Whether no node of a run belongs to a container outside of ``path``."""
    # The dot at the end makes a container lie within itself.
    return all(owner is None or is_within(f"{owner}.", path) for owner in owners)


def _containers_around(path: str) -> list[str]:
    """The path and the containers around it, outermost first."""
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _nested(program: SourceProgram, path: str, start: int, stop: int, runs: Runs) -> SourceBlock:
    """The nodes of a run as a block, with the blocks that fit into it."""
    inner: list[SourceBlock] = []
    free_from = start
    for name in sorted(runs, key=lambda name: (runs[name][0], name.count("."))):
        first, end = runs[name]
        if is_within(name, path) and first >= free_from and end <= stop:
            block = _block(program, name, first, _extended(program, name, runs[name], stop), runs)
            if block is not None:
                inner.append(block)
                free_from = block.stop
    takes = program.takes(start, stop, path)
    return SourceBlock(path, start, stop, takes, program.gives(start, stop), tuple(inner))


def _block(
    program: SourceProgram, path: str, start: int, stop: int, runs: Runs
) -> SourceBlock | None:
    """A run as a block; None if it takes or gives too many values, or gives none."""
    inner_runs = {name: run for name, run in runs.items() if is_within(name, path)}
    block = _nested(program, path, start, stop, inner_runs)
    fits = len(block.takes) <= MAX_VALUES and 0 < len(block.gives) <= MAX_VALUES
    return block if fits else None


def _extended(program: SourceProgram, path: str, run: tuple[int, int], limit: int) -> int:
    """Where the block of a run ends, at most at ``limit``.

    After those operations behind the run that leave fewer values alive than the run does.
    """
    start, stop = run
    best, fewest = stop, program.alive(stop)
    known = {node.name for node in program.nodes[start:stop]}
    known.update(program.takes(start, stop, path))
    for place in range(stop, limit):
        node = program.nodes[place]
        # An operation may join only if it brings no value that the block does not have yet.
        if program.owner(node) is not None or not known.issuperset(block_operands(node)):
            break
        known.add(node.name)
        if program.alive(place + 1) < fewest:
            best, fewest = place + 1, program.alive(place + 1)
    return best
