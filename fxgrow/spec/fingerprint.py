"""The fingerprint of an architecture: a hash over a Merkle form of its graph (Merkle, 1987).

Every node is replaced by the hash of its operation and of its operands' hashes, so neither the
names of nodes nor the order of independent nodes matter. An operation that writes in place does
depend on order, so its hash also covers the nodes that read the value before it was overwritten.
Left out: weights, requires_grad, names of inputs, provenance, widths, history, cost, versions.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from fxgrow.documents import digest, limits
from fxgrow.errors import SpecError
from fxgrow.spec.allowlist_tables import IN_PLACE_OPERATORS
from fxgrow.spec.arguments import (
    Argument,
    MappingArg,
    NodeArg,
    TupleArg,
    decode,
    encode,
    references,
)
from fxgrow.spec.models import ArchitectureSpec, ModuleSpec, NodeSpec, to_json

CANONICAL_VERSION = 1
"""Version of the canonical form. It outlives schema versions: migrated specs keep fingerprints."""

_CALLS = ("call_function", "call_method")


def fingerprint(spec: ArchitectureSpec) -> str:
    """Hash the canonical form of an architecture.

    Args:
        spec: A specification whose nodes are in execution order (see ``check_nodes``).

    Returns:
        The SHA-256 as 64 hexadecimal digits. Equal for specifications that compute the same thing
        by the same operations, whatever their nodes are called.

    Raises:
        SpecError: ``too-large`` if values are read and overwritten too often.
    """
    inputs = [[list(item.shape), item.dtype] for item in spec.inputs]
    modules = sorted(map(to_json, spec.modules), key=lambda module: str(module["name"]))
    parameters: list[list[Any]] = []
    for parameter in spec.parameters:
        tie = parameter.tied_to or ""
        parameters.append([parameter.name, list(parameter.shape), parameter.dtype, tie])
    buffers: list[list[Any]] = []
    for buffer in spec.buffers:
        tie = buffer.tied_to or ""
        buffers.append([buffer.name, list(buffer.shape), buffer.dtype, buffer.persistent, tie])
    form = {
        # The key is called so because the form was introduced beside schema version 1.
        "schema_version": CANONICAL_VERSION,
        "inputs": inputs,
        "nodes": sorted(node_hashes(spec.nodes, spec.modules).values()),
        "modules": modules,
        "parameters": sorted(parameters),
        "buffers": sorted(buffers),
    }
    return digest(form)


def node_hashes(nodes: Iterable[NodeSpec], modules: Iterable[ModuleSpec]) -> dict[str, str]:
    """Hash what every node computes from the model's inputs on.

    Args:
        nodes: The nodes in execution order.
        modules: The modules that the nodes call, which say whether they work in place.

    Returns:
        Node name -> hash.

    Raises:
        SpecError: ``too-large`` if values are read and overwritten more often than the limit: each
            overwrite sorts all earlier readers, which is quadratic in a hostile file.
    """
    in_place_modules = {item.name for item in modules if item.config.get("inplace") is True}
    hashes: dict[str, str] = {}
    readers: defaultdict[str, list[str]] = defaultdict(list)
    input_numbers = count()
    num_reads = 0
    for node in nodes:
        operands = _operands(node)
        earlier_reads: list[str] = []
        if operands and _in_place(node, in_place_modules):
            earlier_reads = sorted(hashes[name] for name in readers[operands[0]])
        num_reads += len(earlier_reads)
        if num_reads > limits.READERS:
            raise SpecError(
                "too-large",
                "values are read and written in place too often; write less in place",
                "nodes",
            )
        # Inputs count by their position: what they are called does not matter.
        target = next(input_numbers) if node.op == "placeholder" else node.target
        args, kwargs = _hashed_arguments(node, hashes)
        hashes[node.name] = digest([node.op, target, args, kwargs, earlier_reads])
        for name in operands:
            readers[name].append(node.name)
    return hashes


def _operands(node: NodeSpec) -> list[str]:
    """The nodes that a node reads, in the order of its arguments, repeats included."""
    operands: list[str] = []
    for argument in (*node.args, *node.kwargs.values()):
        operands.extend(references(argument))
    return operands


def _in_place(node: NodeSpec, in_place_modules: set[str]) -> bool:
    """Whether the node overwrites its first operand.

    torch marks such functions by a trailing underscore, Python by ``operator.i*``, and others take
    an ``inplace`` flag.
    """
    if node.op == "call_module":
        return node.target in in_place_modules
    if node.target.startswith("operator."):
        return node.target.removeprefix("operator.") in IN_PLACE_OPERATORS
    parts = node.target.split(".")
    # torch.ops.aten.add_.Tensor: the operator's name stands before that of the overload.
    name = parts[3] if node.target.startswith("torch.ops.aten.") else parts[-1]
    return node.op in _CALLS and (name.endswith("_") or node.kwargs.get("inplace") is True)


def _hashed_arguments(node: NodeSpec, hashes: Mapping[str, str]) -> tuple[Any, Any]:
    """The node's args and kwargs as JSON, with hashes in place of the nodes they refer to."""

    def rename(argument: Argument) -> Argument:
        return encode(decode(argument, lambda name: NodeArg(node=hashes[name])))

    args = TupleArg(tuple=tuple(map(rename, node.args)))
    kwargs = MappingArg(mapping={key: rename(item) for key, item in node.kwargs.items()})
    return args.model_dump(mode="json")["tuple"], kwargs.model_dump(mode="json")["mapping"]
