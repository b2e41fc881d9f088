"""A graph by name: what its nodes call, read and feed, and labels that tell which are alike."""

from collections import defaultdict
from collections.abc import Callable, Hashable

from fxgrow.spec.arguments import Argument, NodeArg, decode, references
from fxgrow.spec.models import ArchitectureSpec, ModuleSpec, NodeSpec


class GraphView:
    """The nodes of a specification with their neighbors.

    Args:
        spec: The specification.

    Attributes:
        nodes: Name -> node, in execution order.
        modules: Name -> module.
        inputs: Name of a placeholder -> its position among the placeholders.
        operands: Name of a node -> the nodes that it reads.
        users: Name of a node -> (node that reads it, position at which it does) for each use.
    """

    def __init__(self, spec: ArchitectureSpec) -> None:
        self.nodes = {node.name: node for node in spec.nodes}
        self.modules = {module.name: module for module in spec.modules}
        self.inputs: dict[str, int] = {}
        self.operands: dict[str, tuple[str, ...]] = {}
        self.users: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        for name, node in self.nodes.items():
            if node.op == "placeholder":
                self.inputs[name] = len(self.inputs)
            self.operands[name] = node_operands(node)
            for position, operand in enumerate(self.operands[name]):
                self.users[operand].append((name, position))

    def called(self, node: NodeSpec) -> ModuleSpec | None:
        """The module that a node calls; None: it calls none, or one inside another."""
        return self.modules.get(node.target) if node.op == "call_module" else None


def _arguments(node: NodeSpec) -> list[tuple[str, Argument]]:
    """All arguments with their keywords (none: positional), keywords in alphabetical order."""
    positional = [("", argument) for argument in node.args]
    return positional + sorted(node.kwargs.items(), key=lambda item: item[0])


def node_operands(node: NodeSpec) -> tuple[str, ...]:
    """The nodes that a node reads, in order, repeats included."""
    operands: list[str] = []
    for _, argument in _arguments(node):
        operands.extend(references(argument))
    return tuple(operands)


def node_constants(node: NodeSpec) -> str:
    """A node's arguments as text, without the names of the nodes that they refer to."""
    texts: list[str] = []
    for keyword, argument in _arguments(node):
        # The reference stays, so that a node in a nested tuple still has its place.
        without_names = repr(decode(argument, lambda _: NodeArg(node="")))
        texts.append(f"{keyword}={without_names}" if keyword else without_names)
    return ", ".join(texts)


Label = Callable[[GraphView, NodeSpec], Hashable]
"""Describes a node: nodes with equal labels may be the same one in two graphs."""


def named_label(view: GraphView, node: NodeSpec) -> Hashable:
    """What a node calls, by name, and its constants. Inputs are told apart by their order."""
    return node.op, view.inputs.get(node.name, node.target), node_constants(node)


def configured_label(view: GraphView, node: NodeSpec) -> Hashable:
    """The same, with the content of a module in place of its name."""
    module = view.called(node)
    if module is None:
        return named_label(view, node)
    # As text, because the values of a config may have no hash.
    config = tuple((key, repr(value)) for key, value in sorted(module.config.items()))
    return node.op, module.type, config, node_constants(node)


def typed_label(view: GraphView, node: NodeSpec) -> Hashable:
    """The kind of operation alone: no names of modules, inputs or tensors, sizes or constants."""
    module = view.called(node)
    if module is not None:
        return node.op, module.type
    # Inputs and tensors have names of the user's choice; other targets are the operation.
    is_named_freely = node.op in ("placeholder", "get_attr")
    return node.op, "" if is_named_freely else node.target


LABELS: tuple[Label, ...] = (named_label, configured_label, typed_label)
"""From strict to loose."""
