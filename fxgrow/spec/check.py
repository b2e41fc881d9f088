"""The rules that cut across fields: names, references, targets, ownership. Everything read from a file passes here.

Each rule raises ``SpecError`` with a code of ``docs/spec.md`` and a JSON-like path.
"""

from collections.abc import Callable, Iterable
from math import prod

from fxgrow.documents import limits
from fxgrow.errors import SpecError
from fxgrow.spec.allowlist import (
    CONTAINER,
    Trust,
    class_named,
    function_named,
    is_attribute_path,
    is_identifier,
    is_word,
)
from fxgrow.spec.allowlist_tables import ATTRIBUTES, IN_PLACE_OPERATORS, METHODS
from fxgrow.spec.arguments import DTYPES, NodeArg, argument_text, references
from fxgrow.spec.error_codes import error_location
from fxgrow.spec.fingerprint import fingerprint
from fxgrow.spec.models import ArchitectureSpec, BufferSpec, InputSpec, NodeSpec, ParameterSpec

TensorSpec = ParameterSpec | BufferSpec


def check_spec(spec: ArchitectureSpec, trust: Trust) -> None:
    """Raises SpecError unless ``spec`` is consistent in itself, names only what it may, and fits its fingerprint."""
    check_names(spec)
    check_modules(spec, trust)
    check_tensors(spec)
    check_nodes(spec, trust)
    check_inputs(spec)
    if fingerprint(spec) != spec.fingerprint:
        raise SpecError(
            "fingerprint-mismatch",
            "the architecture was changed after it was saved, so its history no longer holds; save the model again",
            "fingerprint",
        )


def check_names(spec: ArchitectureSpec) -> None:
    """Names are unique per kind and safe in generated source."""
    placeholders = [node.target for node in spec.nodes if node.op == "placeholder"]
    _unique("inputs", [item.name for item in spec.inputs])
    _unique("nodes", [item.name for item in spec.nodes])
    _unique("nodes", placeholders)
    _unique("modules", [item.name for item in spec.modules])
    _unique("parameters", [item.name for item in spec.tensors])
    _check_inputs_survive(spec.nodes)
    _all_good("nodes", [item.name for item in spec.nodes], is_identifier)
    _all_good("nodes", placeholders, is_identifier)
    _all_good("modules", [item.name for item in spec.modules], is_attribute_path)
    _all_good("parameters", [item.name for item in spec.tensors], is_attribute_path)


def _unique(path: str, names: list[str]) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise SpecError(
                "duplicate-name",
                f"{name!r} is used twice; rename one of the two",
                f"{path}[{index}].name",
            )
        seen.add(name)


def _check_inputs_survive(nodes: Iterable[NodeSpec]) -> None:
    """An input is read where its placeholder stands: no earlier node may have been assigned to its name."""
    assigned: set[str] = set()
    for index, node in enumerate(nodes):
        if node.op == "placeholder" and node.target in assigned:
            raise SpecError(
                "duplicate-name",
                f"input {node.target!r} is overwritten by the node of that name before it is read; rename the node",
                f"nodes[{index}].target",
            )
        assigned.add(node.name)


def _all_good(path: str, names: list[str], good: Callable[[str], bool]) -> None:
    for index, name in enumerate(names):
        if not good(name):
            raise SpecError(
                "bad-name",
                f"{name!r} cannot stand in generated source; use a plain identifier",
                f"{path}[{index}].name",
            )


def check_nodes(spec: ArchitectureSpec, trust: Trust) -> None:
    """Arguments refer to earlier nodes, targets are on the allow-list, the one output comes last."""
    known: set[str] = set()
    owners = _Owners(spec)
    for index, node in enumerate(spec.nodes):
        with error_location(f"nodes[{index}]"):
            _check_references(node, known)
            _check_keywords(node)
            _CHECKS[node.op](node, owners, trust)
        known.add(node.name)
    outputs = [index for index, node in enumerate(spec.nodes) if node.op == "output"]
    if outputs != [len(spec.nodes) - 1]:
        raise SpecError(
            "bad-graph", "a graph needs exactly one output, at its end; move or add it", "nodes"
        )


def _check_references(node: NodeSpec, known: set[str]) -> None:
    for argument in (*node.args, *node.kwargs.values()):
        for name in references(argument):
            if name not in known:
                raise SpecError(
                    "unknown-node",
                    f"{node.name!r} uses {name!r}, which is no earlier node; put nodes in order",
                )


def _check_keywords(node: NodeSpec) -> None:
    for key in node.kwargs:
        if not is_word(key):
            raise SpecError(
                "bad-name", f"keyword {key!r} of {node.name!r} is no plain identifier; rename it"
            )


class _Owners:
    """Which modules can be called and which tensors be got, by name."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        self.leaves = {item.name for item in spec.modules if item.type != CONTAINER}
        self.tensors = {item.name for item in spec.tensors}

    def callable(self, target: str) -> bool:
        """A leaf module or something inside one, such as ``attention.out_proj``."""
        parts = target.split(".")
        return any(
            ".".join(parts[: end + 1]) in self.leaves for end in range(len(parts))
        ) and is_attribute_path(target)


def _call(good: bool, node: NodeSpec, rule: str) -> None:
    if not good:
        raise SpecError("bad-call", f"{node.op} {node.name!r}: {rule}; correct its arguments")


def _target(good: bool, node: NodeSpec, rule: str) -> None:
    if not good:
        raise SpecError(
            "unknown-target", f"{node.name!r} names {node.target!r}, {rule}; it is not loaded"
        )


def _check_placeholder(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    default = not node.args or (len(node.args) == 1 and not [*references(node.args[0])])
    _call(default and not node.kwargs, node, "an input takes at most a default value")


def _check_output(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    _target(node.target == "output", node, "but the output's target is 'output'")
    _call(len(node.args) == 1 and not node.kwargs, node, "the output takes one argument")


def _check_get_attr(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    _target(node.target in owners.tensors, node, "which is no parameter or buffer")
    _call(not node.args and not node.kwargs, node, "get_attr takes no arguments")


def _check_call_module(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    _target(owners.callable(node.target), node, "which is no module that can be called")


def _check_call_method(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    _target(node.target in METHODS, node, "which is no tensor method that a spec may call")
    _call(
        bool(node.args) and isinstance(node.args[0], NodeArg),
        node,
        "a method is called on the value of a node",
    )


def _check_call_function(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    with error_location("target"):
        function_named(node.target, trust)
    if node.target == "builtins.getattr":
        _check_getattr(node)
    elif node.target.startswith("operator."):
        _check_operator(node)


# Operators become Python syntax, so their number of operands is ours to check.
_ARITY = dict.fromkeys(("abs", "index", "inv", "invert", "neg", "not_", "pos", "truth"), 1)


def _check_getattr(node: NodeSpec) -> None:
    _call(len(node.args) == 2 and not node.kwargs, node, "getattr takes a node and a name")
    _call(isinstance(node.args[0], NodeArg), node, "getattr reads from the value of a node")
    if not isinstance(node.args[1], str) or node.args[1] not in ATTRIBUTES:
        raise SpecError(
            "unknown-target",
            f"{node.name!r} reads {node.args[1]!r}, no attribute that a spec may read",
        )


def _check_operator(node: NodeSpec) -> None:
    name = node.target.removeprefix("operator.")
    arity = _ARITY.get(name, 2)
    _call(
        len(node.args) == arity and not node.kwargs, node, f"{node.target} takes {arity} arguments"
    )
    in_place = name in IN_PLACE_OPERATORS
    _call(
        not in_place or isinstance(node.args[0], NodeArg),
        node,
        "only a node's value can be written in place",
    )
    # fx writes -2 ** x, which Python reads as -(2 ** x).
    _call(
        name != "pow" or argument_text(node.args[0])[0] != "-",
        node,
        "the power of a negative number comes out negated",
    )


_CHECKS: dict[str, Callable[[NodeSpec, _Owners, Trust], None]] = {
    "placeholder": _check_placeholder,
    "get_attr": _check_get_attr,
    "call_function": _check_call_function,
    "call_method": _check_call_method,
    "call_module": _check_call_module,
    "output": _check_output,
}


def check_inputs(spec: ArchitectureSpec) -> None:
    """Example inputs feed the placeholders in order, those with a default may go without; their size is bounded."""
    placeholders = [node for node in spec.nodes if node.op == "placeholder"]
    needed = sum(1 for node in placeholders if not node.args)
    names = [item.name for item in spec.inputs]
    if len(names) < needed or names != [node.target for node in placeholders[: len(names)]]:
        raise SpecError(
            "bad-input",
            f"the example inputs {names} are not those the graph takes ({[n.target for n in placeholders]}); "
            "give one tensor per input, in order",
            "inputs",
        )

    size = sum(_bytes(item) for item in spec.inputs)
    if size > limits.INPUT_BYTES:
        raise SpecError(
            "too-large",
            f"the example inputs take {size} bytes, over {limits.INPUT_BYTES}; use smaller ones",
            "inputs",
        )


def check_modules(spec: ArchitectureSpec, trust: Trust) -> None:
    """Classes are on the allow-list; every module lies in a container listed before it."""
    containers = {""}
    for index, item in enumerate(spec.modules):
        with error_location(f"modules[{index}]"):
            class_named(item.type, trust)
            _check_parent(item.name, parent_of(item.name) in containers)
        if item.type == CONTAINER:
            containers.add(item.name)


def check_tensors(spec: ArchitectureSpec) -> None:
    """Tensors lie in a container or inside a leaf; a tie points to an earlier tensor of the same shape and dtype."""
    containers = {"", *(item.name for item in spec.modules if item.type == CONTAINER)}
    owners = _Owners(spec)
    seen: dict[str, TensorSpec] = {}
    for item in spec.tensors:
        with error_location(
            f"{'parameters' if isinstance(item, ParameterSpec) else 'buffers'}[{item.name}]"
        ):
            _check_parent(
                item.name,
                parent_of(item.name) in containers or owners.callable(parent_of(item.name)),
            )
            if item.tied_to is not None:
                _check_tie(item, seen.get(item.tied_to))
        seen[item.name] = item


def _check_parent(name: str, good: bool) -> None:
    if not good:
        raise SpecError(
            "missing-parent", f"{name!r} lies in no container; list {parent_of(name)!r} before it"
        )


def parent_of(name: str) -> str:
    """The name without its last part."""
    return name.rpartition(".")[0]


def _check_tie(item: TensorSpec, other: TensorSpec | None) -> None:
    if other is None or other.tied_to is not None:
        raise SpecError(
            "bad-tie",
            f"{item.name!r} is tied to {item.tied_to!r}, which holds no tensor before it; untie it",
        )
    if _nature(other) != _nature(item):
        raise SpecError(
            "bad-tie",
            f"{item.name!r} and {item.tied_to!r} differ in shape, dtype, kind or requires_grad; untie them",
        )


def _nature(item: TensorSpec) -> tuple[object, ...]:
    """What two names of one tensor have in common."""
    return (
        type(item),
        item.shape,
        item.dtype,
        isinstance(item, ParameterSpec) and item.requires_grad,
    )


def stored_bytes(spec: ArchitectureSpec) -> int:
    """Bytes of all tensors that the weights file has to hold."""
    return sum(_bytes(item) for item in spec.tensors if item.tied_to is None)


def _bytes(item: TensorSpec | InputSpec) -> int:
    return prod(item.shape) * DTYPES[item.dtype].itemsize
