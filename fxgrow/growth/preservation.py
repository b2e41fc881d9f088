"""Whether a grown model still computes on its example inputs what it computed before.

Coupling reasons about neurons; this check runs the two models. It finds what no rule sees: a number
in Python that depends on a size (``h / h.shape[1] ** 0.5``), a branch on it, code of C.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves

from fxgrow.capture import first_line, output_leaves
from fxgrow.copying import copy_module
from fxgrow.errors import GrowthError
from fxgrow.growth.invariants import (
    agreed_error,
    is_inexact,
    require_close,
    rounding_tolerance,
)
from fxgrow.growth.rounding import (
    ROUNDING,
    AllInFloat64,
    Leaves,
    error_of,
    in_dtype,
    in_float64,
    outputs_of,
    rounding_in_float64,
    shapes_of,
)
from fxgrow.sharding import sharing_ranks

Grow = Callable[[nn.Module, Sequence[str]], object]
"""Widens a model in place by the widths of these names, as they were asked for."""

_NO_VALUES = "the model or its example inputs have shapes but no values"
_NO_FLOATS = "its output holds no floating-point numbers"
_RANDOM = "its output is random in evaluation mode, too"
MAX_NOISE_RATIO = 4.0
"""How much farther than two runs of a random model apart a grown one may be."""


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
            expected = outputs_of(model, examples, leaves=leaves)
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
        if shapes_of(outputs) != shapes_of(self.expected):
            message = f"the grown model's output has the shapes {shapes_of(outputs)}"
            raise GrowthError("broken-promise", message)
        ranks = sharing_ranks(module)
        return require_close("what it was before", outputs, self.expected, ranks=ranks)

    def outputs(self, module: nn.Module) -> tuple[Tensor, ...]:
        """What a model gives of what is compared, for all examples; it is left as it was."""
        return outputs_of(module, self.examples, leaves=self.leaves)

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
        return error_of(self.outputs(module), self.expected)


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
    ranks = sharing_ranks(model)
    noise = error_of(outputs_of(model, before.examples, seed=1), before.expected)
    noise = agreed_error(noise, ranks)
    if noise > tolerance:
        wider = copy_module(model)
        grow(wider)
        error = error_of(outputs_of(wider, before.examples), before.expected)
        error = agreed_error(error, ranks)
        return _RANDOM if error <= MAX_NOISE_RATIO * noise else ""
    finer = copy_module(model).double()
    wider = copy_module(finer)
    grow(wider)
    try:
        with in_float64(AllInFloat64()):  # type: ignore[no-untyped-call]
            examples = in_dtype(before.examples, torch.float64)
            expected = outputs_of(finer, examples)
            error = agreed_error(error_of(outputs_of(wider, examples), expected), ranks)
        allowed = max(tolerance, rounding_in_float64(finer, examples, expected))
    except GrowthError:  # nothing can be told of this model
        raise
    except Exception:  # noqa: BLE001 - a model with other dtypes may fail anywhere
        return ""
    return ROUNDING if error <= allowed else ""


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


def _has_no_values(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and (leaf.is_meta or isinstance(leaf, FakeTensor))
