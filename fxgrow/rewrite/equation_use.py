"""Products of an activation and one parameter that an equation describes, whatever its shape.

``torch.einsum``, batched products and products with vectors: the parameter has one axis that
writes, one that reads, or both; its other axes are left as they are.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from fxgrow.coupling import Coupling
from fxgrow.equations import (
    Equation,
    Letters,
    einsum_arguments,
    parse_equation,
    repeated,
    tensordot_equation,
)
from fxgrow.rewrite.linear_op import LinearForm, LinearOp
from fxgrow.rewrite.linear_use import LinearUse, attribute_at

aten = torch.ops.aten

_EINSUMS = (torch.einsum, aten.einsum.default)

_TENSORDOTS = (torch.tensordot, aten.tensordot.default)

_PRODUCTS: tuple[Any, ...] = (
    *(operator.matmul, torch.matmul, torch.bmm, torch.mm, torch.mv, torch.dot),
    *("matmul", "__matmul__", "bmm", "mm", "mv", "dot"),
    *(aten.matmul.default, aten.bmm.default, aten.mm.default, aten.mv.default, aten.dot.default),
)
"""Products by the rules of ``torch.matmul``, which the narrower ones follow too."""


EquationOfRanks = Callable[[int, int], Equation]
"""The equation of a product of operands with these numbers of dimensions."""


class _Sides(NamedTuple):
    """The two operands of a product; which is the parameter, by position; and the equation."""

    nodes: tuple[fx.Node, fx.Node]
    weight: int
    equation: Equation


def match_equation(
    root: nn.Module, node: fx.Node, names: Mapping[int, str], coupling: Coupling
) -> LinearUse | None:
    """The node as a product of an activation and a parameter, by its equation.

    Args:
        root: the module that the node's graph belongs to.
        node: any node.
        names: ``names[id(tensor)]`` is the name of a parameter.
        coupling: the neurons of the graph, and the shapes of its values.

    Returns:
        The product, or None if the node is none, or one of two activations or two parameters.
    """
    sides = _sides(root, node, coupling)
    if sides is None:
        return None
    weight_node, input_node = sides.nodes[sides.weight], sides.nodes[1 - sides.weight]
    name = names.get(id(attribute_at(root, str(weight_node.target))))
    if name is None:
        return None
    weight = sides.equation.operands[sides.weight]
    other = sides.equation.operands[1 - sides.weight]
    output = sides.equation.output
    # A letter of the weight is summed over (a column), or left in the output (a row).
    read = [letter for letter in weight if letter in other and letter not in output]
    written = [letter for letter in weight if letter in output and letter not in other]
    row = _axis_that_grows(name, weight, written, coupling)
    column = _axis_that_grows(name, weight, read, coupling)
    text = _oriented(Equation((other, weight), output), row, column)
    settings = (text, row is not None, column is not None)
    row_dim = None if row is None else output.index(weight[row])
    form = LinearForm(_apply, settings, row_dim=row_dim)
    return LinearUse(LinearOp(name, None, form, row, column), input_node, frozenset((weight_node,)))


def _sides(root: nn.Module, node: fx.Node, coupling: Coupling) -> _Sides | None:
    """The operands of a node and its equation; None if it is no product with one parameter."""
    operands, equation_of = _operands(node)
    if len(operands) != 2 or not all(isinstance(operand, fx.Node) for operand in operands):
        return None
    # Which of the two is the parameter is what tells the candidates' side.
    left, right = operands
    is_weight = [operand.op == "get_attr" for operand in (left, right)]
    ranks = [_rank(root, operand, coupling) for operand in (left, right)]
    if sum(is_weight) != 1 or None in ranks:
        return None
    equation = equation_of(int(ranks[0] or 0), int(ranks[1] or 0))
    for number, letters in enumerate(equation.operands):
        elsewhere = {*equation.operands[1 - number], *equation.output}
        if any(repeated(letters)) or not elsewhere.issuperset(letters):
            return None  # a diagonal, or a sum of its own
    return _Sides((left, right), is_weight.index(True), equation)


def _operands(node: fx.Node) -> tuple[Sequence[Any], EquationOfRanks]:
    """The operands of a product, and its equation for operands of given ranks."""
    nothing = ((), _matmul_equation)
    if node.op not in ("call_function", "call_method"):
        return nothing
    if node.target in _EINSUMS:
        found = einsum_arguments(node.args)
        if found is None:
            return nothing
        text, operands = found
        return operands, lambda left, right: parse_equation(text, (left, right))
    if node.target in _TENSORDOTS:
        left, right, *dims = (*node.args, *node.kwargs.values())
        return (left, right), lambda one, other: tensordot_equation(one, other, *dims)
    if node.target in _PRODUCTS and not node.kwargs:
        return node.args, _matmul_equation
    return nothing


def _rank(root: nn.Module, node: fx.Node, coupling: Coupling) -> int | None:
    if node.op == "get_attr":
        value = attribute_at(root, str(node.target))
        return value.dim() if isinstance(value, Tensor) else None
    shape = coupling.shapes.get(node.name)
    return None if shape is None else len(shape.size)


def _matmul_equation(left: int, right: int) -> Equation:
    """What ``torch.matmul`` does with tensors of these ranks."""
    batch = max(left, right) - 2
    lead = [f"...{number}" for number in reversed(range(max(batch, 0)))]
    left_lead = lead[len(lead) - max(left - 2, 0) :]
    right_lead = lead[len(lead) - max(right - 2, 0) :]
    rows = ["m"] if left > 1 else []
    columns = ["n"] if right > 1 else []
    operands = ((*left_lead, *rows, "k"), (*right_lead, "k", *columns))
    return Equation(operands, (*lead, *rows, *columns))


def _axis_that_grows(
    name: str, letters: Letters, wanted: Sequence[str], coupling: Coupling
) -> int | None:
    """Of the axes of a parameter with these letters one that can grow, if there is one."""
    chosen = None
    for axis, letter in enumerate(letters):
        if letter not in wanted:
            continue
        widths = coupling.widths_along(name, axis)
        if chosen is None or any(coupling.widths[number].growable for number in widths):
            chosen = axis
    return chosen


def _oriented(equation: Equation, row: int | None, column: int | None) -> str:
    """The equation with the weight's letters as ``LinearOp.oriented`` puts its axes."""
    letters = equation.operands[1]
    first = [axis for axis in (row, column) if axis is not None]
    order = first + [axis for axis in range(len(letters)) if axis not in first]
    weight = tuple(letters[axis] for axis in order)
    return Equation((equation.operands[0], weight), equation.output).text()


def _apply(
    x: Tensor, weight: Tensor, _: Tensor | None, text: str, has_row: bool, has_column: bool
) -> Tensor:
    """A product by its equation; an axis that the parameter lacks is taken out of the weight."""
    if not has_column:
        weight = weight.squeeze(1)
    return torch.einsum(text, x, weight if has_row else weight.squeeze(0))
