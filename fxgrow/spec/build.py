"""From a graph module to its specification."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from typing import Any

import torch
from pydantic import ValidationError
from torch import fx, nn
from torch.fx.graph import CodeGen

from fxgrow.documents import digest
from fxgrow.errors import SpecError
from fxgrow.spec.allowlist import CONTAINER, Trust, name_of_function
from fxgrow.spec.arguments import DTYPE_NAMES, DTYPES, DType, encode
from fxgrow.spec.check import check_spec
from fxgrow.spec.constructor import container, describe_module
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


def describe(
    graph_module: fx.GraphModule,
    example_inputs: Sequence[torch.Tensor],
    *,
    widths: Iterable[Any] = (),
    history: Sequence[GrowthStep] = (),
    trust: Trust = _NO_TRUST,
) -> ArchitectureSpec:
    """The specification of ``graph_module``, checked as a loaded one is, without weights.

    ``example_inputs`` are tensors, one per placeholder in order (those with a default may be left out); only shape and
    dtype matter. ``widths`` are those of the coupling, or ``WidthSpec``. ``trust`` lists ``package.module.object`` of
    functions and module classes beyond the allow-list. Modules and tensors that the graph does not use are left out.
    Raises SpecError if the graph holds anything that could not be loaded again.
    """
    spec = _architecture(graph_module, example_inputs, trust)
    return spec.model_copy(
        update={
            "cost": cost(graph_module, example_inputs),
            "widths": tuple(width_spec(item) for item in widths),
            "history": tuple(history),
        }
    )


def fingerprint_of(
    graph_module: fx.GraphModule, inputs: Sequence[InputSpec], trust: Trust = _NO_TRUST
) -> str:
    """The fingerprint of ``graph_module`` for inputs of the given shapes and dtypes."""
    return _architecture(graph_module, inputs_on_meta(inputs), trust).fingerprint


def check_faithful(graph_module: fx.GraphModule, spec: ArchitectureSpec, trust: Trust) -> None:
    """What was built from ``spec`` must be described by it again, else ``SpecError("not-canonical")``.

    Not so: arguments left at their default or spelled otherwise, modules and tensors that the graph does not use.
    """
    again = _architecture(graph_module, inputs_on_meta(spec.inputs), trust)
    if again.fingerprint != spec.fingerprint:
        raise SpecError(
            "not-canonical",
            "the model built from it would be described otherwise: something is unused, left out or spelled in another "
            "way; save the model again",
            _first_difference(spec, again),
        )


def _first_difference(spec: ArchitectureSpec, again: ArchitectureSpec) -> str:
    for kind in ("inputs", "nodes", "modules", "parameters", "buffers"):
        known = {item.name: to_json(item) for item in getattr(again, kind)}
        for index, item in enumerate(getattr(spec, kind)):
            if digest(to_json(item)) != digest(known.get(item.name)):
                return f"{kind}[{index}]"
    return "fingerprint"


def inputs_on_meta(inputs: Sequence[InputSpec]) -> tuple[torch.Tensor, ...]:
    """Tensors of the recorded shapes and dtypes on the meta device."""
    return tuple(
        torch.empty(item.shape, dtype=DTYPES[item.dtype], device="meta") for item in inputs
    )


def width_spec(width: Any) -> WidthSpec:
    """The record of a width: anything with name, size, sites, growable, refusal, and granule if it has one."""
    if isinstance(width, WidthSpec):
        return width
    refusal = width.refusal
    # The coupling's roles are an Enum whose values are the words here.
    sites = [
        SiteSpec(parameter=s.parameter, axis=s.axis, role=getattr(s.role, "value", s.role))
        for s in width.sites
    ]
    return WidthSpec(
        name=width.name,
        size=width.size,
        granule=getattr(width, "granule", 1),
        sites=tuple(sites),
        growable=width.growable,
        refusal=refusal
        and RefusalSpec(code=refusal.code, reason=refusal.reason, nodes=tuple(refusal.nodes)),
    )


def _architecture(
    graph_module: fx.GraphModule, example_inputs: Sequence[torch.Tensor], trust: Trust
) -> ArchitectureSpec:
    try:
        spec = _unsigned(graph_module, example_inputs, trust)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"]))
        raise SpecError(
            "too-large", f"the model is beyond what a spec may hold ({first['msg']})", path
        ) from error
    spec = spec.model_copy(update={"fingerprint": fingerprint(spec)})
    check_spec(spec, trust)
    return spec


def _unsigned(
    graph_module: fx.GraphModule, example_inputs: Sequence[torch.Tensor], trust: Trust
) -> ArchitectureSpec:
    _check_signature(graph_module.graph)
    nodes = tuple(_node(node, trust) for node in graph_module.graph.nodes)
    modules = _modules(graph_module, trust)
    parameters, buffers = _tensors(graph_module, modules)
    return ArchitectureSpec(
        schema_version=SCHEMA_VERSION,
        fingerprint="0" * 64,
        inputs=_inputs(graph_module.graph, example_inputs),
        nodes=nodes,
        modules=modules,
        parameters=parameters,
        buffers=buffers,
        cost=Cost(parameters=0, multiply_adds=0),
        versions=_versions(),
    )


@cache
def _versions() -> dict[str, str]:
    """Versions of what wrote the spec; fxgrow's is absent when it runs from a source tree that was not installed."""
    installed = {dist.name: dist.version for dist in metadata.distributions(name="fxgrow")}
    return {"torch": str(torch.__version__), **installed}


def _check_signature(graph: fx.Graph) -> None:
    if type(graph._codegen) is not CodeGen:
        raise SpecError(
            "pytree-signature",
            "the graph flattens its inputs or outputs by a pytree spec, which cannot be saved; give it plain tensors "
            "and graph.set_codegen(CodeGen())",
        )


def _inputs(graph: fx.Graph, example_inputs: Sequence[torch.Tensor]) -> tuple[InputSpec, ...]:
    names = [str(node.target) for node in graph.nodes if node.op == "placeholder"]
    if len(example_inputs) > len(names) or not all(
        isinstance(item, torch.Tensor) for item in example_inputs
    ):
        raise SpecError(
            "bad-input",
            f"the graph takes {len(names)} tensors ({', '.join(names)}); give one for each",
            "inputs",
        )
    return tuple(
        InputSpec(name=name, shape=tuple(item.shape), dtype=_dtype(name, item))
        for name, item in zip(names, example_inputs, strict=False)
    )


def _dtype(name: str, tensor: torch.Tensor) -> DType:
    if tensor.dtype not in DTYPE_NAMES:
        raise SpecError(
            "bad-argument", f"{name!r} is {tensor.dtype}, which no weights file holds; convert it"
        )
    return DTYPE_NAMES[tensor.dtype]


def _node(node: fx.Node, trust: Trust) -> NodeSpec:
    with error_location(f"nodes[{node.name}]"):
        return NodeSpec(
            name=node.name,
            op=node.op,  # type: ignore[arg-type]  # fx types it as str
            target=node.target
            if isinstance(node.target, str)
            else name_of_function(node.target, trust),
            args=tuple(encode(item) for item in node.args),
            kwargs={key: encode(item) for key, item in node.kwargs.items()},
            provenance=_provenance(node),
        )


def _provenance(node: fx.Node) -> ProvenanceSpec | None:
    """What the rewriter noted on the node: rule, width and candidate, as a mapping, an object or a Provenance."""
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
    """Called modules with their configuration, and bare containers around them and around tensors; in their order."""
    called = {str(node.target) for node in graph_module.graph.nodes if node.op == "call_module"}
    got = {str(node.target) for node in graph_module.graph.nodes if node.op == "get_attr"}
    leaves = {name for name in called if not any(outer in called for outer in _outer(name))}
    holders = {outer for name in leaves | got for outer in _outer(name)}
    inside = {name for name in holders if any(part in leaves for part in (name, *_outer(name)))}
    wanted = leaves | (holders - inside)
    return tuple(
        describe_module(name, module, trust) if name in leaves else container(name)
        for name, module in graph_module.named_modules(remove_duplicate=False)
        if name in wanted
    )


def _outer(name: str) -> list[str]:
    """The modules around ``name``, outermost first, without the root: a, a.b for a.b.c."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _tensors(
    graph_module: fx.GraphModule, modules: Sequence[ModuleSpec]
) -> tuple[tuple[ParameterSpec, ...], tuple[BufferSpec, ...]]:
    leaves = {item.name for item in modules if item.type != CONTAINER}
    got = {str(node.target) for node in graph_module.graph.nodes if node.op == "get_attr"}

    def used(name: str) -> bool:
        return name in got or any(outer in leaves for outer in _outer(name))

    temporary = _temporary_buffers(graph_module)
    first: dict[int, str] = {}

    def tie(name: str, tensor: torch.Tensor) -> str | None:
        owner = first.setdefault(id(tensor), name)
        return None if owner == name else owner

    parameters = tuple(
        ParameterSpec(
            name=name,
            shape=tuple(item.shape),
            dtype=_dtype(name, item),
            requires_grad=item.requires_grad,
            tied_to=tie(name, item),
        )
        for name, item in graph_module.named_parameters(remove_duplicate=False)
        if used(name)
    )
    buffers = tuple(
        BufferSpec(
            name=name,
            shape=tuple(item.shape),
            dtype=_dtype(name, item),
            persistent=name not in temporary,
            tied_to=tie(name, item),
        )
        for name, item in graph_module.named_buffers(remove_duplicate=False)
        if used(name)
    )
    return parameters, buffers


def _temporary_buffers(root: nn.Module) -> set[str]:
    """Names of the buffers that a state dict leaves out."""
    return {
        f"{name}.{buffer}".lstrip(".")
        for name, module in root.named_modules(remove_duplicate=False)
        for buffer in module._non_persistent_buffers_set
    }
