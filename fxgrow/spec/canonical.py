"""One text per specification, and the fingerprint of an architecture.

The fingerprint is a hash over a Merkle form of the graph: every node is replaced by the hash of its operation and of
its operands' hashes, so neither the names of nodes nor the order of independent nodes matter. An operation that writes
in place depends on order as well; its hash includes who read the written value before. Left out: weights,
requires_grad, names of inputs, provenance, widths, history, cost, versions.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from fxgrow.documents import limits
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

_HASH_DIGITS = 120
FORM = 1
"""The version of the canonical form. It outlives schema versions: a migrated spec keeps its fingerprint."""


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON, keys sorted, floats at their shortest, one line where it fits in 120 columns, newline at the end.

    ``value`` is JSON data. Raises ``SpecError("not-finite")`` for NaN and infinities.
    """
    return (_layout(value, "") + "\n").encode()


def _compact(value: Any) -> str:
    try:
        return json.dumps(
            value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(", ", ": ")
        )
    except ValueError as error:
        raise SpecError(
            "not-finite", "NaN or infinity cannot be written to a spec; leave the number out"
        ) from error


def _layout(value: Any, indent: str) -> str:
    line = _compact(value)
    if len(indent) + len(line) <= _HASH_DIGITS or not isinstance(value, dict | list) or not value:
        return line
    inner = indent + " "
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _layout(item, inner) for item in value) + f"\n{indent}]"
    items = (f"{inner}{_compact(key)}: {_layout(value[key], inner)}" for key in sorted(value))
    return "{\n" + ",\n".join(items) + f"\n{indent}}}"


def digest(value: Any) -> str:
    """SHA-256 of the compact JSON of ``value``, as 64 hexadecimal digits."""
    return hashlib.sha256(_compact(value).encode()).hexdigest()


def fingerprint(spec: ArchitectureSpec) -> str:
    """SHA-256 of the canonical form of the architecture. Its nodes must be in order (see ``check_nodes``)."""
    form = {
        "schema_version": FORM,  # named so since the form was introduced beside schema version 1
        "inputs": [[list(item.shape), item.dtype] for item in spec.inputs],
        "nodes": sorted(node_hashes(spec.nodes, spec.modules).values()),
        "modules": sorted(
            [to_json(item) for item in spec.modules], key=lambda item: str(item["name"])
        ),
        "parameters": sorted(
            [item.name, list(item.shape), item.dtype, item.tied_to or ""]
            for item in spec.parameters
        ),
        "buffers": sorted(
            [item.name, list(item.shape), item.dtype, item.persistent, item.tied_to or ""]
            for item in spec.buffers
        ),
    }
    return digest(form)


def node_hashes(nodes: Iterable[NodeSpec], modules: Iterable[ModuleSpec]) -> dict[str, str]:
    """Node name -> hash of what the node computes, from the model's inputs on."""
    in_place_modules = {item.name for item in modules if item.config.get("inplace") is True}
    hashes: dict[str, str] = {}
    readers: defaultdict[str, list[str]] = defaultdict(list)
    inputs = count()
    read = 0
    for node in nodes:
        operands = [
            name
            for argument in (*node.args, *node.kwargs.values())
            for name in references(argument)
        ]
        writes = operands and _in_place(node, in_place_modules)
        before = sorted(hashes[name] for name in readers[operands[0]]) if writes else []
        read += len(before)
        if read > limits.READERS:
            raise SpecError(
                "too-large",
                "values are read and written in place too often; write less in place",
                "nodes",
            )
        target = next(inputs) if node.op == "placeholder" else node.target
        hashes[node.name] = digest([node.op, target, *_with_hashes(node, hashes), before])
        for name in operands:
            readers[name].append(node.name)
    return hashes


def _in_place(node: NodeSpec, in_place_modules: set[str]) -> bool:
    """Whether the node writes into its first operand: torch's trailing underscore, operator.i*, or an inplace flag."""
    if node.op == "call_module":
        return node.target in in_place_modules
    if node.target.startswith("operator."):
        return node.target.removeprefix("operator.") in IN_PLACE_OPERATORS
    parts = node.target.split(".")
    name = parts[3] if node.target.startswith("torch.ops.aten.") else parts[-1]
    return node.op in _CALLS and (name.endswith("_") or node.kwargs.get("inplace") is True)


_CALLS = ("call_function", "call_method")


def _with_hashes(node: NodeSpec, hashes: Mapping[str, str]) -> tuple[Any, Any]:
    """The node's args and kwargs as JSON, every reference replaced by the referred node's hash."""

    def rename(argument: Argument) -> Argument:
        return encode(decode(argument, lambda name: NodeArg(node=hashes[name])))

    args = TupleArg(tuple=tuple(rename(item) for item in node.args))
    kwargs = MappingArg(mapping={key: rename(item) for key, item in node.kwargs.items()})
    return args.model_dump(mode="json")["tuple"], kwargs.model_dump(mode="json")["mapping"]
