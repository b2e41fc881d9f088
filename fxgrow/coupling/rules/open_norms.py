"""The rules of a run with open norms, tried before the ordinary ones.

A layer norm is one operator. A root mean square norm, torch's own included, is a chain of them: its
tensors are followed by what they hold (``Moment``) until an activation is divided by its root. A
global response norm is one, too: it ends where an activation is multiplied by what its spread is
relative to the mean of all.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import axis_field, field_support, flat_labels
from fxgrow.coupling.labels import Ints
from fxgrow.coupling.open_norms import Moment, Norm, NormKind, Reading, Scaling, Statistic
from fxgrow.coupling.rules.elementwise import broadcast
from fxgrow.coupling.values import Axis

_STATISTIC = "_fxgrow_statistic"
"""The attribute of a tensor that holds its ``Statistic``."""

_OFFSET = "_fxgrow_offset"
"""The attribute of a parameter plus a number that holds the number."""

_UNEXPLAINED = "a statistic of it is used otherwise than to normalize it"
_BETWEEN = "a layer that works on each neuron by itself lies between its writers and its norms"

OpenRule = Callable[[Context, Sequence[Any], Any], bool]
"""Follows an operator; says whether that was all, so that no ordinary rule is needed."""


def follow(ctx: Context, func: Any, args: Sequence[Any], out: Any) -> bool:
    """Follow one operator of a run with open norms.

    Args:
        ctx: the context of the run.
        func: the operator.
        args: its positional arguments.
        out: its result.

    Returns:
        Whether everything is recorded; if not, the ordinary rule is to see it too.
    """
    name = func._schema.name.removeprefix("aten::").rstrip("_")
    rule = _RULES.get(name)
    if rule is not None and rule(ctx, args, out):
        return True
    # A square by itself is an activation; a mean of squares is not, it must end in a norm.
    for operand in tree_leaves(args):
        statistic = _statistic_of_a_norm(operand)
        if statistic is not None:
            for labels in statistic.labels.values():
                ctx.pin(labels, "reduced", _UNEXPLAINED)
    return False


def record_readings(ctx: Context, axes: Sequence[Axis], contracted: Sequence[Tensor]) -> None:
    """Record that a weight sums over neurons, instead of making its axis one with them.

    Args:
        ctx: the context of the run.
        axes: all axes of the weight.
        contracted: the fields of both sides along what is summed over.
    """
    if ctx.open_norms is None:
        return
    fields = [flat_labels(labels) for labels in contracted]
    for axis in axes:
        is_own = [bool(np.isin(labels, axis.labels).any()) for labels in fields]
        if any(is_own):
            for labels, own in zip(fields, is_own, strict=True):
                if not own:
                    ctx.open_norms.readings.append(Reading(axis.key, labels))


def _statistic(x: Any) -> Statistic | None:
    return getattr(x, _STATISTIC, None) if isinstance(x, Tensor) else None


def _statistic_of_a_norm(x: Any) -> Statistic | None:
    """What a tensor holds that is no activation any more."""
    statistic = _statistic(x)
    return None if statistic is None or statistic.moment in _MEAN_OF else statistic


def _mark(out: Tensor, moment: Moment, of: Statistic) -> None:
    setattr(out, _STATISTIC, of._replace(moment=moment))


def _along(ctx: Context, x: Any) -> dict[int, Ints]:
    """An activation's labels by the dimension along which they lie alone; those of grids do not."""
    if not isinstance(x, Tensor) or ctx.value(x).axes:
        return {}
    fields = ctx.fields(x)
    along = {}
    for support, labels in fields.items():
        is_alone = [other for other in fields if support[0] in other] == [support]
        if len(support) == 1 and is_alone:
            along[support[0] - x.dim()] = flat_labels(labels)
    return along


def _square(ctx: Context, args: Sequence[Any], out: Any) -> bool:
    along = _along(ctx, args[0])
    if along:
        _mark(out, Moment.SQUARE, Statistic(Moment.SQUARE, along))
    return False  # the squares are an activation as well


def _power(ctx: Context, args: Sequence[Any], out: Any) -> bool:
    x, exponent = args[:2]
    if not isinstance(exponent, int | float):  # an exponent for every element
        return False
    # x^2 begins a norm, (mean + eps)^(+-1/2) goes on with one.
    if exponent == 2:
        return _square(ctx, args, out)
    statistic, moment = _statistic(x), _POWERS.get(exponent)
    if statistic is None or statistic.moment is not Moment.MEAN_SQUARE or moment is None:
        return False
    _mark(out, moment, statistic)
    return True


_POWERS = {0.5: Moment.ROOT, -0.5: Moment.INVERSE_ROOT}


def _mean(_: Context, args: Sequence[Any], out: Any) -> bool:
    """The mean of squares or, in a global response norm, of the spread of each neuron."""
    x = args[0]
    statistic = _statistic(x)
    if statistic is None or statistic.moment not in _MEAN_OF or len(args) < 2:
        return False
    moment, along = _MEAN_OF[statistic.moment], statistic.labels
    dims = [args[1]] if isinstance(args[1], int) else list(args[1] or ())
    rank = x.dim()
    summed = [dim % rank - rank for dim in dims]
    if len(summed) != 1 or summed[0] not in along or out.dim() != rank:
        return False
    # From here on only this dimension matters: the mean is over it.
    _mark(out, moment, Statistic(moment, {summed[0]: along[summed[0]]}))
    return True


_MEAN_OF = {Moment.SQUARE: Moment.MEAN_SQUARE, Moment.SPREAD: Moment.MEAN_SPREAD}


def _vector_norm(ctx: Context, args: Sequence[Any], out: Any) -> bool:
    """``linalg_vector_norm(x, ord, dims, keepdim)``: 0 where a neuron is, and with a slope there.

    The square root of a sum of squares has none there.
    """
    x, dims = args[0], args[2] if len(args) > 2 else None
    listed = [dims] if isinstance(dims, int) else list(dims or range(x.dim()))
    reduced = {dim % x.dim() - x.dim() for dim in listed}
    left = {dim: labels for dim, labels in _along(ctx, x).items() if dim not in reduced}
    if left and out.dim() == x.dim():
        _mark(out, Moment.SPREAD, Statistic(Moment.SPREAD, left))
    return False  # it is an activation as well


def _becomes(before: Moment, after: Moment) -> OpenRule:
    def rule(_: Context, args: Sequence[Any], out: Any) -> bool:
        statistic = _statistic(args[0])
        if statistic is None or statistic.moment is not before:
            return False
        _mark(out, after, statistic)
        return True

    return rule


def _same(_: Context, args: Sequence[Any], out: Any) -> bool:
    """The elements stay what they are."""
    offset, statistic = getattr(args[0], _OFFSET, None), _statistic(args[0])
    if offset is not None:
        setattr(out, _OFFSET, offset)
    if statistic is None:
        return False
    _mark(out, statistic.moment, statistic)
    return statistic.moment not in _MEAN_OF


def _add(ctx: Context, args: Sequence[Any], out: Any) -> bool:
    """A number added to the mean of squares, the norm's eps, or to a parameter (``1 + gamma``)."""
    for one, other in (args[:2], args[1::-1]):
        if isinstance(one, Tensor) and ctx.value(one).axes and isinstance(other, int | float):
            setattr(out, _OFFSET, getattr(one, _OFFSET, 0.0) + other)
            return False
        statistic = _statistic(one)
        is_number = not isinstance(other, Tensor) or other.numel() == 1
        if statistic is not None and statistic.moment in _MEAN_OF.values() and is_number:
            is_known = statistic.eps == 0 and isinstance(other, int | float)
            eps = float(other) if is_known else None
            _mark(out, statistic.moment, statistic._replace(eps=eps))
            return True
    return False


def _mul(ctx: Context, args: Sequence[Any], out: Any) -> bool:
    if args[0] is args[1]:
        return _square(ctx, args, out)
    for x, factor in (args[:2], args[1::-1]):
        for moment, kind in _ENDS.items():
            dim = _normalized_dim(ctx, x, factor, moment)
            if dim is not None:
                _open(ctx, x, dim, kind, out, factor)
                return True
        if _scale(ctx, x, factor, out):
            return True
    return False


_ENDS = {
    Moment.INVERSE_ROOT: NormKind.ROOT_MEAN_SQUARE,
    Moment.RELATIVE_SPREAD: NormKind.RESPONSE,
}
"""What an activation is multiplied by at the end of a norm."""


def _div(ctx: Context, args: Sequence[Any], out: Any) -> bool:
    x, factor = args[:2]
    dim = _normalized_dim(ctx, x, factor, Moment.ROOT)
    if dim is not None:
        _open(ctx, x, dim, NormKind.ROOT_MEAN_SQUARE, out, factor)
        return True
    statistic = _statistic(factor)
    if statistic is None or _normalized_dim(ctx, x, factor, Moment.MEAN_SPREAD) is None:
        return False
    ctx.set_fields(out, ctx.fields(x).values())
    _mark(out, Moment.RELATIVE_SPREAD, statistic)
    return True


def _addcmul(ctx: Context, args: Sequence[Any], out: Any) -> bool:
    """``addcmul(added, one, other)``: a shift and a gain at once."""
    added, one, other = args[:3]
    if _statistic_of_a_norm(added) is not None:
        return False
    for x, factor in ((one, other), (other, one)):
        if _scale(ctx, x, factor, out):
            behind = ctx.fields(out)
            for support, labels in broadcast(ctx, added, out).items():
                if support in behind:
                    ctx.unite(behind[support], labels)
            return True
    return False


def _normalized_dim(ctx: Context, x: Any, factor: Any, moment: Moment) -> int | None:
    """The dimension along which an activation is normalized by this factor, if it is."""
    statistic, along = _statistic(factor), _along(ctx, x)
    if statistic is None or statistic.moment is not moment:
        return None
    for dim, labels in statistic.labels.items():
        # The root must be that of the same neurons, not of a sum with something else.
        if dim in along and np.array_equal(labels, along[dim]):
            return dim
    return None


def _open(
    ctx: Context, x: Tensor, dim: int, kind: NormKind, out: Tensor, factor: Any = None
) -> None:
    """What a norm gives has labels of its own; ``factor``: what ``x`` is multiplied by, if seen."""
    before = _along(ctx, x)[dim]
    # New labels, else what reads behind the norm could not be told from what reads before it.
    inside = _relabel(ctx, x, dim, out)
    if ctx.open_norms is not None:
        statistic = _statistic(factor)
        eps = 0.0 if statistic is None else statistic.eps
        norm = Norm(before, inside, kind, ctx.modules[-1], ctx.graph_node, eps)
        ctx.open_norms.norms.append(norm)


def _relabel(ctx: Context, x: Tensor, dim: int, out: Tensor) -> Ints:
    """Give the result new labels along one dimension; along the others it has those of ``x``."""
    fields = []
    for support, labels in ctx.fields(x).items():
        if support != (x.dim() + dim,):
            fields.append(labels)
    new = ctx.labels.new(x.shape[dim])
    ctx.set_fields(out, [*fields, axis_field(new, out.dim() + dim, out.shape)])
    return new


def _scale(ctx: Context, x: Any, factor: Any, out: Tensor) -> bool:
    """A product with a parameter; what it gives has labels of its own."""
    along = _along(ctx, x)
    # What a value is made of is known while it is made of parameters only.
    axes = ctx.value(factor).axes if isinstance(factor, Tensor) else ()
    if ctx.open_norms is None or not along or not axes or x.shape != out.shape:
        return False
    if _statistic_of_a_norm(x) is not None:
        return False
    of_factor = broadcast(ctx, factor, out)
    # Counted from the last dimension, as dimensions are when operands are broadcast.
    dims = [support[0] - out.dim() for support in of_factor if len(support) == 1]
    # A gain of shape [1, 1, 1, d] has four axes, of which one lies along neurons.
    dims = [dim for dim in dims if dim in along]
    if len(dims) != 1:
        return False
    (dim,) = dims
    behind = _relabel(ctx, x, dim, out)
    # The factor may be made of several parameters; those along this dimension scale.
    own = flat_labels(of_factor[out.dim() + dim,])
    for axis in axes:
        if np.isin(axis.labels, own).any():
            offset = getattr(factor, _OFFSET, 0.0 if axis.scales else None)
            scaling = Scaling(along[dim], behind, axis.key, offset)
            ctx.open_norms.scalings.append(scaling)
    return True


def _layer_norm(ctx: Context, args: Sequence[Any], out: Any) -> bool:
    """``native_layer_norm(x, normalized_shape, weight, bias, eps)``."""
    x, shape, weight, bias = args[:4]
    if len(shape) != 1 or -1 not in _along(ctx, x):
        return False
    result = out[0]
    _open(ctx, x, -1, NormKind.LAYER, result)
    if isinstance(weight, Tensor):
        _scale(ctx, result, weight, result)
    # The shift is added behind the gain, where it is one of the neurons.
    if isinstance(bias, Tensor):
        along = (result.dim() - 1,)
        of_bias = broadcast(ctx, bias, result).get(along)
        if of_bias is not None:
            ctx.unite(ctx.fields(result)[along], of_bias)
    return True


def _by_neuron(ctx: Context, args: Sequence[Any], out: Any) -> bool:
    """Batch norms and depthwise convolutions: each neuron has its own statistics or kernel."""
    x = args[0]
    # The number of groups is the last argument of a convolution.
    is_grouped = len(args) > 8 and isinstance(args[8], int) and args[8] > 1
    is_batch_norm = isinstance(out, (tuple, list))
    if is_grouped or is_batch_norm:
        for labels in ctx.fields(x).values():
            if 1 in field_support(labels):
                ctx.pin(labels, "normalised", _BETWEEN)
    return False


_RULES: dict[str, OpenRule] = {
    "pow": _power,
    "square": _square,
    "mean": _mean,
    "sqrt": _becomes(Moment.MEAN_SQUARE, Moment.ROOT),
    "rsqrt": _becomes(Moment.MEAN_SQUARE, Moment.INVERSE_ROOT),
    "reciprocal": _becomes(Moment.ROOT, Moment.INVERSE_ROOT),
    "_to_copy": _same,
    "clone": _same,
    "detach": _same,
    "alias": _same,
    "add": _add,
    "mul": _mul,
    "div": _div,
    "linalg_vector_norm": _vector_norm,
    "addcmul": _addcmul,
    "native_layer_norm": _layer_norm,
    "native_batch_norm": _by_neuron,
    "convolution": _by_neuron,
}
