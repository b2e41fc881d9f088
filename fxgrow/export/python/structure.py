"""The tree of modules that a source builds: what each container is written as, and how to reach what is in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from fxgrow.export.python.blocks import (
    SourceBlock,
    SourceProgram,
    all_blocks,
    block_operands,
    blocks,
)
from fxgrow.export.python.layout import string_code
from fxgrow.spec import (
    CONTAINER,
    ArchitectureSpec,
    BufferSpec,
    ModuleSpec,
    NodeArg,
    NodeSpec,
    ParameterSpec,
    is_word,
    parent_of,
)

PathStep = NodeSpec | SourceBlock


class ContainerKind(Enum):
    """What a container is written as."""

    SEQUENTIAL = "nn.Sequential"
    LIST = "nn.ModuleList"
    CLASS = "class"


@dataclass(frozen=True)
class ContainerContent:
    """What lies directly in a container."""

    modules: tuple[ModuleSpec, ...]
    parameters: tuple[ParameterSpec, ...]
    buffers: tuple[BufferSpec, ...]


class Structure:
    """Containers by path, the blocks among them, and how the source reaches modules and tensors."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        self.program = SourceProgram(spec)
        self.root = blocks(self.program)
        self.blocks = {block.path: block for block in all_blocks(self.root)}
        self._paths = ("", *(item.name for item in spec.modules if item.type == CONTAINER))
        self.inside = {path: _inside(spec, path) for path in self._paths}
        self.kinds: dict[str, ContainerKind] = {}
        for path in reversed(self._paths):
            self.kinds[path] = self._kind(path)

    def steps(self, block: SourceBlock) -> Iterator[PathStep]:
        """The nodes and inner blocks of a block, in order."""
        starts = {inner.start: inner for inner in block.inner}
        place = block.start
        while place < block.stop:
            step = starts.get(place) or self.program.nodes[place]
            yield step
            place = step.stop if isinstance(step, SourceBlock) else place + 1

    def uses(self, step: PathStep) -> tuple[str, ...]:
        """The nodes whose values a step takes."""
        return step.takes if isinstance(step, SourceBlock) else tuple(block_operands(step))

    def reach(self, scope: str, target: str, base: str = "self") -> str:
        """The expression for a module or tensor, seen from a method of the container ``scope``."""
        owner, written = scope, base
        for part in target[len(scope) + 1 if scope else 0 :].split("."):
            written = _step_into(written, part, self.kinds.get(owner))
            owner = f"{owner}.{part}" if owner else part
        return written

    def _kind(self, path: str) -> ContainerKind:
        inside = self.inside[path]
        names = [item.name.rpartition(".")[2] for item in inside.modules]
        counted = names == [str(number) for number in range(len(names))] and bool(names)
        if not path or not counted or inside.parameters or inside.buffers:
            return ContainerKind.CLASS
        if path not in self.blocks:
            return ContainerKind.LIST
        return (
            ContainerKind.SEQUENTIAL if self._is_chain(self.blocks[path]) else ContainerKind.CLASS
        )

    def _is_chain(self, block: SourceBlock) -> bool:
        """Whether every module is called once, in order, on nothing but what the one before it gave."""
        value = block.takes
        called = []
        for step in self.steps(block):
            if len(value) != 1 or not _takes_only(step, value[0]):
                return False
            called.append(step.path if isinstance(step, SourceBlock) else step.target)
            value = step.gives if isinstance(step, SourceBlock) else (step.name,)
        return value == block.gives and called == [
            item.name for item in self.inside[block.path].modules
        ]


def _takes_only(step: PathStep, value: str) -> bool:
    if isinstance(step, SourceBlock):
        return step.takes == (value,)
    return step.op == "call_module" and step.args == (NodeArg(node=value),) and not step.kwargs


def _inside(spec: ArchitectureSpec, path: str) -> ContainerContent:
    return ContainerContent(
        tuple(item for item in spec.modules if parent_of(item.name) == path),
        tuple(item for item in spec.parameters if parent_of(item.name) == path),
        tuple(item for item in spec.buffers if parent_of(item.name) == path),
    )


def _step_into(owner: str, part: str, kind: ContainerKind | None) -> str:
    if kind in (ContainerKind.SEQUENTIAL, ContainerKind.LIST):
        return f"{owner}[{part}]"
    return f"{owner}.{part}" if is_word(part) else f"getattr({owner}, {string_code(part)})"
