"""Genotypes in the literature's form: a named tuple of (operation, source) pairs, two per node.

    Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ...], normal_concat=range(2, 6),
             reduce=..., reduce_concat=...)

A text in that form is parsed and never evaluated.
"""

import ast
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from pydantic import ValidationError

from fxgrow.argument_checks import checked
from fxgrow.cells.genotype import GENOTYPE_VERSION, STATES, Cell, Genotype
from fxgrow.errors import SpecError
from fxgrow.spec import as_spec_error

PAIRS = 2
"""Edges of every node in this form."""
TEXT_LIMIT = 2**16  # characters; a genotype of the literature has about five hundred


class GenotypeTuples(NamedTuple):
    """A genotype in the literature's form.

    Args:
        normal: (operation, source) of every edge of the normal cell, two per node in order.
        normal_concat: the states that the normal cell concatenates.
        reduce: the same of the reduction cell.
        reduce_concat: the states that the reduction cell concatenates.

    Example:
        >>> to_tuples(GENOTYPES["DARTS_V2"]).normal[0]
        ('sep_conv_3x3', 0)
    """

    normal: Sequence[tuple[str, int]]
    normal_concat: Sequence[int]
    reduce: Sequence[tuple[str, int]]
    reduce_concat: Sequence[int]


@checked
def to_tuples(genotype: Genotype) -> GenotypeTuples:
    """Convert a genotype to the literature's form.

    Args:
        genotype: a genotype with two edges per node.

    Returns:
        The same genotype as tuples.

    Raises:
        SpecError: a node does not have two edges (``bad-value``).

    Example:
        >>> from_tuples(to_tuples(genotype)) == genotype
        True
    """
    return GenotypeTuples(
        normal=_pairs("normal", genotype.normal),
        normal_concat=list(genotype.normal.concat),
        reduce=_pairs("reduce", genotype.reduce),
        reduce_concat=list(genotype.reduce.concat),
    )


def _pairs(name: str, cell: Cell) -> list[tuple[str, int]]:
    pairs: list[tuple[str, int]] = []
    for number, edges in enumerate(cell.nodes):
        if len(edges) != PAIRS:
            raise SpecError(
                "bad-value",
                f"{len(edges)} edges cannot be written as pairs; keep it as JSON",
                f"{name}.nodes.{number}",
            )
        for edge in edges:
            pairs.append((edge.operation, edge.source))
    return pairs


def from_tuples(tuples: Any) -> Genotype:
    """Read a genotype from the literature's form.

    Args:
        tuples: a ``GenotypeTuples``, or any other object with its four fields.

    Returns:
        The genotype.

    Raises:
        SpecError: it is no genotype (``bad-value``); with the path of what is wrong.

    Example:
        >>> from_tuples(GenotypeTuples(pairs, [2, 3, 4, 5], pairs, [2, 3, 4, 5]))
    """
    try:
        # All four are read before one is looked at, as a field may be missing.
        normal, normal_concat = tuples.normal, tuples.normal_concat
        reduce, reduce_concat = tuples.reduce, tuples.reduce_concat
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
    # This form does not name the nodes: each takes the next two edges.
    if len(edges) % PAIRS:
        raise ValueError(f"{len(edges)} edges are not two for every node")
    nodes = []
    for start in range(0, len(edges), PAIRS):
        nodes.append(tuple(edges[start : start + PAIRS]))
    # One state too many is enough to be refused, however long a range is given.
    return {"nodes": tuple(nodes), "concat": tuple(islice(concat, STATES + 1))}


@checked
def to_text(genotype: Genotype) -> str:
    """Write a genotype in the literature's form, as one line of Python.

    Args:
        genotype: a genotype with two edges per node.

    Returns:
        The line.

    Raises:
        SpecError: a node does not have two edges (``bad-value``).

    Example:
        >>> from_text(to_text(genotype)) == genotype
        True
    """
    fields = []
    for name, value in to_tuples(genotype)._asdict().items():
        fields.append(f"{name}={value!r}")
    return f"Genotype({', '.join(fields)})"


@checked
def from_text(text: str) -> Genotype:
    """Read a genotype from a line of Python, as published code and searches print it.

    The text is parsed and never evaluated.

    Args:
        text: a call with four lists; a list may be a ``range``.

    Returns:
        The genotype.

    Raises:
        SpecError: it is no genotype (``bad-value``), or too long (``too-large``).

    Example:
        >>> from_text("Genotype(normal=[...], normal_concat=range(2, 6), reduce=[...], ...)")
    """
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
    # Deep brackets exhaust the parser's stack or memory.
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
    """A literal list, or ``range(a, b)``, which searches print for the concatenated states."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        # ``range`` itself refuses arguments that are no integers.
        return range(*map(ast.literal_eval, node.args))
    value = ast.literal_eval(node)
    if not isinstance(value, list | tuple):
        raise ValueError(f"a {type(value).__name__} is no list")
    return value
