"""The rules that cut across fields: names, references, targets, ownership.

Everything that is read from a file passes here before it is built. Each rule raises ``SpecError``
with a code of ``docs/spec.md`` and a JSON-like path.
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
    """Check that a spec is consistent, names only what it may, and fits its fingerprint.

    Args:
        spec: A specification that is valid field by field.
        trust: Names that the caller allows beyond the allow-list.

    Raises:
        SpecError: With the code and the path of the first rule that is broken.
    """
    check_names(spec)
    check_modules(spec, trust)
    check_tensors(spec)
    check_nodes(spec, trust)
    check_inputs(spec)
    if fingerprint(spec) != spec.fingerprint:
        raise SpecError(
            "fingerprint-mismatch",
            "the architecture was changed after it was saved, so its history no longer holds; save "
            "the model again",
            "fingerprint",
        )


def check_names(spec: ArchitectureSpec) -> None:
    """Check that names are unique per kind and safe in generated source."""
    inputs = [item.name for item in spec.inputs]
    nodes = [item.name for item in spec.nodes]
    modules = [item.name for item in spec.modules]
    tensors = [item.name for item in spec.tensors]
    placeholders = [node.target for node in spec.nodes if node.op == "placeholder"]

    _check_unique("inputs", inputs)
    _check_unique("nodes", nodes)
    _check_unique("nodes", placeholders)
    _check_unique("modules", modules)
    # Parameters and buffers share one namespace: both become attributes of modules.
    _check_unique("parameters", tensors)
    _check_no_input_overwritten(spec.nodes)

    _check_all_valid("nodes", nodes, is_identifier)
    _check_all_valid("nodes", placeholders, is_identifier)
    _check_all_valid("modules", modules, is_attribute_path)
    _check_all_valid("parameters", tensors, is_attribute_path)


def _check_unique(path: str, names: list[str]) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise SpecError(
                "duplicate-name",
                f"{name!r} is used twice; rename one of the two",
                f"{path}[{index}].name",
            )
        seen.add(name)


def _check_no_input_overwritten(nodes: Iterable[NodeSpec]) -> None:
    """Check that no node before a placeholder assigns to the name of its input.

    Inputs are parameters of the generated function, read where their placeholders stand.
    """
    assigned: set[str] = set()
    for index, node in enumerate(nodes):
        if node.op == "placeholder" and node.target in assigned:
            raise SpecError(
                "duplicate-name",
                f"input {node.target!r} is overwritten by the node of that name before it is read; "
                "rename the node",
                f"nodes[{index}].target",
            )
        assigned.add(node.name)


def _check_all_valid(path: str, names: list[str], is_valid: Callable[[str], bool]) -> None:
    for index, name in enumerate(names):
        if not is_valid(name):
            raise SpecError(
                "bad-name",
                f"{name!r} cannot stand in generated source; use a plain identifier",
                f"{path}[{index}].name",
            )


def check_nodes(spec: ArchitectureSpec, trust: Trust) -> None:
    """Check that arguments refer to earlier nodes, targets are allowed, and one output is last."""
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
    """The names of the modules that nodes may call and of the tensors that they may read."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        self.leaves = {item.name for item in spec.modules if item.type != CONTAINER}
        self.tensors = {item.name for item in spec.tensors}

    def can_call(self, target: str) -> bool:
        """Whether this is a leaf module or something inside one: ``attention.out_proj``."""
        parts = target.split(".")
        for end in range(1, len(parts) + 1):
            if ".".join(parts[:end]) in self.leaves:
                return is_attribute_path(target)
        return False


def _require_call(condition: bool, node: NodeSpec, rule: str) -> None:
    if not condition:
        raise SpecError("bad-call", f"{node.op} {node.name!r}: {rule}; correct its arguments")


def _require_target(condition: bool, node: NodeSpec, rule: str) -> None:
    if not condition:
        raise SpecError(
            "unknown-target", f"{node.name!r} names {node.target!r}, {rule}; it is not loaded"
        )


# One check per kind of node, all of one signature, in the table _CHECKS below.


def _check_placeholder(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    has_node_default = len(node.args) == 1 and bool([*references(node.args[0])])
    at_most_a_default = len(node.args) <= 1 and not has_node_default and not node.kwargs
    _require_call(at_most_a_default, node, "an input takes at most a default value")


def _check_output(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    _require_target(node.target == "output", node, "but the output's target is 'output'")
    has_one_argument = len(node.args) == 1 and not node.kwargs
    _require_call(has_one_argument, node, "the output takes one argument")


def _check_get_attr(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    _require_target(node.target in owners.tensors, node, "which is no parameter or buffer")
    _require_call(not node.args and not node.kwargs, node, "get_attr takes no arguments")


def _check_call_module(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    can_call = owners.can_call(node.target)
    _require_target(can_call, node, "which is no module that can be called")


def _check_call_method(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    _require_target(node.target in METHODS, node, "which is no tensor method that a spec may call")
    has_self = bool(node.args) and isinstance(node.args[0], NodeArg)
    _require_call(has_self, node, "a method is called on the value of a node")


def _check_call_function(node: NodeSpec, owners: _Owners, trust: Trust) -> None:  # noqa: ARG001
    with error_location("target"):
        function_named(node.target, trust)
    if node.target == "builtins.getattr":
        _check_getattr(node)
    elif node.target.startswith("operator."):
        _check_operator(node)


# fx writes operators as Python syntax and drops operands that are too many, so their number has to
# be checked here. All that are not listed take two.
_UNARY = ("abs", "index", "inv", "invert", "neg", "not_", "pos", "truth")
_ARITY = {**dict.fromkeys(_UNARY, 1), "setitem": 3}


def _check_getattr(node: NodeSpec) -> None:
    takes_two = len(node.args) == 2 and not node.kwargs
    _require_call(takes_two, node, "getattr takes a node and a name")
    _require_call(isinstance(node.args[0], NodeArg), node, "getattr reads from the value of a node")
    if not isinstance(node.args[1], str) or node.args[1] not in ATTRIBUTES:
        raise SpecError(
            "unknown-target",
            f"{node.name!r} reads {node.args[1]!r}, no attribute that a spec may read",
        )


def _check_operator(node: NodeSpec) -> None:
    name = node.target.removeprefix("operator.")
    arity = _ARITY.get(name, 2)
    takes_arity = len(node.args) == arity and not node.kwargs
    _require_call(takes_arity, node, f"{node.target} takes {arity} arguments")
    writes_a_node = isinstance(node.args[0], NodeArg)
    _require_call(
        name not in IN_PLACE_OPERATORS or writes_a_node,
        node,
        "only a node's value can be written in place",
    )
    # fx writes -2 ** x, which Python reads as -(2 ** x).
    if name == "pow":
        is_negative = argument_text(node.args[0])[0] == "-"
        rule = "the power of a negative number comes out negated"
        _require_call(not is_negative, node, rule)


_CHECKS: dict[str, Callable[[NodeSpec, _Owners, Trust], None]] = {
    "placeholder": _check_placeholder,
    "get_attr": _check_get_attr,
    "call_function": _check_call_function,
    "call_method": _check_call_method,
    "call_module": _check_call_module,
    "output": _check_output,
}


def check_inputs(spec: ArchitectureSpec) -> None:
    """Check that example inputs feed the placeholders in order and are not too large.

    Placeholders with a default may have no example input.
    """
    placeholders = [node for node in spec.nodes if node.op == "placeholder"]
    taken = [node.target for node in placeholders]
    required = [node for node in placeholders if not node.args]
    given = [item.name for item in spec.inputs]
    if len(given) < len(required) or given != taken[: len(given)]:
        raise SpecError(
            "bad-input",
            f"the example inputs {given} are not those the graph takes ({taken}); give one tensor "
            "per input, in order",
            "inputs",
        )

    size = sum(map(_num_bytes, spec.inputs))
    if size > limits.INPUT_BYTES:
        raise SpecError(
            "too-large",
            f"the example inputs take {size} bytes, over {limits.INPUT_BYTES}; use smaller ones",
            "inputs",
        )


def check_modules(spec: ArchitectureSpec, trust: Trust) -> None:
    """Check that classes are allowed and that modules lie in containers listed before them."""
    containers = {""}
    for index, item in enumerate(spec.modules):
        with error_location(f"modules[{index}]"):
            class_named(item.type, trust)
            _require_parent(item.name, parent_of(item.name) in containers)
        if item.type == CONTAINER:
            containers.add(item.name)


def check_tensors(spec: ArchitectureSpec) -> None:
    """Check that tensors lie in a container or a leaf, and that ties point to earlier tensors.

    Tied tensors have to agree in shape, dtype, kind and requires_grad.
    """
    containers = {"", *(item.name for item in spec.modules if item.type == CONTAINER)}
    owners = _Owners(spec)
    earlier: dict[str, TensorSpec] = {}
    for item in spec.tensors:
        kind = "parameters" if isinstance(item, ParameterSpec) else "buffers"
        with error_location(f"{kind}[{item.name}]"):
            parent = parent_of(item.name)
            _require_parent(item.name, parent in containers or owners.can_call(parent))
            if item.tied_to is not None:
                _check_tie(item, earlier.get(item.tied_to))
        earlier[item.name] = item


def _require_parent(name: str, condition: bool) -> None:
    if not condition:
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
    if _shared_properties(other) != _shared_properties(item):
        raise SpecError(
            "bad-tie",
            f"{item.name!r} and {item.tied_to!r} differ in shape, dtype, kind or requires_grad; "
            "untie them",
        )


def _shared_properties(item: TensorSpec) -> tuple[object, ...]:
    """What two names of one tensor have in common."""
    requires_grad = isinstance(item, ParameterSpec) and item.requires_grad
    return type(item), item.shape, item.dtype, requires_grad


def stored_bytes(spec: ArchitectureSpec) -> int:
    """Bytes of all tensors that the weights file has to hold: those that are not tied."""
    return sum(_num_bytes(item) for item in spec.tensors if item.tied_to is None)


def _num_bytes(item: TensorSpec | InputSpec) -> int:
    return prod(item.shape) * DTYPES[item.dtype].itemsize
