"""Whether a grown model still computes on its example inputs what it computed before.

Coupling reasons about neurons; this check runs the two models. It finds what no rule sees: a number
in Python that depends on a size (``h / h.shape[1] ** 0.5``), a branch on it, code of C.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.capture import first_line, output_leaves, preserve_state
from fxgrow.copying import copy_module
from fxgrow.errors import GrowthError
from fxgrow.growth.invariants import (
    MAX_ROUNDINGS,
    full_precision,
    is_inexact,
    relative_error,
    require_close,
    rounding_tolerance,
)
from fxgrow.randomness import seeded

Grow = Callable[[nn.Module, Sequence[str]], object]
"""Widens a model in place by the widths of these names, as they were asked for."""

Leaves = Callable[[Any, nn.Module], list[Any]]
"""Gives what of the output of a model is compared."""

_NO_VALUES = "the model or its example inputs have shapes but no values"
_NO_FLOATS = "its output holds no floating-point numbers"
_RANDOM = "its output is random in evaluation mode, too"
ROUNDING = (
    "it amplifies rounding, which is all the difference: in float64 that is smaller by as much"
)

MAX_NOISE_RATIO = 4.0
"""How much farther than two runs of a random model apart a grown one may be."""

_COARSE = torch.finfo(torch.float32).eps
_ORDERS = 16.0
"""How much farther than one run two that add up in other orders may be from each other."""
_FINER = _ORDERS * torch.finfo(torch.float64).eps / _COARSE
"""What rounding moves in float64 over what in float32; a wrong growth is as wrong in both."""
_SPARED_BITS = 12
"""Of the 53 of float64, where the digits of float32 (24) are too few to tell anything."""
_LOST = 0.1
"""A relative error from which on next to no digits are left."""


@dataclass(frozen=True)
class Preservation:
    """The outputs of a model before it grew.

    Args:
        examples: its positional arguments, of each example.
        expected: the tensors of its output, in evaluation mode.
        skipped: why nothing can be compared ("" if it can).
        leaves: what of an output is compared.
    """

    examples: tuple[tuple[Any, ...], ...]
    expected: tuple[Tensor, ...] = ()
    skipped: str = ""
    leaves: Leaves = output_leaves

    @staticmethod
    def of(
        model: nn.Module, *examples: tuple[Any, ...], leaves: Leaves = output_leaves
    ) -> "Preservation":
        """Run a model that is still as it was.

        Args:
            model: is left in its mode and state.
            examples: its positional arguments, of each example; it cannot change them.
            leaves: what of an output is compared.
        """
        tensors = (*model.parameters(), *model.buffers(), *tree_leaves(examples))
        if any(_has_no_values(tensor) for tensor in tensors):
            return Preservation(examples, skipped=_NO_VALUES)
        try:
            expected = _outputs(model, examples, leaves=leaves)
        # Coupling needs shapes only, so what runs there need not run here (another device, say).
        except Exception as error:  # noqa: BLE001 - whatever the model's own code raises
            return Preservation(examples, skipped=f"the model does not run: {first_line(error)}")
        if not any(map(is_inexact, expected)):
            return Preservation(examples, skipped=_NO_FLOATS)
        return Preservation(examples, expected, leaves=leaves)

    def require(self, module: nn.Module) -> float | None:
        """Compare a grown model.

        Args:
            module: the grown model; it is left in its mode and state.

        Returns:
            The relative error; None if there is nothing to compare.

        Raises:
            GrowthError: ``broken-promise`` if the error is more than rounding, or it does not run.
        """
        if self.skipped:
            return None
        try:
            outputs = self.outputs(module)
        except Exception as error:  # the model's own code may raise anything
            message = f"the grown model does not run: {first_line(error)}"
            raise GrowthError("broken-promise", message) from error
        if _shapes(outputs) != _shapes(self.expected):
            message = f"the grown model's output has the shapes {_shapes(outputs)}"
            raise GrowthError("broken-promise", message)
        return require_close("what it was before", outputs, self.expected)

    def outputs(self, module: nn.Module) -> tuple[Tensor, ...]:
        """What a model gives of what is compared, for all examples; it is left as it was."""
        return _outputs(module, self.examples, leaves=self.leaves)

    def error(self, module: nn.Module) -> float | None:
        """How far the output of a model is from what it was, where it need not be the same.

        Args:
            module: the model; it is left in its mode and state.

        Returns:
            The relative error; None if there is nothing to compare.
        """
        # As ``require``, which says more where they have to be equal.
        if self.skipped:
            return None
        return _error(self.outputs(module), self.expected)


def excuse(before: Preservation, model: nn.Module, grow: Callable[[nn.Module], object]) -> str:
    """Why a difference may have arisen although the growth was right.

    Args:
        before: the comparison that failed.
        model: the model as it was.
        grow: grows a copy of it, of any dtype, in place.

    Returns:
        The reason; "" if there is none, so that the growth was wrong.

    Raises:
        GrowthError: ``unstable-model``.
    """
    if before.skipped:
        return ""
    tolerance = rounding_tolerance(before.expected)
    noise = _error(_outputs(model, before.examples, seed=1), before.expected)
    if noise > tolerance:
        wider = copy_module(model)
        grow(wider)
        error = _error(_outputs(wider, before.examples), before.expected)
        return _RANDOM if error <= MAX_NOISE_RATIO * noise else ""
    finer = copy_module(model).double()
    wider = copy_module(finer)
    grow(wider)
    try:
        with _in_float64(_AllInFloat64()):  # type: ignore[no-untyped-call]
            examples = _in_dtype(before.examples, torch.float64)
            expected = _outputs(finer, examples)
            error = _error(_outputs(wider, examples), expected)
        allowed = max(tolerance, _rounding(finer, examples, expected))
    except GrowthError:  # nothing can be told of this model
        raise
    except Exception:  # noqa: BLE001 - a model with other dtypes may fail anywhere
        return ""
    return ROUNDING if error <= allowed else ""


def all_in_float64(output_of: Callable[[nn.Module], Any], model: nn.Module) -> Any:
    """What a model in float64 gives once every cast and new tensor of its own is in float64.

    Norms that cast to float32 round to its digits, and two graphs that are equal do so differently.

    Args:
        output_of: runs the model.
        model: the model, or its graph.

    Returns:
        The output; None if it computes in another dtype, or does not run.
    """
    if not _is_in_float64(model):
        return None
    try:
        with _in_float64(_AllInFloat64()):  # type: ignore[no-untyped-call]
            return output_of(model)
    except Exception:  # noqa: BLE001 - the model's own code may raise anything
        return None


def _is_in_float64(model: nn.Module) -> bool:
    floats = [p for p in model.parameters() if p.is_floating_point()]
    return bool(floats) and all(parameter.dtype == torch.float64 for parameter in floats)


def amplified_rounding(model: nn.Module, inputs: tuple[Any, ...]) -> float:
    """How far rounding alone may move what a model in float64 gives.

    Args:
        model: is left in its mode and state.
        inputs: its positional arguments.

    Returns:
        A relative error; 0 if the model computes in another dtype, or does not run again.

    Raises:
        GrowthError: ``unstable-model``.
    """
    if not _is_in_float64(model):
        return 0.0
    try:
        return _rounding(model, (inputs,), _outputs(model, (inputs,)))
    except GrowthError:
        raise
    except Exception:  # noqa: BLE001 - the model's own code may raise anything
        return 0.0


class _AllInFloat64(TorchDispatchMode):
    """Whatever is to be made or cast in a coarser floating-point type stays in float64.

    Norms of language models compute in float32 in a model of any dtype, by a cast of their own.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") in _COARSER:
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


_COARSER = {torch.float32, torch.float16, torch.bfloat16}


@contextmanager
def _in_float64(mode: _AllInFloat64) -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with mode:
            yield
    finally:
        torch.set_default_dtype(default)


class _RoundedToFewerBits(_AllInFloat64):
    """Computes in float64, and takes some of the last bits of what every operator gives away.

    Args:
        spared: how many bits.
    """

    def __init__(self, spared: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shift = 2.0**spared + 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if not _is_view(func):
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor) and leaf.dtype == torch.float64:
                    # Veltkamp's splitting: c x - (c x - x) with c = 2^bits + 1.
                    shifted = leaf * self.shift
                    rounded = shifted - (shifted - leaf)
                    # Infinity has no digits: max pooling pads with it, masks add it.
                    leaf.copy_(torch.where(shifted.isfinite(), rounded, leaf))
        return result


def _is_view(func: Any) -> bool:
    """Whether an operator gives the memory of its arguments, and writes nothing into it."""
    aliases = [returned.alias_info for returned in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _rounding(
    model: nn.Module, examples: tuple[tuple[Any, ...], ...], expected: tuple[Tensor, ...]
) -> float:
    """How far rounding in float64 may move an output, told from what fewer digits move it.

    Not every model runs in float32: tensors that it keeps to itself stay in float64. Where it does,
    its sums are rounded inside, too, term by term, which tells of long ones with terms that cancel.

    Args:
        model: the model as it was, in float64.
        examples: its positional arguments, of each example, in float64.
        expected: its outputs.
    """
    error = _error_of_fewer_bits(model, examples, expected, _BITS_BEYOND_FLOAT32)
    error = max(error, _error_in_float32(model, examples, expected))
    allowed = _FINER * min(error, 1.0) if math.isfinite(error) else 0.0
    if error < _LOST:
        return allowed
    # Beyond that an error says no more than that all digits of float32 are lost.
    error = _error_of_fewer_bits(model, examples, expected, _SPARED_BITS)
    if math.isfinite(error) and error > _LOST:
        raise GrowthError(
            "unstable-model",
            f"{type(model).__name__} amplifies rounding so far (in float64, without the last "
            f"{_SPARED_BITS} bits, its output moves by {error:.1e}) that nothing tells whether it "
            "still computes the same, so nothing is grown; train it first, or give "
            "refresh_statistics=False if it is batch norms that blow up what is constant",
        )
    # Never more than rounding in float32, or the check would say nothing.
    finer = _ORDERS * error / 2**_SPARED_BITS if math.isfinite(error) else 0.0
    return max(allowed, min(finer, MAX_ROUNDINGS * _COARSE))


_BITS_BEYOND_FLOAT32 = 53 - 24


def _error_of_fewer_bits(
    model: nn.Module,
    examples: tuple[tuple[Any, ...], ...],
    expected: tuple[Tensor, ...],
    spared: int,
) -> float:
    """How far the output moves if every operator gives that many bits less."""
    with _in_float64(_RoundedToFewerBits(spared)):
        return _error(_outputs(copy_module(model), examples), expected)


def _error_in_float32(
    model: nn.Module, examples: tuple[tuple[Any, ...], ...], expected: tuple[Tensor, ...]
) -> float:
    """How far the output moves in float32; 0 where the model does not run there."""
    try:
        coarse = _outputs(copy_module(model).float(), _in_dtype(examples, torch.float32))
    except Exception:  # noqa: BLE001 - a model with other dtypes may fail anywhere
        return 0.0
    error = _error(tuple(map(_in_double, coarse)), expected)
    return error if math.isfinite(error) else 0.0


def _in_double(output: Tensor) -> Tensor:
    return output.double() if output.is_floating_point() else output


def _error(outputs: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """The relative error; infinite if the shapes differ."""
    if _shapes(outputs) != _shapes(expected):
        return float("inf")
    return relative_error(outputs, expected)


def _shapes(tensors: Sequence[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in tensors]


def culprits(
    before: Preservation, model: nn.Module, names: Sequence[str], grow: Grow
) -> tuple[str, ...]:
    """The widths that change the function when they grow alone, found by halving.

    Args:
        before: the comparison that failed.
        model: the model as it was.
        names: the widths that grew together.
        grow: widens a copy of it.

    Returns:
        Their names; all of ``names`` if only together they do.
    """
    if len(names) == 1:
        return tuple(names)
    middle = len(names) // 2
    found: list[str] = []
    for half in (names[:middle], names[middle:]):
        wider = copy_module(model)
        grow(wider, half)
        try:
            before.require(wider)
        except GrowthError:
            found += culprits(before, model, half, grow)
    return tuple(found or names)


def _in_dtype(examples: Any, dtype: torch.dtype) -> Any:
    """The same arguments, their floating-point numbers in another dtype."""

    def cast(leaf: Any) -> Any:
        is_floating = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return leaf.to(dtype) if is_floating else leaf

    return tree_map(cast, examples)


def _outputs(
    model: nn.Module,
    examples: Sequence[tuple[Any, ...]],
    seed: int = 0,
    leaves: Leaves = output_leaves,
) -> tuple[Tensor, ...]:
    """The tensors of a model's outputs in evaluation mode; the model is left as it was."""
    outputs: list[Tensor] = []
    for inputs in examples:
        outputs += _outputs_of_one(model, inputs, seed, leaves)
    return tuple(outputs)


def _outputs_of_one(
    model: nn.Module, inputs: tuple[Any, ...], seed: int, leaves: Leaves
) -> list[Tensor]:
    with preserve_state(model), full_precision(), torch.no_grad(), seeded(seed):
        output = model(*tree_map(_copy, inputs))
        # What the model keeps and gives out may be put back on leaving.
        return [leaf.detach().clone() for leaf in leaves(output, model) if isinstance(leaf, Tensor)]


def _copy(leaf: Any) -> Any:
    """What a run may write into: a tensor, or a cache."""
    return leaf.detach().clone() if isinstance(leaf, Tensor) else copy.deepcopy(leaf)


def _has_no_values(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and (leaf.is_meta or isinstance(leaf, FakeTensor))
