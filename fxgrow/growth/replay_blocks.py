"""Copies of blocks in a graph, as ``deepen`` makes them in a model's own code.

A graph that was loaded from a specification has no lists any more. The history says between which
two nodes each block of a list stood, so its nodes can be copied: the copy reads what the block
before it gives, and whoever read that reads the copy.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from fxgrow.coupling import NodeShape
from fxgrow.errors import GrowthError
from fxgrow.growth.block_lists import insert_blocks, recorded_layout
from fxgrow.spec import BlockInsertion


def insert_in_graph(
    graph_module: fx.GraphModule, record: BlockInsertion, shapes: Mapping[str, NodeShape]
) -> None:
    """Make a list of blocks longer, in place.

    Args:
        graph_module: the graph before, with containers in the place of lists.
        record: what the step did to one list.
        shapes: of the values of the graph, by the name of the node.

    Raises:
        GrowthError: ``unknown-blocks`` if the blocks do not stand in this graph as recorded.
    """
    layout = recorded_layout(graph_module, record)
    blocks = _located(graph_module.graph, record, shapes)
    insert_blocks(graph_module, layout)
    # The path of each old block from now on: copies may lie in front of it.
    places = dict.fromkeys(range(len(blocks)), "")
    for place, (source, is_new) in enumerate(zip(layout.sources, layout.is_new, strict=True)):
        if not is_new:
            places[source] = layout.new_path(place)
    for source, block in enumerate(blocks):
        _rename(block.nodes, layout.old_path(source), places[source])
    last = blocks[0]
    for place, (source, is_new) in enumerate(zip(layout.sources, layout.is_new, strict=True)):
        if not is_new:
            last = blocks[source]
            continue
        before, last = last, _copied_behind(last, blocks[source])
        _rename(last.nodes, places[source], layout.new_path(place))
        # The block that follows is copied as it is now: it reads the copy.
        for number, block in enumerate(blocks):
            if block.stream is before.output:
                blocks[number] = replace(block, stream=last.output)
    graph_module.graph.lint()
    graph_module.recompile()


def _not_there(record: BlockInsertion, why: str) -> GrowthError:
    return GrowthError("unknown-blocks", f"the blocks of {record.blocks!r} cannot be copied: {why}")


@dataclass(frozen=True)
class _Block:
    """A block in a graph.

    Args:
        nodes: all of its nodes, in their order.
        stream: what it reads and adds to.
        output: what it gives.
    """

    nodes: tuple[fx.Node, ...]
    stream: fx.Node
    output: fx.Node

    @property
    def readers(self) -> list[fx.Node]:
        """Who reads what it gives, beside itself."""
        return [user for user in self.output.users if user not in self.nodes]


def _located(
    graph: fx.Graph, record: BlockInsertion, shapes: Mapping[str, NodeShape]
) -> list[_Block]:
    """The blocks of a list, in their order."""
    nodes = list(graph.nodes)
    numbers = {node.name: number for number, node in enumerate(nodes)}
    found: list[_Block] = []
    for region in record.regions:
        if region.first not in numbers or region.last not in numbers:
            raise _not_there(record, f"there is no node {region.first!r} or {region.last!r}")
        inside = nodes[numbers[region.first] : numbers[region.last] + 1]
        found.append(_block(inside, record, shapes))
    if len(found) != len(record.sources) - len(record.new):
        raise _not_there(record, "the history does not say where they stand; regrow the model")
    return found


def _block(
    nodes: Sequence[fx.Node], record: BlockInsertion, shapes: Mapping[str, NodeShape]
) -> _Block:
    inside = set(nodes)
    # A block that gave more than its stream (its attention, say) could not be chained.
    outputs = [node for node in nodes if not node.users.keys() <= inside]
    if len(outputs) != 1:
        raise _not_there(record, f"what starts with {nodes[0].name!r} has no single output")
    read = {operand for node in nodes for operand in node.all_input_nodes} - inside
    size = _size(outputs[0], shapes)
    # Of all that has the form of the stream (a mask may) the block before gave the last one.
    alike = [node for node in nodes[0].graph.nodes if node in read and _size(node, shapes) == size]
    if size is None or not alike:
        raise _not_there(record, f"what starts with {nodes[0].name!r} reads no stream")
    return _Block(tuple(nodes), alike[-1], outputs[0])


def _size(node: fx.Node, shapes: Mapping[str, NodeShape]) -> tuple[int, ...] | None:
    return shapes[node.name].size if node.name in shapes else None


def _copied_behind(last: _Block, block: _Block) -> _Block:
    """A copy of a block that reads what the last one gives; all that read that read the copy."""
    readers = last.readers
    copies = {block.stream: last.output}
    behind = last.nodes[-1]
    for node in block.nodes:
        with behind.graph.inserting_after(behind):
            behind = behind.graph.node_copy(node, lambda read: copies.get(read, read))
        copies[node] = behind
        behind.args = tuple(_renamed_text(value, copies) for value in behind.args)
    # Who read the block before reads the copy: the next block, or what follows the list.
    for reader in readers:
        reader.replace_input_with(last.output, copies[block.output])
    nodes = tuple(copies[node] for node in block.nodes)
    return replace(block, nodes=nodes, stream=last.output, output=copies[block.output])


def _renamed_text(value: Any, copies: Mapping[fx.Node, fx.Node]) -> Any:
    """A sentence of an assertion that names nodes, with those of the copy."""
    if not isinstance(value, str):
        return value
    names = {node.name: copied.name for node, copied in copies.items()}
    return re.sub(r"\w+", lambda word: names.get(word[0], word[0]), value)


def _rename(nodes: Sequence[fx.Node], old: str, new: str) -> None:
    """Let nodes call the modules of another block."""
    for node in nodes:
        if node.op in ("call_module", "get_attr"):
            target = str(node.target)
            if target == old or target.startswith(f"{old}."):
                node.target = new + target.removeprefix(old)
