"""``torch.einsum`` as one operator, with a rule of its own.

Torch takes it apart into permutations, reshapes and batched products before an observer could see
it. The reshapes merge dimensions that stay apart in the equation, so neurons would be lost from
sight. Redirected to ``fxgrow::einsum``, the equation itself is what the rule reads.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fxgrow.coupling.context import Context
from fxgrow.coupling.rules.contraction import product
from fxgrow.coupling.values import placed_fields
from fxgrow.equations import (
    Letters,
    contraction_order,
    einsum_arguments,
    parse_equation,
    repeated,
    tensordot_equation,
)

_LIBRARY = torch.library.Library("fxgrow", "DEF")
_LIBRARY.define("einsum(str equation, Tensor[] operands) -> Tensor")
_LIBRARY.impl("einsum", torch.einsum, "CompositeExplicitAutograd")

_EINSUMS = (torch.einsum, torch.ops.aten.einsum.default)
_BILINEARS = (torch.bilinear, torch.ops.aten.bilinear.default)
_TENSORDOTS = (torch.tensordot, torch.ops.aten.tensordot.default)


class WholeEinsum(TorchFunctionMode):
    """Calls ``fxgrow::einsum`` for ``torch.einsum``, ``torch.tensordot`` and ``torch.bilinear``."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _EINSUMS:
            found = einsum_arguments(args)
            if found is not None:
                return torch.ops.fxgrow.einsum(*found)
        if func in _BILINEARS:
            return _bilinear(*args, **kwargs)
        if func in _TENSORDOTS and kwargs.pop("out", None) is None:
            given = [*args, *kwargs.values()]
            ranks = [operand.dim() for operand in given[:2]]
            equation = tensordot_equation(*ranks, *_as_numbers(given[2:]))
            return torch.ops.fxgrow.einsum(equation.text(), given[:2])
        return func(*args, **kwargs)


def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.bilinear``: y_o = sum_ij x1_i W_oij x2_j + b_o."""
    product: Tensor = torch.ops.fxgrow.einsum("...i,oij,...j->...o", [input1, weight, input2])
    return product if bias is None else product + bias


def _as_numbers(dims: Sequence[Any]) -> list[Any]:
    """Dimensions as Python numbers; ``tensordot`` takes tensors too."""
    return [one.tolist() if isinstance(one, Tensor) else one for one in dims]


class _Factor(NamedTuple):
    """A value whose dimensions have these letters, each once."""

    value: Tensor
    letters: Letters


def einsum(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``einsum(equation, operands)``: one product after the other.

    What is summed over in one operand alone is reduced, and what a diagonal is taken over is chosen
    by number.

    Args:
        ctx: the context of the run.
        args: the equation and the operands.
        out: the result.
    """
    operands = args[1]
    equation = parse_equation(args[0], tuple(operand.dim() for operand in operands))
    sizes = _sizes(equation.operands, operands)
    factors = []
    for number, (operand, letters) in enumerate(zip(operands, equation.operands, strict=True)):
        others = [*equation.operands[:number], *equation.operands[number + 1 :], equation.output]
        kept = {letter for other in others for letter in other}
        factors.append(_factor(ctx, _Factor(operand, letters), kept, sizes))
    is_weight = [bool(ctx.value(factor.value).axes) for factor in factors]
    terms = [factor.letters for factor in factors]
    for left, right, letters in contraction_order(terms, is_weight, equation.output):
        factors.append(_joined(ctx, factors[left], factors[right], letters, sizes))
    joined = factors[-1]
    mapping = [equation.output.index(letter) for letter in joined.letters]
    value = ctx.value(joined.value)
    ctx.set_fields(out, placed_fields(value.fields, mapping, out.shape), value.axes)


def _sizes(operands: Sequence[Letters], tensors: Sequence[Tensor]) -> dict[str, int]:
    """The size of every letter; one operand may have size 1 where another one has more."""
    sizes: dict[str, int] = {}
    for letters, tensor in zip(operands, tensors, strict=True):
        for letter, size in zip(letters, tensor.shape, strict=True):
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
    return sizes


def _factor(ctx: Context, operand: _Factor, kept: set[str], sizes: dict[str, int]) -> _Factor:
    """An operand with every letter once: diagonals taken, and summed over what is its alone."""
    value, letters = operand
    diagonal = set(repeated(letters))
    for support, field in ctx.fields(value).items():
        along = {letters[dim] for dim in support}
        expanded = {letters[dim] for dim in support if value.shape[dim] != sizes[letters[dim]]}
        if along & diagonal:
            ctx.pin(field, "sliced", "a diagonal of it is taken by number")
        elif along - kept:
            ctx.pin(field, "reduced", "summed over, so adding a neuron changes the result")
        elif expanded:
            reason = "a dimension of size 1 is expanded, it cannot have another size"
            ctx.pin(field, "broadcast", reason)
    left: list[str] = []
    mapping: list[int | None] = []
    for dim, letter in enumerate(letters):
        stays = letter in kept and value.shape[dim] == sizes[letter] and letter not in left
        mapping.append(len(left) if stays else None)
        if stays:
            left.append(letter)
    return _Factor(_seen(ctx, value, mapping, [sizes[letter] for letter in left]), tuple(left))


def _seen(ctx: Context, value: Tensor, mapping: Sequence[int | None], shape: list[int]) -> Tensor:
    """A value with its dimensions moved or dropped."""
    seen = torch.empty(shape, device="meta")
    ctx.set_fields(seen, placed_fields(ctx.fields(value), mapping, shape), ctx.value(value).axes)
    return seen


def _joined(
    ctx: Context, left: _Factor, right: _Factor, letters: Letters, sizes: dict[str, int]
) -> _Factor:
    """The product of two factors, with these letters left."""
    contracted = [letter for letter in left.letters if letter not in letters]
    out = torch.empty([sizes[letter] for letter in letters], device="meta")
    along, maps = [], []
    for factor in (left, right):
        along.append([factor.letters.index(letter) for letter in contracted])
        maps.append([letters.index(one) if one in letters else None for one in factor.letters])
    product(ctx, (left.value, right.value), (along[0], along[1]), maps, out)
    return _Factor(out, letters)
