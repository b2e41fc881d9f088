"""From a graph module to its specification.

What describes a model is described strictly: the result passes the same checks as a spec that was
read from a file, so that whatever can be saved can also be loaded.
"""

from collections.abc import Sequence
from functools import cache
from importlib import metadata
from typing import Any, Protocol

import torch
from pydantic import ValidationError
from torch import fx, nn
from torch.fx.graph import CodeGen

from fxgrow.argument_checks import checked
from fxgrow.documents import digest
from fxgrow.errors import ArgumentError, SpecError
from fxgrow.modes import garbage_collection_off
from fxgrow.spec.allowlist import CONTAINER, Trust, name_of_function
from fxgrow.spec.arguments import DTYPE_NAMES, DTYPES, DType, encode
from fxgrow.spec.check import check_spec
from fxgrow.spec.constructor import Rebuilt, container, describe_module
from fxgrow.spec.cost import cost
from fxgrow.spec.error_codes import error_location
from fxgrow.spec.fingerprint import fingerprint
from fxgrow.spec.models import (
    SCHEMA_VERSION,
    ArchitectureSpec,
    BufferSpec,
    Cost,
    GrowthStep,
    InputSpec,
    ModuleSpec,
    NodeSpec,
    ParameterSpec,
    ProvenanceSpec,
    RefusalSpec,
    SiteSpec,
    WidthSpec,
    to_json,
)

_NO_TRUST: Trust = frozenset()


class WidthLike(Protocol):
    """A width of the coupling, which the spec does not import, or a ``WidthSpec``."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def size(self) -> int:
        """Its number of neurons."""
        ...

    @property
    def sites(self) -> Sequence[Any]:
        """The axes that it reaches."""
        ...

    @property
    def growable(self) -> bool:
        """Whether it can grow."""
        ...

    @property
    def refusal(self) -> Any:
        """Why not, if it cannot."""
        ...


@checked
def describe(
    graph_module: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    widths: Sequence[WidthLike] = (),
    history: Sequence[GrowthStep] = (),
    trust: Trust = _NO_TRUST,
) -> ArchitectureSpec:
    """Describe a graph module without its weights, checked as a loaded spec is.

    Modules and tensors that the graph does not use are left out.

    Args:
        graph_module: The model.
        example_inputs: One tensor per placeholder in order; those with a default may be left out.
            Only shape and dtype matter.
        widths: The widths of the coupling, or ``WidthSpec``.
        history: The growth steps that led to this model, oldest first.
        trust: ``package.module.object`` of functions and module classes beyond the allow-list.

    Returns:
        The specification.

    Raises:
        SpecError: If the graph holds anything that could not be loaded again; ``docs/spec.md``
            lists the codes.

    Example:
        >>> spec = describe(fx.symbolic_trace(nn.Linear(2, 3)), (torch.ones(1, 2),))
        >>> [node.name for node in spec.nodes]
        ['input_1', 'weight', 'bias', 'linear', 'output']
    """
    spec = _architecture(graph_module, example_inputs, trust)
    # None of these is part of the fingerprint.
    return spec.model_copy(
        update={
            "cost": cost(graph_module, example_inputs),
            "widths": tuple(map(width_spec, widths)),
            "history": tuple(history),
        }
    )


def fingerprint_of(
    graph_module: fx.GraphModule, inputs: Sequence[InputSpec], trust: Trust = _NO_TRUST
) -> str:
    """Compute the fingerprint of a graph module.

    Args:
        graph_module: The model.
        inputs: Shapes and dtypes of its example inputs.
        trust: Names that the caller allows beyond the allow-list.

    Returns:
        The fingerprint that its specification would have.

    Raises:
        SpecError: If the graph cannot be described.
    """
    return _architecture(graph_module, inputs_on_meta(inputs), trust).fingerprint


def check_faithful(graph_module: fx.GraphModule, spec: ArchitectureSpec, trust: Trust) -> None:
    """Check that describing a rebuilt module gives the spec that it was built from.

    It does not if arguments are left at their default or spelled in another way, or if modules or
    tensors are listed that the graph does not use: then two specs would stand for one model.

    Args:
        graph_module: What was built from ``spec``.
        spec: The specification.
        trust: Names that the caller allows beyond the allow-list.

    Raises:
        SpecError: ``not-canonical``, with the path of the first entry that differs.
    """
    again = _architecture(graph_module, inputs_on_meta(spec.inputs), trust)
    if again.fingerprint != spec.fingerprint:
        raise SpecError(
            "not-canonical",
            "the model built from it would be described otherwise: something is unused, left out "
            "or spelled in another way; save the model again",
            _first_difference(spec, again),
        )


def _first_difference(spec: ArchitectureSpec, again: ArchitectureSpec) -> str:
    """The path of the first entry of ``spec`` that is missing or different in ``again``."""
    # By name: an entry that is missing must not blame all entries after it.
    for kind in ("inputs", "nodes", "modules", "parameters", "buffers"):
        by_name = {item.name: to_json(item) for item in getattr(again, kind)}
        for index, item in enumerate(getattr(spec, kind)):
            if digest(to_json(item)) != digest(by_name.get(item.name)):
                return f"{kind}[{index}]"
    return "fingerprint"


def inputs_on_meta(inputs: Sequence[InputSpec]) -> tuple[torch.Tensor, ...]:
    """Tensors of the recorded shapes and dtypes on the meta device."""
    tensors: list[torch.Tensor] = []
    for item in inputs:
        tensors.append(torch.empty(item.shape, dtype=DTYPES[item.dtype], device="meta"))
    return tuple(tensors)


def width_spec(width: Any) -> WidthSpec:
    """Record a width of the coupling.

    Args:
        width: Anything with name, size, sites, growable, refusal, and granule if it has one. The
            spec does not import the coupling, so any object with these attributes is taken.

    Returns:
        The record; a ``WidthSpec`` is returned as it is.
    """
    if isinstance(width, WidthSpec):
        return width
    sites: list[SiteSpec] = []
    for site in width.sites:
        # The coupling's roles are an Enum whose values are the words of the record.
        role = getattr(site.role, "value", site.role)
        sites.append(SiteSpec(parameter=site.parameter, axis=site.axis, role=role))
    refusal = width.refusal
    if refusal is not None:
        nodes = tuple(refusal.nodes)
        refusal = RefusalSpec(code=refusal.code, reason=refusal.reason, nodes=nodes)
    return WidthSpec(
        name=width.name,
        size=width.size,
        granule=getattr(width, "granule", 1),
        sites=tuple(sites),
        growable=width.growable,
        refusal=refusal,
    )


@garbage_collection_off()
def _architecture(
    graph_module: fx.GraphModule, example_inputs: Sequence[torch.Tensor], trust: Trust
) -> ArchitectureSpec:
    """The checked description with its fingerprint, but without cost, widths and history."""
    try:
        spec = _without_fingerprint(graph_module, example_inputs, trust)
    except ArgumentError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        # The values come from a real model, so only the limits on sizes can have failed.
        first = error.__cause__.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"]))
        raise SpecError(
            "too-large", f"the model is beyond what a spec may hold ({first['msg']})", path
        ) from error
    spec = spec.model_copy(update={"fingerprint": fingerprint(spec)})
    check_spec(spec, trust)
    return spec


def _without_fingerprint(
    graph_module: fx.GraphModule, example_inputs: Sequence[torch.Tensor], trust: Trust
) -> ArchitectureSpec:
    _check_signature(graph_module.graph)
    nodes: list[NodeSpec] = []
    for node in graph_module.graph.nodes:
        nodes.append(_node(node, trust))
    modules = _modules(graph_module, trust)
    used = _UsedTensors(graph_module, modules)
    # Parameters first, as ``ArchitectureSpec.tensors`` lists them: a tie points to an earlier one.
    parameters, buffers = used.parameters(), used.buffers()
    return ArchitectureSpec(
        schema_version=SCHEMA_VERSION,
        fingerprint="0" * 64,
        inputs=_inputs(graph_module.graph, example_inputs),
        nodes=tuple(nodes),
        modules=modules,
        parameters=parameters,
        buffers=buffers,
        cost=Cost(parameters=0, multiply_adds=0),
        versions=_versions(),
    )


@cache
def _versions() -> dict[str, str]:
    """Versions of the packages that wrote the spec.

    That of fxgrow is missing when it runs from a source tree that was not installed.
    """
    installed = {dist.name: dist.version for dist in metadata.distributions(name="fxgrow")}
    return {"torch": str(torch.__version__), **installed}


def _check_signature(graph: fx.Graph) -> None:
    """Refuse graphs of torch.export that flatten nested inputs: a spec has plain tensors only."""
    if type(graph._codegen) is not CodeGen:
        raise SpecError(
            "pytree-signature",
            "the graph flattens its inputs or outputs by a pytree spec, which cannot be saved; "
            "give it plain tensors and graph.set_codegen(CodeGen())",
        )


def _inputs(graph: fx.Graph, example_inputs: Sequence[torch.Tensor]) -> tuple[InputSpec, ...]:
    names = [str(node.target) for node in graph.nodes if node.op == "placeholder"]
    all_tensors = all(isinstance(item, torch.Tensor) for item in example_inputs)
    if len(example_inputs) > len(names) or not all_tensors:
        raise SpecError(
            "bad-input",
            f"the graph takes {len(names)} tensors ({', '.join(names)}); give one for each",
            "inputs",
        )
    inputs: list[InputSpec] = []
    # Placeholders with a default come last and may have no example.
    for name, item in zip(names, example_inputs, strict=False):
        inputs.append(InputSpec(name=name, shape=tuple(item.shape), dtype=_dtype(name, item)))
    return tuple(inputs)


def _dtype(name: str, tensor: torch.Tensor) -> DType:
    if tensor.dtype not in DTYPE_NAMES:
        raise SpecError(
            "bad-argument", f"{name!r} is {tensor.dtype}, which no weights file holds; convert it"
        )
    return DTYPE_NAMES[tensor.dtype]


def _node(node: fx.Node, trust: Trust) -> NodeSpec:
    with error_location(f"nodes[{node.name}]"):
        target = node.target
        return NodeSpec(
            name=node.name,
            op=node.op,  # type: ignore[arg-type]  # fx types it as str
            target=target if isinstance(target, str) else name_of_function(target, trust),
            args=tuple(map(encode, node.args)),
            kwargs={key: encode(item) for key, item in node.kwargs.items()},
            provenance=_provenance(node),
        )


def _provenance(node: fx.Node) -> ProvenanceSpec | None:
    """What the rewriter noted on the node: a mapping, an object or a ``ProvenanceSpec``."""
    note = node.meta.get("fxgrow")
    if note is None or isinstance(note, ProvenanceSpec):
        return note
    try:
        return ProvenanceSpec.model_validate(note, from_attributes=True)
    except ValidationError as error:
        raise SpecError(
            "bad-value", f"the note fxgrow of {node.name!r} is no provenance ({error})"
        ) from error


def _modules(graph_module: fx.GraphModule, trust: Trust) -> tuple[ModuleSpec, ...]:
    """Called modules with their configuration, and bare containers around them and around tensors.

    They are in the order in which the graph module has them, so containers come before what they
    contain.
    """
    graph = graph_module.graph
    called = _targets(graph, "call_module")
    # A module inside another called one is rebuilt by the constructor of the outer one.
    leaves = {name for name in called if called.isdisjoint(_outer_modules(name))}
    containers: set[str] = set()
    for name in leaves | _targets(graph, "get_attr"):
        for outer in _outer_modules(name):
            inside_leaf = outer in leaves or not leaves.isdisjoint(_outer_modules(outer))
            if not inside_leaf:
                containers.add(outer)
    records: list[ModuleSpec] = []
    rebuilt: Rebuilt = {}
    for name, module in graph_module.named_modules(remove_duplicate=False):
        if name in leaves:
            records.append(describe_module(name, module, trust, rebuilt))
        elif name in containers:
            records.append(container(name))
    return tuple(records)


def _targets(graph: fx.Graph, op: str) -> set[str]:
    """What the nodes of one kind call or read, by name."""
    return {str(node.target) for node in graph.nodes if node.op == op}


def _outer_modules(name: str) -> list[str]:
    """The modules around ``name``, outermost first, without the root: a, a.b for a.b.c."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


class _UsedTensors:
    """The tensors that the graph reads itself or that lie in the modules it calls."""

    def __init__(self, graph_module: fx.GraphModule, modules: Sequence[ModuleSpec]) -> None:
        self.graph_module = graph_module
        self.leaves = {item.name for item in modules if item.type != CONTAINER}
        self.read_by_graph = _targets(graph_module.graph, "get_attr")
        # id of a tensor -> the name under which it was met first; later names are tied to it.
        self.first_names: dict[int, str] = {}

    def _is_used(self, name: str) -> bool:
        return name in self.read_by_graph or not self.leaves.isdisjoint(_outer_modules(name))

    def _tied_to(self, name: str, tensor: torch.Tensor) -> str | None:
        first_name = self.first_names.setdefault(id(tensor), name)
        return None if first_name == name else first_name

    def parameters(self) -> tuple[ParameterSpec, ...]:
        """The records of the used parameters, in the order of the module."""
        records: list[ParameterSpec] = []
        for name, item in self.graph_module.named_parameters(remove_duplicate=False):
            if self._is_used(name):
                record = ParameterSpec(
                    name=name,
                    shape=tuple(item.shape),
                    dtype=_dtype(name, item),
                    requires_grad=item.requires_grad,
                    tied_to=self._tied_to(name, item),
                )
                records.append(record)
        return tuple(records)

    def buffers(self) -> tuple[BufferSpec, ...]:
        """The records of the used buffers, in the order of the module."""
        temporary = _non_persistent_buffers(self.graph_module)
        records: list[BufferSpec] = []
        for name, item in self.graph_module.named_buffers(remove_duplicate=False):
            if self._is_used(name):
                record = BufferSpec(
                    name=name,
                    shape=tuple(item.shape),
                    dtype=_dtype(name, item),
                    persistent=name not in temporary,
                    tied_to=self._tied_to(name, item),
                )
                records.append(record)
        return tuple(records)


def _non_persistent_buffers(root: nn.Module) -> set[str]:
    """Names of the buffers that a state dict leaves out."""
    names: set[str] = set()
    for module_name, module in root.named_modules(remove_duplicate=False):
        for buffer_name in module._non_persistent_buffers_set:
            names.add(f"{module_name}.{buffer_name}".lstrip("."))
    return names
