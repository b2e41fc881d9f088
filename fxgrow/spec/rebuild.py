"""From a checked specification and tensors to a graph module."""

import warnings
from collections.abc import Mapping

import torch
from torch import fx, nn

from fxgrow.documents import limits
from fxgrow.errors import SpecError
from fxgrow.spec.allowlist import CONTAINER, Trust, function_named
from fxgrow.spec.arguments import decode
from fxgrow.spec.check import parent_of
from fxgrow.spec.constructor import build_module, tensors_of
from fxgrow.spec.error_codes import error_location
from fxgrow.spec.models import ArchitectureSpec, BufferSpec, NodeSpec, ParameterSpec

# What fx and Python's compiler raise on a graph that has no source form.
_CODE_ERRORS = (
    SyntaxError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    RecursionError,
)

# Prefixes of functions that tracing never enters.
_NEVER_TRACED = ("torch.", "operator.", "builtins.", "math.")


def rebuild_module(
    spec: ArchitectureSpec, tensors: Mapping[str, torch.Tensor], trust: Trust
) -> fx.GraphModule:
    """Build the graph module of a spec.

    Args:
        spec: A checked specification.
        tensors: The weights: a tensor for every name that is not tied to another.
        trust: Names that the caller allows beyond the allow-list.

    Returns:
        The module in evaluation mode; it holds ``tensors`` themselves, not copies.

    Raises:
        SpecError: ``bad-config``, ``missing-tensor``, ``tensor-mismatch``, ``unknown-target``,
            ``bad-name`` or ``bad-graph``.
    """
    graph_module = fx.GraphModule(nn.Module(), fx.Graph())
    _add_modules(graph_module, spec, trust)
    _assign_tensors(graph_module, spec, tensors)
    _check_called_modules(graph_module, spec)
    try:
        # Python's compiler warns about odd but valid source, such as 1[x].
        with warnings.catch_warnings(action="ignore"):
            graph_module.graph = _graph(spec, trust)
        graph_module.graph.lint()
    except _CODE_ERRORS as error:
        reason = str(error)[: limits.MESSAGE]
        raise SpecError(
            "bad-graph", f"fx cannot generate code for the graph ({reason}); save it again", "nodes"
        ) from error
    _check_inputs_hide_nothing(graph_module.graph)
    return graph_module.eval()


def _add_modules(root: fx.GraphModule, spec: ArchitectureSpec, trust: Trust) -> None:
    listed_shapes = {item.name: item.shape for item in spec.tensors}
    for index, item in enumerate(spec.modules):
        with error_location(f"modules[{index}]"):
            if item.type == CONTAINER:
                module = nn.Module()
            else:
                module = build_module(item, trust, max_tensors=len(listed_shapes))
            _check_shapes(item.name, module, listed_shapes)
            parent = root.get_submodule(parent_of(item.name))
            parent.add_module(_last_part(item.name), module)


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


def _check_shapes(
    name: str, module: nn.Module, listed_shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Check that the tensors a constructor makes are listed with the same shapes."""
    for inner, shape in tensors_of(module).items():
        listed = listed_shapes.get(f"{name}.{inner}")
        if listed is None:
            raise SpecError(
                "missing-tensor", f"{name!r} needs {inner!r}, which is not listed; list it"
            )
        if listed != shape:
            raise SpecError(
                "tensor-mismatch",
                f"{name}.{inner} is listed as {listed}, but its module makes {shape}; correct one",
            )


def _assign_tensors(
    root: fx.GraphModule, spec: ArchitectureSpec, tensors: Mapping[str, torch.Tensor]
) -> None:
    parameters: dict[str, nn.Parameter] = {}
    for item in spec.parameters:
        with error_location(f"parameters[{item.name}]"):
            # Tied names share one Parameter object, so that an optimizer sees it once.
            parameter = parameters[item.tied_to] if item.tied_to else _parameter(item, tensors)
            parameters[item.name] = parameter
            _set_parameter(root, item.name, parameter)
    for buffer in spec.buffers:
        with error_location(f"buffers[{buffer.name}]"):
            _set_buffer(root, buffer, tensors[buffer.tied_to or buffer.name])


def _parameter(spec: ParameterSpec, tensors: Mapping[str, torch.Tensor]) -> nn.Parameter:
    tensor = tensors[spec.name]
    is_differentiable = tensor.is_floating_point() or tensor.is_complex()
    if spec.requires_grad and not is_differentiable:
        raise SpecError(
            "tensor-mismatch",
            f"{tensor.dtype} cannot require a gradient; set requires_grad to false",
        )
    return nn.Parameter(tensor, requires_grad=spec.requires_grad)


def _set_parameter(root: fx.GraphModule, name: str, parameter: nn.Parameter) -> None:
    owner = _owner(root, name)
    leaf = _last_part(name)
    _check_slot(owner, leaf, owner._parameters)
    owner.register_parameter(leaf, parameter)


def _set_buffer(root: fx.GraphModule, spec: BufferSpec, tensor: torch.Tensor) -> None:
    owner = _owner(root, spec.name)
    leaf = _last_part(spec.name)
    _check_slot(owner, leaf, owner._buffers)
    owner.register_buffer(leaf, tensor, persistent=spec.persistent)


def _owner(root: fx.GraphModule, name: str) -> nn.Module:
    try:
        return root.get_submodule(parent_of(name))
    except AttributeError as error:
        raise SpecError(
            "missing-parent", f"there is no module {parent_of(name)!r} to hold {name!r}; list it"
        ) from error


def _check_slot(owner: nn.Module, leaf: str, slots: Mapping[str, torch.Tensor | None]) -> None:
    """A container takes any new tensor, a leaf only those that its constructor made."""
    if type(owner) is nn.Module or isinstance(owner, fx.GraphModule):
        if hasattr(owner, leaf):
            raise SpecError(
                "duplicate-name", f"{leaf!r} is a module already; rename one of the two"
            )
    elif slots.get(leaf) is None:
        raise SpecError(
            "tensor-mismatch",
            f"{type(owner).__name__} has no such tensor of this kind; do not list it",
        )


def _graph(spec: ArchitectureSpec, trust: Trust) -> fx.Graph:
    graph = fx.Graph()
    created: dict[str, fx.Node] = {}
    for index, node in enumerate(spec.nodes):
        with error_location(f"nodes[{index}]"):
            created[node.name] = _create_node(graph, node, created, trust)
    return graph


def _create_node(
    graph: fx.Graph, node: NodeSpec, earlier: Mapping[str, fx.Node], trust: Trust
) -> fx.Node:
    is_function = node.op == "call_function"
    created = graph.create_node(
        node.op,
        function_named(node.target, trust) if is_function else node.target,
        tuple(decode(item, earlier.__getitem__) for item in node.args),
        {key: decode(item, earlier.__getitem__) for key, item in node.kwargs.items()},
        name=node.name,
    )
    # fx renames nodes that would shadow a builtin.
    if created.name != node.name:
        raise SpecError(
            "bad-name", f"{node.name!r} hides a name that Python has; rename it", "name"
        )
    # The mark that symbolic tracing leaves on wrapped functions: the loaded module can be traced
    # again without entering them.
    if is_function and not node.target.startswith(_NEVER_TRACED):
        created.meta["is_wrapped"] = True
    if node.provenance is not None:
        created.meta["fxgrow"] = node.provenance
    return created


def _check_inputs_hide_nothing(graph: fx.Graph) -> None:
    """Check that no input has the name of a function that the graph calls.

    The generated source finds functions by name among its globals, and an input is a local variable
    that would hide a global of the same name.
    """
    global_names = graph.python_code("self").globals
    for index, node in enumerate(graph.nodes):
        if node.op == "placeholder" and node.target in global_names:
            raise SpecError(
                "bad-name",
                f"input {node.target!r} hides a function that the graph calls; rename it",
                f"nodes[{index}].target",
            )


def _check_called_modules(root: fx.GraphModule, spec: ArchitectureSpec) -> None:
    names = {name for name, _ in root.named_modules(remove_duplicate=False)}
    for index, node in enumerate(spec.nodes):
        if node.op == "call_module" and node.target not in names:
            raise SpecError(
                "unknown-target",
                f"there is no module {node.target!r}; list it",
                f"nodes[{index}].target",
            )
