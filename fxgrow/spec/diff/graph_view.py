"""The nodes of a specification with what they call, read and feed, and labels that say how alike two nodes are."""

from collections import defaultdict
from collections.abc import Callable, Hashable

from fxgrow.spec.arguments import Argument, NodeArg, decode, references
from fxgrow.spec.models import ArchitectureSpec, ModuleSpec, NodeSpec


class GraphView:
    """A specification's nodes by name, their operands, and their users with the place at which they use it."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        self.nodes = {node.name: node for node in spec.nodes}
        self.modules = {module.name: module for module in spec.modules}
        inputs = [node.name for node in spec.nodes if node.op == "placeholder"]
        self.inputs = {name: place for place, name in enumerate(inputs)}
        self.operands = {node.name: node_operands(node) for node in spec.nodes}
        self.users: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        for name, used in self.operands.items():
            for place, operand in enumerate(used):
                self.users[operand].append((name, place))

    def called(self, node: NodeSpec) -> ModuleSpec | None:
        """The module that a node calls; None: it calls none, or one inside another."""
        return self.modules.get(node.target) if node.op == "call_module" else None


def node_operands(node: NodeSpec) -> tuple[str, ...]:
    """The nodes that a node reads, in order, repeats included."""
    arguments = (*node.args, *(node.kwargs[key] for key in sorted(node.kwargs)))
    return tuple(name for argument in arguments for name in references(argument))


def node_constants(node: NodeSpec) -> str:
    """A node's arguments as text, with every reference to a node left blank."""

    def blank(argument: Argument) -> str:
        return repr(decode(argument, lambda _: NodeArg(node="")))

    return ", ".join(
        (
            *map(blank, node.args),
            *(f"{key}={blank(node.kwargs[key])}" for key in sorted(node.kwargs)),
        )
    )


Label = Callable[[GraphView, NodeSpec], Hashable]


def named_label(wiring: GraphView, node: NodeSpec) -> Hashable:
    """What a node calls, by name, and its constants. Inputs are told apart by their order."""
    return node.op, wiring.inputs.get(node.name, node.target), node_constants(node)


def configured_label(wiring: GraphView, node: NodeSpec) -> Hashable:
    """The same, with the content of a module in place of its name."""
    module = wiring.called(node)
    if module is None:
        return named_label(wiring, node)
    config = tuple((key, repr(value)) for key, value in sorted(module.config.items()))
    return node.op, module.type, config, node_constants(node)


def typed_label(wiring: GraphView, node: NodeSpec) -> Hashable:
    """The kind of operation alone: no names of modules, inputs or tensors, no sizes, no constants."""
    module = wiring.called(node)
    named_elsewhere = node.op in ("placeholder", "get_attr")
    return node.op, module.type if module else "" if named_elsewhere else node.target


LABELS: tuple[Label, ...] = (named_label, configured_label, typed_label)
"""From strict to loose."""
