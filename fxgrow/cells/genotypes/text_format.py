"""Genotypes as the literature writes them: a named tuple of (operation, source) pairs, two for every node in order.

    Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=..., ...)

A text in that form is parsed and never evaluated.
"""

import ast
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from pydantic import ValidationError

from fxgrow.cells.genotype import GENOTYPE_VERSION, STATES, Cell, Genotype
from fxgrow.errors import SpecError
from fxgrow.spec import as_spec_error

PAIRS = 2
"""Edges of every node in this form."""
TEXT_LIMIT = 2**16


class GenotypeTuples(NamedTuple):
    """A genotype in the literature's form."""

    normal: Sequence[tuple[str, int]]
    normal_concat: Sequence[int]
    reduce: Sequence[tuple[str, int]]
    reduce_concat: Sequence[int]


def to_tuples(genotype: Genotype) -> GenotypeTuples:
    """The literature's form. Raises ``SpecError`` (``bad-value``) if a node does not have two edges."""
    normal, reduce = (
        _pairs(name, cell)
        for name, cell in (("normal", genotype.normal), ("reduce", genotype.reduce))
    )
    return GenotypeTuples(
        normal, list(genotype.normal.concat), reduce, list(genotype.reduce.concat)
    )


def _pairs(name: str, cell: Cell) -> list[tuple[str, int]]:
    for number, edges in enumerate(cell.nodes):
        if len(edges) != PAIRS:
            raise SpecError(
                "bad-value",
                f"{len(edges)} edges cannot be written as pairs; keep it as JSON",
                f"{name}.nodes.{number}",
            )
    return [(edge.operation, edge.source) for edges in cell.nodes for edge in edges]


def from_tuples(tuples: Any) -> Genotype:
    """The genotype of a ``Tuples`` or any named tuple like it. Raises ``SpecError`` (``bad-value``) with the place."""
    try:
        normal, normal_concat, reduce, reduce_concat = (
            getattr(tuples, name) for name in GenotypeTuples._fields
        )
        cells = {"normal": _cell(normal, normal_concat), "reduce": _cell(reduce, reduce_concat)}
        return Genotype.model_validate({"schema_version": GENOTYPE_VERSION, **cells})
    except ValidationError as error:
        raise as_spec_error(error, "genotype") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise SpecError(
            "bad-value", f"it is no genotype of pairs ({error}); write (operation, source)"
        ) from error


def _cell(pairs: Iterable[tuple[str, int]], concat: Iterable[int]) -> dict[str, Any]:
    edges = [{"operation": operation, "source": source} for operation, source in pairs]
    if len(edges) % PAIRS:
        raise ValueError(f"{len(edges)} edges are not two for every node")
    nodes = tuple(tuple(edges[start : start + PAIRS]) for start in range(0, len(edges), PAIRS))
    return {"nodes": nodes, "concat": tuple(islice(concat, STATES + 1))}


def to_text(genotype: Genotype) -> str:
    """The literature's form as one line of Python."""
    return f"Genotype({', '.join(f'{name}={value!r}' for name, value in to_tuples(genotype)._asdict().items())})"


def from_text(text: str) -> Genotype:
    """The genotype in a text such as a search prints. Raises ``SpecError`` (``bad-value``, ``too-large``)."""
    if len(text) > TEXT_LIMIT:
        raise SpecError(
            "too-large",
            f"it has {len(text)} characters, over the limit of {TEXT_LIMIT}; shorten it",
        )
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError("it is no call")
        tuples = GenotypeTuples(*map(_value, call.args), **dict(_keywords(call)))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise SpecError(
            "bad-value",
            f"it is no genotype ({error}); write Genotype(normal=[...], normal_concat=[...], ...)",
        ) from error
    return from_tuples(tuples)


def _keywords(call: ast.Call) -> Iterator[tuple[str, Any]]:
    for keyword in call.keywords:
        if keyword.arg is None:
            raise ValueError("** cannot be read")
        yield keyword.arg, _value(keyword.value)


def _value(node: ast.expr) -> Any:
    """A literal list, or ``range(a, b)``, which searches print for the output."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        return range(*map(ast.literal_eval, node.args))
    value = ast.literal_eval(node)
    if not isinstance(value, list | tuple):
        raise ValueError(f"a {type(value).__name__} is no list")
    return value
