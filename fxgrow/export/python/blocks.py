"""Which containers of a flat graph can be modules with a ``forward`` of their own.

A container is a block if the calls of its modules are a run of the graph that no other module interrupts. Operations
between two calls belong to the innermost container around both. A block goes on over the operations after its last
call as long as fewer values are alive afterwards: the sum that closes a residual block is part of it.
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

# What hands over more values than this reads better inline.
FEW = 6
_READS = ("builtins.getattr", "operator.")


@dataclass(frozen=True)
class SourceBlock:
    """The nodes ``start .. stop - 1`` of a program: the module path, what they take from before and give to later."""

    path: str
    start: int
    stop: int
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    inner: "tuple[SourceBlock, ...]" = ()


class SourceProgram:
    """The nodes of a spec that do something, in order; got tensors are looked up where they are used.

    ``last``: where a value is used last.
    """

    def __init__(self, spec: ArchitectureSpec) -> None:
        self.got = {node.name: node.target for node in spec.nodes if node.op == "get_attr"}
        self.nodes = _useful([node for node in spec.nodes if node.op != "get_attr"])
        self.index = {node.name: place for place, node in enumerate(self.nodes)}
        self.last = {
            name: place for place, node in enumerate(self.nodes) for name in block_operands(node)
        }
        self.containers = {item.name for item in spec.modules if item.type == CONTAINER}

    def owner(self, node: NodeSpec) -> str | None:
        """The container in which a node stands; None where its neighbours decide."""
        if node.op == "call_module":
            found = parent_of(node.target)
            while found and found not in self.containers:
                found = parent_of(found)
            return found
        return "" if node.op in ("placeholder", "output") else None

    def alive(self, place: int) -> int:
        """How many values that were computed before ``place`` are used from there on."""
        return sum(self.last.get(node.name, -1) >= place for node in self.nodes[:place])

    def takes(self, start: int, stop: int, path: str) -> tuple[str, ...]:
        """What the nodes of a run use from before it, and tensors that lie outside of ``path``, in order of use."""
        names = dict.fromkeys(
            name for node in self.nodes[start:stop] for name in block_operands(node)
        )
        return tuple(name for name in names if not self._inside(name, start, path))

    def _inside(self, name: str, start: int, path: str) -> bool:
        return is_within(self.got[name], path) if name in self.got else self.index[name] >= start

    def gives(self, start: int, stop: int) -> tuple[str, ...]:
        """What the nodes of a run hand to later ones."""
        return tuple(
            node.name for node in self.nodes[start:stop] if self.last.get(node.name, -1) >= stop
        )


def is_within(name: str, path: str) -> bool:
    """Whether a module or tensor lies in the container ``path``."""
    return not path or name.startswith(f"{path}.")


def block_operands(node: NodeSpec) -> Iterable[str]:
    """The names of the nodes that a node uses, in order, repeats included."""
    return (
        name for argument in (*node.args, *node.kwargs.values()) for name in references(argument)
    )


def _useful(nodes: Sequence[NodeSpec]) -> list[NodeSpec]:
    """Without sizes and elements that are read and never used."""
    used: set[str] = set()
    kept = []
    for node in reversed(nodes):
        if node.name in used or not _only_reads(node):
            kept.append(node)
            used.update(block_operands(node))
    return kept[::-1]


def _only_reads(node: NodeSpec) -> bool:
    writes = node.target.removeprefix("operator.") in IN_PLACE_OPERATORS
    return node.op == "call_function" and node.target.startswith(_READS) and not writes


def blocks(program: SourceProgram) -> SourceBlock:
    """The whole program as a block of blocks."""
    runs = _runs(program)
    return _nested(program, "", 0, len(program.nodes), runs)


def all_blocks(block: SourceBlock) -> Iterator[SourceBlock]:
    """The block and all within it, outer ones first."""
    yield block
    for inner in block.inner:
        yield from all_blocks(inner)


def _runs(program: SourceProgram) -> dict[str, tuple[int, int]]:
    """The containers whose calls are uninterrupted, with the first place of their calls and the one after the last."""
    owners = [program.owner(node) for node in program.nodes]
    places: dict[str, list[int]] = {}
    for place, owner in enumerate(owners):
        for path in _around(owner) if owner else ():
            places.setdefault(path, []).append(place)
    return {
        path: (found[0], found[-1] + 1)
        for path, found in places.items()
        if all(
            owner is None or is_within(f"{owner}.", path)
            for owner in owners[found[0] : found[-1] + 1]
        )
    }


def _around(path: str) -> list[str]:
    """The path and the containers around it, outermost first."""
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _nested(
    program: SourceProgram, path: str, start: int, stop: int, runs: Mapping[str, tuple[int, int]]
) -> SourceBlock:
    inner: list[SourceBlock] = []
    for name, (first, end) in sorted(runs.items(), key=lambda run: (run[1][0], run[0].count("."))):
        free = first >= (inner[-1].stop if inner else start)
        if is_within(name, path) and free and end <= stop:
            found = _block(program, name, first, _extended(program, name, first, end, stop), runs)
            inner += [found] if found else []
    return SourceBlock(
        path,
        start,
        stop,
        program.takes(start, stop, path),
        program.gives(start, stop),
        tuple(inner),
    )


def _block(
    program: SourceProgram, path: str, start: int, stop: int, runs: Mapping[str, tuple[int, int]]
) -> SourceBlock | None:
    block = _nested(
        program,
        path,
        start,
        stop,
        {name: run for name, run in runs.items() if is_within(name, path)},
    )
    return block if len(block.takes) <= FEW and 0 < len(block.gives) <= FEW else None


def _extended(program: SourceProgram, path: str, start: int, stop: int, limit: int) -> int:
    """Where the block ends: after those operations behind its run that leave fewer values alive than the run does."""
    best, fewest = stop, program.alive(stop)
    known = {node.name for node in program.nodes[start:stop]} | set(
        program.takes(start, stop, path)
    )
    for place in range(stop, limit):
        node = program.nodes[place]
        if program.owner(node) is not None or not known.issuperset(block_operands(node)):
            break
        known.add(node.name)
        if program.alive(place + 1) < fewest:
            best, fewest = place + 1, program.alive(place + 1)
    return best
