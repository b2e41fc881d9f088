"""The tree of modules that a source builds.

What each container is written as, and how to reach what is in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

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
_Item = TypeVar("_Item", ModuleSpec, ParameterSpec, BufferSpec)


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
    """Containers by path, the blocks among them, and how the source reaches modules and tensors.

    Args:
        spec: the architecture.

    Attributes:
        program: the nodes of the graph that become statements.
        root: the whole program as a block of blocks.
        blocks: container path -> its block, for containers that have one.
        inside: container path -> what lies directly in it; "" is the model itself.
        kinds: container path -> what it is written as.
    """

    def __init__(self, spec: ArchitectureSpec) -> None:
        self.program = SourceProgram(spec)
        self.root = blocks(self.program)
        self.blocks = {block.path: block for block in all_blocks(self.root)}
        containers = [item.name for item in spec.modules if item.type == CONTAINER]
        self.inside = {path: _content(spec, path) for path in ("", *containers)}
        self.kinds: dict[str, ContainerKind] = {}
        # Inner containers stand after outer ones in a spec, and are decided first.
        for path in ("", *containers)[::-1]:
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

    def reach(self, scope: str, target: str) -> str:
        """The expression for a module or tensor, in a method of a container.

        Args:
            scope: the path of the container.
            target: the path of the module or tensor.

        Returns:
            ``self.layers[0].weight``, say.
        """
        owner, written = scope, "self"
        relative = target.removeprefix(f"{scope}.") if scope else target
        for part in relative.split("."):
            written = _member(written, part, self.kinds.get(owner))
            owner = f"{owner}.{part}" if owner else part
        return written

    def _kind(self, path: str) -> ContainerKind:
        inside = self.inside[path]
        names = [item.name.rpartition(".")[2] for item in inside.modules]
        numbers = [str(number) for number in range(len(names))]
        # A list or nn.Sequential names its modules 0, 1, 2, ... and holds nothing else.
        is_numbered = bool(names) and names == numbers
        if not path or not is_numbered or inside.parameters or inside.buffers:
            return ContainerKind.CLASS
        if path not in self.blocks:
            return ContainerKind.LIST
        is_chain = self._is_chain(self.blocks[path])
        return ContainerKind.SEQUENTIAL if is_chain else ContainerKind.CLASS

    def _is_chain(self, block: SourceBlock) -> bool:
        """Whether each module is called once, in order, only on what the one before it gave."""
        value = block.takes
        called = []
        for step in self.steps(block):
            if len(value) != 1 or not _takes_only(step, value[0]):
                return False
            called.append(step.path if isinstance(step, SourceBlock) else step.target)
            value = step.gives if isinstance(step, SourceBlock) else (step.name,)
        modules = [item.name for item in self.inside[block.path].modules]
        return value == block.gives and called == modules


def _takes_only(step: PathStep, value: str) -> bool:
    if isinstance(step, SourceBlock):
        return step.takes == (value,)
    return step.op == "call_module" and step.args == (NodeArg(node=value),) and not step.kwargs


def _content(spec: ArchitectureSpec, path: str) -> ContainerContent:
    return ContainerContent(
        _directly_in(path, spec.modules),
        _directly_in(path, spec.parameters),
        _directly_in(path, spec.buffers),
    )


def _directly_in(path: str, items: tuple[_Item, ...]) -> tuple[_Item, ...]:
    return tuple(item for item in items if parent_of(item.name) == path)


def _member(owner: str, name: str, kind: ContainerKind | None) -> str:
    """``owner.name``, or as an item or by ``getattr`` where Python has no such syntax."""
    if kind in (ContainerKind.SEQUENTIAL, ContainerKind.LIST):
        return f"{owner}[{name}]"
    return f"{owner}.{name}" if is_word(name) else f"getattr({owner}, {string_code(name)})"
