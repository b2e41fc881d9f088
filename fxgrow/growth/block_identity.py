"""Which parameters of a residual block make it the identity when they are zero?

Reference: Wu et al., "LLaMA Pro: Progressive LLaMA with Block Expansion", ACL 2024, section 3.2:
a copied block whose last projections are zero adds nothing to its stream, and learns at once, since
only those see no gradient through themselves. How we differ: no family is known by name. A block is
an expression of its inputs and parameters (``block_trace``). It is x if

    x + b  with  b = 0,      relu(x)  with  x >= 0,

and b is zero if the *last* thing that it is multiplied with is: W in W h, gamma in gamma * h or in
gamma * norm(h) + beta, and every term that is added after it (a bias, beta). So what lies before
keeps its values: a layer scale is zeroed and the projection before it is not. An equation that is
solved is "this expression has the constant value c", whose only c other than 0 comes from gains
that are written as 1 + gamma.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fxgrow.growth.block_trace import Applied, BlockInput, BlockTrace, Leaf

Assignments = dict[str, float]
"""The constant value that each of some parameters gets."""

_MOVE_NAMES = (
    "view _unsafe_view reshape permute transpose t expand squeeze unsqueeze clone contiguous"
    " _to_copy alias detach lift_fresh slice select index index_select gather roll flip split"
    " split_with_sizes unbind native_dropout"
)
_MOVES = frozenset(_MOVE_NAMES.split())
"""Operators whose values are values of their first argument."""
_KEEP_ZERO_NAMES = (
    "neg relu gelu silu tanh leaky_relu elu hardtanh hardswish mish abs sin div mean sum"
    " constant_pad_nd avg_pool2d _adaptive_avg_pool2d upsample_nearest2d upsample_bilinear2d"
)
_KEEP_ZERO = frozenset(_KEEP_ZERO_NAMES.split())
"""Operators that give 0 if their first argument is 0."""
_ZEROS = frozenset({"zeros", "zeros_like", "new_zeros"})
_FACTORS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("mul", "mm", "bmm", "matmul", "_grouped_mm"), (0, 1)),
    **dict.fromkeys(("convolution", "linear", "_weight_norm_interface"), (0, 1)),
    **dict.fromkeys(("addmm", "baddbmm", "addcmul", "addmv"), (1, 2)),
    **dict.fromkeys(("native_batch_norm", "cudnn_batch_norm", "native_group_norm"), (0, 1)),
    **dict.fromkeys(("_native_batch_norm_legit_no_training", "miopen_batch_norm"), (0, 1)),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm"), (0, 2)),
}
"""Operators that multiply two of their arguments, each element with a norm of the other, say."""
_TERMS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("add", "sub"), (0, 1)),
    **dict.fromkeys(("addmm", "baddbmm", "addcmul", "addmv"), (0,)),
    **dict.fromkeys(("convolution", "linear", "native_batch_norm", "cudnn_batch_norm"), (2,)),
    **dict.fromkeys(("native_group_norm", "miopen_batch_norm"), (2,)),
    "_native_batch_norm_legit_no_training": (2,),
    "native_layer_norm": (3,),
    "index_add": (0, 3),
    "scatter_add": (0, 3),
    "index_put": (0, 2),
    "where": (1, 2),
}
"""Operators that add up some of their arguments (beside a product), or take entries of each."""
_LISTS = frozenset({"cat", "stack"})


def identity_assignments(traces: Sequence[BlockTrace], names: Iterable[str]) -> Assignments | None:
    """The values of parameters under which a block gives back its input.

    Args:
        traces: every call of the block.
        names: of all its parameters. One that no example reaches (of an expert without tokens)
            gets the value of its siblings, whose names differ from its own in numbers only.

    Returns:
        The value of each parameter that has to have one; None if the block has no such form: its
        input is not a term of its output, or a branch does not end in a product with a parameter.
    """
    found: Assignments = {}
    reached: set[str] = set()
    for trace in traces:
        solved = None if trace.output is None else _as_input(trace.output)
        merged = None if solved is None else _merged(found, solved)
        if merged is None:
            return None
        found, reached = merged, reached | trace.reached
    # Experts without tokens are no part of any expression, and would write into the stream later.
    by_pattern = {_without_numbers(name): value for name, value in found.items()}
    for name in set(names) - reached:
        if _without_numbers(name) in by_pattern:
            found[name] = by_pattern[_without_numbers(name)]
    return found if traces else None


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _merged(one: Assignments | None, other: Assignments | None) -> Assignments | None:
    """Both together; None if one is None, or they contradict each other."""
    if one is None or other is None:
        return None
    contradict = any(one[name] != other[name] for name in one.keys() & other.keys())
    return None if contradict else {**one, **other}


def _as_input(expression: object) -> Assignments | None:
    """The values under which an expression is an input of the block."""
    if isinstance(expression, BlockInput):
        return {}
    if not isinstance(expression, Applied):
        return None
    # What comes out of a relu before this block is not below 0, so another one gives it back.
    if expression.operator in _MOVES or expression.operator == "relu":
        return _as_input(expression.arguments[0])
    terms = list(_terms(expression))
    # Of a difference only the first term can be the input.
    for term in terms[:1] if expression.operator == "sub" else terms:
        solved = _as_input(term)
        if solved is not None:
            others = [other for other in terms if other is not term]
            # Whatever else is added up there has to be nothing.
            branches = _merged(_all_zero(others), _product_as_zero(expression))
            return _merged(solved, branches)
    return None


def _as_constant(expression: object, value: float) -> Assignments | None:
    """The values under which an expression is the same number everywhere."""
    if _is_number(expression) and expression == value:
        return {}
    if isinstance(expression, Leaf) and expression.name:
        return {expression.name: value}
    if not isinstance(expression, Applied):
        return None
    first = expression.arguments[0] if expression.arguments else None
    if expression.operator in _MOVES:
        return _as_constant(first, value)
    # 1 + gamma = 0: the gain itself is what is left of the value.
    if expression.operator == "add" and _is_number(expression.arguments[1]):
        return _as_constant(first, value - expression.arguments[1])
    # A product or a nonlinear function is known to be constant only where it is zero.
    return None if value else _as_zero(expression)


def _as_zero(expression: Applied) -> Assignments | None:
    """The values under which the result of an operator that moves nothing is zero."""
    if expression.operator in _ZEROS:
        return {}
    if expression.operator in _KEEP_ZERO:
        return _as_constant(expression.arguments[0], 0.0)
    if expression.operator in _LISTS:
        return _all_zero(expression.arguments[0])
    if expression.operator not in _TERMS.keys() | _FACTORS.keys():
        return None
    return _merged(_all_zero(_terms(expression)), _product_as_zero(expression))


def _product_as_zero(expression: Applied) -> Assignments | None:
    """The values under which the product in a result, if there is one, is zero."""
    if expression.operator not in _FACTORS:
        return {}
    factors = [_argument(expression, position) for position in _FACTORS[expression.operator]]
    # A factor that is a parameter is the last thing that the other one is multiplied with.
    for factor in sorted(factors, key=_is_activation):
        solved = _as_constant(factor, 0.0)
        if solved is not None:
            # One factor is enough. With both at zero, neither had a gradient.
            return solved
    return None


def _terms(expression: Applied) -> Iterator[object]:
    """What a result is the sum of, beside a product; terms that are left out do not count."""
    for position in _TERMS.get(expression.operator, ()):
        term = _argument(expression, position)
        if term is not None:
            yield term


def _argument(expression: Applied, position: int) -> object:
    arguments = expression.arguments
    return arguments[position] if position < len(arguments) else None


def _all_zero(expressions: Iterable[object]) -> Assignments | None:
    found: Assignments | None = {}
    for expression in expressions:
        found = _merged(found, _as_constant(expression, 0.0))
    return found


def _is_activation(expression: object) -> bool:
    """Whether an expression depends on more than one parameter that is only moved or shifted."""
    while isinstance(expression, Applied):
        is_shift = expression.operator == "add" and _is_number(expression.arguments[1])
        if expression.operator not in _MOVES and not is_shift:
            return True
        expression = expression.arguments[0]
    return not isinstance(expression, Leaf) or not expression.name


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
