"""Recurrent layers: of all the steps of a sequence two are observed.

Torch takes ``lstm`` and its relatives apart into the products and gates of every step, and all
steps do the same to neurons. So two steps are run and observed: the second one starts from the
state that the first one left, which ties the state's neurons to the columns that read them. A
layer has one hidden size: its state stacks those of all its layers and directions.

A state that the model starts from with equal numbers (zeros) has the layer's own neurons in it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import axis_field
from fxgrow.coupling.values import Value, placed_fields

Composite = Callable[[Any, Context | None, tuple[Any, ...]], Any]
"""``composite(function, context, args)`` stands for ``function(*args)``.

The context is None in a run of which only shapes are of interest.
"""

_functions: Any = torch._C._VariableFunctions

_OVER_TIME = "a recurrent layer runs over it as over time"
_PACKED = "sequences are packed along it"


class _Sequences(NamedTuple):
    """What a recurrent layer runs over.

    Args:
        first: the first step, ``[1, batch, channels]``.
        shape: the sizes of the result but for its channels.
        dims: where the dimensions of one step lie in the result (None: they do not).
        batch_first: whether the result is the transpose of one whose steps come first.
    """

    first: Tensor
    shape: tuple[int, ...]
    dims: tuple[int | None, ...]
    batch_first: bool = False


def layer(function: Any, ctx: Context | None, args: tuple[Any, ...]) -> Any:
    """``lstm``, ``gru``, ``rnn_tanh``, ``rnn_relu`` of padded or of packed sequences.

    Padded: ``(x, state, weights, biases, layers, dropout, training, bidirectional, batch_first)``.
    Packed: ``(x, batch_sizes, state, weights, biases, layers, dropout, training, bidirectional)``,
    where ``x`` has the rows of all steps, one step after the other.
    """
    if isinstance(args[3], (list, tuple)):
        sequences = _packed(ctx, args[0], args[1])
        state, weights, has_biases, layers, _, _, bidirectional = args[2:]
    else:
        sequences = _padded(ctx, args[0], batch_first=args[8])
        state, weights, has_biases, layers, _, _, bidirectional = args[1:8]
    settings = (weights, has_biases, layers, 0.0, False, bidirectional, False)

    def step(start: Any) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = function(sequences.first, start, *settings)
        return result

    out, *after = step(_labeled_state(ctx, state))
    out, *after = step(after if isinstance(state, (list, tuple)) else after[0])
    shape = (*sequences.shape, out.shape[-1])
    whole = _like(ctx, out, sequences.dims, shape, sequences.batch_first)
    return _with_numbers(function, ctx, args, (whole, *after))


def cell(function: Any, ctx: Context | None, args: tuple[Any, ...]) -> Any:
    """``lstm_cell``, ``gru_cell`` ...: ``(x, state, weights ...)``, one step."""
    x, state, *weights = args
    start = _labeled_state(ctx, state)
    result = function(x, start, *weights)
    # What starts from zeros never meets the columns that would read the state it leaves.
    if start is not state:
        function(x, result, *weights)
    return _with_numbers(function, ctx, args, result)


def pack(function: Any, ctx: Context | None, args: tuple[Any, ...]) -> Any:
    """``_pack_padded_sequence(x, lengths, batch_first)``: the rows that are not padding."""
    x, lengths, batch_first = args
    # Torch itself counts the rows, of one channel.
    with _disable_current_modes():
        one = torch.zeros(*x.shape[:2], 1)
        rows, batch_sizes = _functions._pack_padded_sequence(one, _known(ctx, lengths), batch_first)
    _pin_dims(ctx, x, (0, 1), _PACKED)
    dims = (None, None, *range(1, x.dim() - 1))
    result = _like(ctx, x, dims, (rows.shape[0], *x.shape[2:])), batch_sizes
    return _with_numbers(function, ctx, args, result)


def unpack(function: Any, ctx: Context | None, args: tuple[Any, ...]) -> Any:
    """``_pad_packed_sequence(x, batch_sizes, batch_first, value, length)``: the inverse."""
    x, batch_sizes, *settings = args
    batch_first = settings[0]
    with _disable_current_modes():
        rows = torch.zeros(x.shape[0], 1)
        one, lengths = _functions._pad_packed_sequence(rows, _known(ctx, batch_sizes), *settings)
    _pin_dims(ctx, x, (0,), _PACKED)
    dims = (None, *range(2, x.dim() + 1))
    result = _like(ctx, x, dims, (*one.shape[:2], *x.shape[1:]), batch_first), lengths
    return _with_numbers(function, ctx, args, result)


def _padded(ctx: Context | None, x: Tensor, batch_first: bool) -> _Sequences:
    time = int(batch_first)
    _pin_dims(ctx, x, (time,), _OVER_TIME)
    first = x.narrow(time, 0, 1).transpose(0, time)
    return _Sequences(first, tuple(x.shape[:2]), (None, 1 - time, 2), batch_first)


def _packed(ctx: Context | None, x: Tensor, batch_sizes: Tensor) -> _Sequences:
    _pin_dims(ctx, x, (0,), _PACKED)
    first = x.narrow(0, 0, int(batch_sizes[0])).unsqueeze(0)
    return _Sequences(first, (x.shape[0],), (None, None, 1))


def _pin_dims(ctx: Context | None, x: Tensor, dims: Sequence[int], reason: str) -> None:
    """Refuse the neurons along some dimensions."""
    if ctx is None:
        return
    for support, labels in ctx.fields(x).items():
        if not set(support).isdisjoint(dims):
            with _disable_current_modes():
                ctx.pin(labels, "space", reason)


def _labeled_state(ctx: Context | None, state: Any) -> Any:
    """The state that a layer starts from, with new neurons where it is the same everywhere."""
    parts = list(state) if isinstance(state, (list, tuple)) else [state]
    if ctx is None or not any(ctx.is_uniform(part, range(part.dim())) for part in parts):
        return state
    labeled = [
        _labeled(ctx, part) if ctx.is_uniform(part, range(part.dim())) else part for part in parts
    ]
    return labeled if isinstance(state, (list, tuple)) else labeled[0]


def _labeled(ctx: Context, state: Tensor) -> Tensor:
    """A state in whose last dimension new neurons lie."""
    last = state.dim() - 1
    # Label fields are tensors too: what is done with them is not to be observed.
    with _disable_current_modes():
        labeled = torch.empty_like(state, device="meta")
        labels = ctx.labels.new(state.shape[last])
        ctx.set_fields(labeled, [axis_field(labels, last, state.shape)])
    return labeled


def _like(
    ctx: Context | None,
    x: Tensor,
    dims: Sequence[int | None],
    shape: Sequence[int],
    batch_first: bool = False,
) -> Tensor:
    """A tensor of the run that has the neurons of ``x``, whose dimensions lie at ``dims`` in it.

    With ``batch_first`` it has the strides of what torch transposes after the steps.
    """
    with _disable_current_modes():
        like = torch.empty(tuple(shape), dtype=x.dtype, device="meta")
        if batch_first:
            like = like.transpose(0, 1).contiguous().transpose(0, 1)
        if ctx is not None:
            ctx.set_fields(like, placed_fields(ctx.fields(x), dims, like.shape))
    return like


def _known(ctx: Context | None, tensor: Tensor) -> Tensor:
    """The numbers of a tensor, if they are known; else the tensor."""
    real = ctx.value(tensor).real if ctx is not None and tensor.is_meta else None
    return tensor if real is None else real


def _with_numbers(function: Any, ctx: Context | None, args: tuple[Any, ...], result: Any) -> Any:
    """The result, with its numbers where a run is to know those of all values."""
    if ctx is None or not ctx.numbers:
        return result
    known = tree_map(lambda arg: _known(ctx, arg) if isinstance(arg, Tensor) else arg, args)
    if any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in tree_leaves(known)):
        return result
    with _disable_current_modes():
        numbers = function(*known)
    for bare, real in zip(tree_leaves(result), tree_leaves(numbers), strict=True):
        if not bare.is_meta:
            continue  # lengths, which always are numbers
        value = ctx.value(bare)
        ctx.set_value(bare, Value(value.fields, value.axes, real))
    return result


def _table() -> dict[Any, Composite]:
    """The functions, and the operators of exported graphs that are the same."""
    aten = torch.ops.aten
    table: dict[Any, Composite] = {_functions._pack_padded_sequence: pack}
    table[_functions._pad_packed_sequence] = unpack
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        table[getattr(_functions, name)] = layer
        table[getattr(_functions, f"{name}_cell")] = cell
        for overload in ("input", "data"):
            table[getattr(getattr(aten, name), overload)] = layer
        table[getattr(aten, f"{name}_cell").default] = cell
    return table


COMPOSITES = _table()
"""What stands for a function that torch takes apart before an observer could see it."""
