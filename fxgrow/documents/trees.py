"""Nested values with tensors in them (an optimizer's state, say) as JSON data and named tensors.

JSON has no tuples, no keys but text, and neither NaN nor infinities, so what JSON cannot say is an
object with one key that says what it is. Nothing is pickled: a value of any other kind is refused.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fxgrow.errors import InternalError, SpecError

Tree = Any
"""JSON data that ``encode_tree`` made."""

_TENSOR, _TUPLE, _TABLE, _FLOAT = "tensor", "tuple", "table", "float"
_PLAIN = (type(None), bool, int, str)


def encode_tree(value: Any, tensors: dict[str, Tensor], prefix: str) -> Tree:
    """JSON data for a nested value; its tensors go into a table.

    Args:
        value: numbers, texts, None and tensors, in dictionaries, lists and tuples.
        tensors: gets the tensors under numbered names.
        prefix: of these names.

    Returns:
        The JSON data, from which ``decode_tree`` makes the same value.

    Raises:
        InternalError: there is something else in it.

    Example:
        >>> tensors = {}
        >>> encode_tree({"betas": (0.9, 0.99), "step": torch.ones(())}, tensors, "adam")
        {'table': [['betas', {'tuple': [0.9, 0.99]}], ['step', {'tensor': 'adam.0'}]]}
    """
    # The exact type: a subclass would come back as something else.
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    if isinstance(value, Tensor):
        name = f"{prefix}.{len(tensors)}"
        tensors[name] = value.detach()
        return {_TENSOR: name}
    if isinstance(value, (list, tuple)):
        items = [encode_tree(item, tensors, prefix) for item in value]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, dict):
        rows = []
        for key, item in value.items():
            rows.append([encode_tree(part, tensors, prefix) for part in (key, item)])
        return {_TABLE: rows}
    raise InternalError(f"a {type(value).__name__} cannot be written as JSON")


def decode_tree(tree: Tree, tensors: Mapping[str, Tensor]) -> Any:
    """The value that ``encode_tree`` made JSON data of.

    Args:
        tree: the JSON data.
        tensors: the tensors by name.

    Returns:
        The value; its tensors are those of the table.

    Raises:
        SpecError: ``bad-value``, ``missing-tensor``: it is no such data.

    Example:
        >>> decode_tree({"tuple": [1, {"float": "inf"}]}, {})
        (1, inf)
    """
    if type(tree) in (*_PLAIN, float):
        return tree
    if isinstance(tree, list):
        return [decode_tree(item, tensors) for item in tree]
    # Every object of such data has one key, which says what it stands for.
    if isinstance(tree, dict) and len(tree) == 1:
        ((kind, content),) = tree.items()
        if kind == _TENSOR and isinstance(content, str):
            return _tensor(content, tensors)
        if kind == _FLOAT and content in ("nan", "inf", "-inf"):
            return float(content)
        if kind == _TUPLE and isinstance(content, list):
            return tuple(decode_tree(item, tensors) for item in content)
        if kind == _TABLE and isinstance(content, list):
            return _table(content, tensors)
    raise _no_tree(tree)


def _tensor(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    if name not in tensors:
        raise SpecError("missing-tensor", f"there is no tensor {name!r}; save it again")
    return tensors[name]


def _table(rows: list[Any], tensors: Mapping[str, Tensor]) -> dict[Any, Any]:
    table = {}
    for row in rows:
        # Keys are plain, so that they can be hashed.
        if not isinstance(row, list) or len(row) != 2 or type(row[0]) not in _PLAIN:
            raise _no_tree(row)
        table[row[0]] = decode_tree(row[1], tensors)
    return table


def _no_tree(tree: Tree) -> SpecError:
    return SpecError("bad-value", f"{str(tree)[:80]!r} stands for no value; save it again")
