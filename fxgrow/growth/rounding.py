"""How far rounding alone moves what a model gives, and whether two are the same but for that.

Some models amplify rounding (batch norms with the statistics of two small images, by up to 300 in
each layer), so that two graphs which compute the same differ by more than any tolerance. In float64
they differ by as much less as rounding is smaller there; a wrong growth is as wrong in both.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.capture import output_leaves, preserve_state
from fxgrow.copying import copy_module
from fxgrow.errors import GrowthError
from fxgrow.growth.invariants import (
    MAX_ROUNDINGS,
    agreed_error,
    full_precision,
    relative_error,
    require_close,
    rounding_tolerance,
)
from fxgrow.randomness import seeded
from fxgrow.sharding import sharing_ranks

Leaves = Callable[[Any, nn.Module], list[Any]]
"""Gives what of the output of a model is compared."""

ROUNDING = (
    "it amplifies rounding, which is all the difference: in float64 that is smaller by as much"
)


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
class Snapshot:
    """A model and the values that its tensors had, with which it runs when they have changed.

    Args:
        module: the model or graph.
        tensors: its parameters and buffers, by name.
    """

    module: nn.Module
    tensors: dict[str, Tensor]

    @staticmethod
    def live(module: nn.Module) -> "Snapshot":
        """A model that stays as it is."""
        named = (*module.named_parameters(), *module.named_buffers())
        return Snapshot(module, {name: tensor.detach() for name, tensor in named})

    @staticmethod
    def of(module: nn.Module) -> "Snapshot":
        """A model that is going to change: its tensors are copied."""
        tensors = Snapshot.live(module).tensors
        return Snapshot(module, {name: tensor.clone() for name, tensor in tensors.items()})

    def outputs_in_float64(self, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """What the model gives in float64, every cast of its own included.

        Args:
            inputs: its positional arguments, of any dtype.

        Returns:
            The tensors of its output, in evaluation mode; the model is left as it was.
        """
        doubles = in_dtype(self.tensors, torch.float64)

        def run(*arguments: Any) -> Any:
            return functional_call(self.module, doubles, arguments)

        with in_float64(AllInFloat64()):  # type: ignore[no-untyped-call]
            outputs = _outputs_of_one(
                self.module, in_dtype(inputs, torch.float64), 0, output_leaves, run
            )
        return tuple(outputs)


def require_same(
    check: str,
    compared: tuple[Any, Any],
    models: tuple[Snapshot, Snapshot],
    inputs: tuple[Any, ...],
    allowed: float = 0.0,
) -> tuple[float, str]:
    """Compare what two models give that must be the same but for rounding.

    Args:
        check: what the first one is said to be, as in "the grown model is not ...".
        compared: their outputs.
        models: both; what rounding may move is told of the first one.
        inputs: their positional arguments.
        allowed: a relative error that is excused.

    Returns:
        The relative error, and why it may be more than rounding alone ("" if it is not).

    Raises:
        GrowthError: ``broken-promise``; ``unstable-model``.
    """
    output, expected = compared
    ranks = sharing_ranks(*(model.module for model in models))
    try:
        return require_close(check, output, expected, allowed, ranks), ""
    except GrowthError:
        if not _are_same_in_float64(*models, inputs):
            raise
        return agreed_error(relative_error(output, expected), ranks), ROUNDING


def _are_same_in_float64(model: Snapshot, other: Snapshot, inputs: tuple[Any, ...]) -> bool:
    """Whether two models differ in float64 by no more than rounding moves the first one there."""
    try:
        outputs, expected = model.outputs_in_float64(inputs), other.outputs_in_float64(inputs)
    except Exception:  # noqa: BLE001 - a model with other dtypes may fail anywhere
        return False
    error = agreed_error(error_of(outputs, expected), sharing_ranks(model.module, other.module))
    if error <= rounding_tolerance(expected):
        return True
    # In float64 rounding may still be amplified to more than a fixed tolerance.
    finer = copy_module(model.module).double()
    return error <= amplified_rounding(finer, in_dtype(inputs, torch.float64))


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
        return rounding_in_float64(model, (inputs,), outputs_of(model, (inputs,)))
    except GrowthError:
        raise
    except Exception:  # noqa: BLE001 - the model's own code may raise anything
        return 0.0


def _is_in_float64(model: nn.Module) -> bool:
    floats = [p for p in model.parameters() if p.is_floating_point()]
    return bool(floats) and all(parameter.dtype == torch.float64 for parameter in floats)


def rounding_in_float64(
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
    with in_float64(_RoundedToFewerBits(spared)):
        error = error_of(outputs_of(copy_module(model), examples), expected)
    return agreed_error(error, sharing_ranks(model))


def _error_in_float32(
    model: nn.Module, examples: tuple[tuple[Any, ...], ...], expected: tuple[Tensor, ...]
) -> float:
    """How far the output moves in float32; 0 where the model does not run there."""
    try:
        coarse = outputs_of(copy_module(model).float(), in_dtype(examples, torch.float32))
    except Exception:  # noqa: BLE001 - a model with other dtypes may fail anywhere
        return 0.0
    error = error_of(tuple(map(_in_double, coarse)), expected)
    error = agreed_error(error, sharing_ranks(model))
    return error if math.isfinite(error) else 0.0


def _in_double(output: Tensor) -> Tensor:
    return output.double() if output.is_floating_point() else output


def error_of(outputs: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """The relative error; infinite if the shapes differ."""
    if shapes_of(outputs) != shapes_of(expected):
        return float("inf")
    return relative_error(outputs, expected)


def shapes_of(tensors: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """The shape of each tensor."""
    return [tuple(tensor.shape) for tensor in tensors]


class AllInFloat64(TorchDispatchMode):
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
def in_float64(mode: AllInFloat64) -> Iterator[None]:
    """Make float64 the default and enter a mode that keeps everything in it."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with mode:
            yield
    finally:
        torch.set_default_dtype(default)


class _RoundedToFewerBits(AllInFloat64):
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


def outputs_of(
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
    model: nn.Module,
    inputs: tuple[Any, ...],
    seed: int,
    leaves: Leaves,
    run: Callable[..., Any] | None = None,
) -> list[Tensor]:
    """The same for one example; ``run``: calls the model, with other tensors, say."""
    with preserve_state(model), full_precision(), torch.no_grad(), seeded(seed):
        output = (run or model)(*tree_map(_copy, inputs))
        # What the model keeps and gives out may be put back on leaving.
        return [leaf.detach().clone() for leaf in leaves(output, model) if isinstance(leaf, Tensor)]


def _copy(leaf: Any) -> Any:
    """What a run may write into: a tensor, or a cache."""
    return leaf.detach().clone() if isinstance(leaf, Tensor) else copy.deepcopy(leaf)


def in_dtype(examples: Any, dtype: torch.dtype) -> Any:
    """The same arguments, their floating-point numbers in another dtype."""

    def cast(leaf: Any) -> Any:
        is_floating = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return leaf.to(dtype) if is_floating else leaf

    return tree_map(cast, examples)
