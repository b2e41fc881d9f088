"""The tree of modules that a source builds: what each container is written as, and how to reach what is in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from fxgrow.export.python.blocks import Block, Program, all_blocks, blocks, operands
from fxgrow.export.python.layout import string
from fxgrow.spec.allowlist import CONTAINER, is_word
from fxgrow.spec.arguments import NodeArg
from fxgrow.spec.check import parent_of
from fxgrow.spec.models import ArchitectureSpec, BufferSpec, ModuleSpec, NodeSpec, ParameterSpec

Step = NodeSpec | Block


class Kind(Enum):
    """What a container is written as."""

    SEQUENTIAL = "nn.Sequential"
    LIST = "nn.ModuleList"
    CLASS = "class"


@dataclass(frozen=True)
class Inside:
    """What lies directly in a container."""

    modules: tuple[ModuleSpec, ...]
    parameters: tuple[ParameterSpec, ...]
    buffers: tuple[BufferSpec, ...]


class Structure:
    """Containers by path, the blocks among them, and how the source reaches modules and tensors."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        self.program = Program(spec)
        self.root = blocks(self.program)
        self.blocks = {block.path: block for block in all_blocks(self.root)}
        self._paths = ("", *(item.name for item in spec.modules if item.type == CONTAINER))
        self.inside = {path: _inside(spec, path) for path in self._paths}
        self.kinds: dict[str, Kind] = {}
        for path in reversed(self._paths):
            self.kinds[path] = self._kind(path)

    def steps(self, block: Block) -> Iterator[Step]:
        """The nodes and inner blocks of a block, in order."""
        starts = {inner.start: inner for inner in block.inner}
        place = block.start
        while place < block.stop:
            step = starts.get(place) or self.program.nodes[place]
            yield step
            place = step.stop if isinstance(step, Block) else place + 1

    def uses(self, step: Step) -> tuple[str, ...]:
        """The nodes whose values a step takes."""
        return step.takes if isinstance(step, Block) else tuple(operands(step))

    def reach(self, scope: str, target: str, base: str = "self") -> str:
        """The expression for a module or tensor, seen from a method of the container ``scope``."""
        owner, written = scope, base
        for part in target[len(scope) + 1 if scope else 0 :].split("."):
            written = _step_into(written, part, self.kinds.get(owner))
            owner = f"{owner}.{part}" if owner else part
        return written

    def _kind(self, path: str) -> Kind:
        inside = self.inside[path]
        names = [item.name.rpartition(".")[2] for item in inside.modules]
        counted = names == [str(number) for number in range(len(names))] and bool(names)
        if not path or not counted or inside.parameters or inside.buffers:
            return Kind.CLASS
        if path not in self.blocks:
            return Kind.LIST
        return Kind.SEQUENTIAL if self._is_chain(self.blocks[path]) else Kind.CLASS

    def _is_chain(self, block: Block) -> bool:
        """Whether every module is called once, in order, on nothing but what the one before it gave."""
        value = block.takes
        called = []
        for step in self.steps(block):
            if len(value) != 1 or not _takes_only(step, value[0]):
                return False
            called.append(step.path if isinstance(step, Block) else step.target)
            value = step.gives if isinstance(step, Block) else (step.name,)
        return value == block.gives and called == [item.name for item in self.inside[block.path].modules]


def _takes_only(step: Step, value: str) -> bool:
    if isinstance(step, Block):
        return step.takes == (value,)
    return step.op == "call_module" and step.args == (NodeArg(node=value),) and not step.kwargs


def _inside(spec: ArchitectureSpec, path: str) -> Inside:
    return Inside(
        tuple(item for item in spec.modules if parent_of(item.name) == path),
        tuple(item for item in spec.parameters if parent_of(item.name) == path),
        tuple(item for item in spec.buffers if parent_of(item.name) == path),
    )


def _step_into(owner: str, part: str, kind: Kind | None) -> str:
    if kind in (Kind.SEQUENTIAL, Kind.LIST):
        return f"{owner}[{part}]"
    return f"{owner}.{part}" if is_word(part) else f"getattr({owner}, {string(part)})"
