"""One pass of a model whose floating-point tensors lie on the meta device, so that it costs little.

A model whose shapes follow from its numbers (``nonzero``, ``.item()``) cannot run like that. It is
run with its numbers then.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from fxgrow.capture import preserve_attributes
from fxgrow.errors import SpecError
from fxgrow.meta import META
from fxgrow.modes import evaluation_mode, garbage_collection_off, plain_attention
from fxgrow.randomness import seeded
from fxgrow.running import CALLED_CODE_ERRORS

KEEP_INPUT, KEEP_RESULT = True, False
"""Which tensor an operator keeps for the backward pass."""

Counted = TypeVar("Counted")


def count_bare(module: nn.Module, count: Callable[[bool], Counted]) -> Counted:
    """Count something on a run without values; with values if the model needs them.

    Args:
        module: The model that ``count`` runs.
        count: Runs the model, with its values if it is given True.

    Returns:
        What ``count`` gives.

    Raises:
        SpecError: ``not-runnable`` if the model does not run in either way.
    """
    try:
        return count(False)
    except SpecError:
        if any(parameter.is_meta for parameter in module.parameters()):
            raise
    return count(True)


@garbage_collection_off()
def run_bare(
    module: nn.Module,
    example_inputs: Sequence[Any],
    *,
    values: bool = False,
    requires_grad: bool | None = False,
    state_storages: set[int] | None = None,
) -> None:
    """Run one pass in evaluation mode; neither the module nor the inputs are written into.

    Args:
        module: The model.
        example_inputs: The arguments of its forward pass, nested as they may be.
        values: Whether floating-point numbers keep their values; off: they have shapes alone.
        requires_grad: Whether parameters require gradients; None: each as in the model.
        state_storages: A set that gets the storages of the parameters and buffers.

    Raises:
        SpecError: ``not-runnable`` if the pass fails.
    """
    state = _state(module, values, requires_grad)
    if state_storages is not None:
        for tensor in state.values():
            if tensor.layout is torch.strided:  # a sparse one has several
                state_storages.add(tensor.untyped_storage()._cdata)
    inputs = tree_map(_cloned if values else _bare, tuple(example_inputs))
    try:
        with ExitStack() as stack:
            stack.enter_context(evaluation_mode(module))
            # A detector keeps its anchors, which would lie on the meta device from then on.
            stack.enter_context(preserve_attributes(module))
            stack.enter_context(plain_attention())
            stack.enter_context(seeded(0))
            stack.enter_context(_FastMetaKernels())
            functional_call(module, state, inputs, tie_weights=False)
    except CALLED_CODE_ERRORS as error:
        raise SpecError(
            "not-runnable",
            f"the graph does not run on its example inputs ({error}); give inputs that it accepts",
        ) from error


def _state(module: nn.Module, values: bool, requires_grad: bool | None) -> dict[str, Tensor]:
    """What stands for the parameters and buffers during the run, by name."""
    state: dict[str, Tensor] = {}
    for name, buffer in module.named_buffers(remove_duplicate=False):
        state[name] = _cloned(buffer) if values else _bare(buffer)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        stand_in = parameter.detach() if values else _bare(parameter)
        if parameter.is_floating_point() or parameter.is_complex():
            flag = parameter.requires_grad if requires_grad is None else requires_grad
            stand_in.requires_grad_(flag)
        state[name] = stand_in
    return state


def _bare(leaf: Any) -> Any:
    """A tensor without values for a floating-point one, a copy of any other."""
    if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex()):
        return torch.empty_like(leaf, device=META, requires_grad=False)
    return _cloned(leaf)


def _cloned(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


class _SavedForBackward(torch.autograd.Function):
    """A tensor like the input; either the input or the result is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep_input: bool) -> Tensor:
        result = torch.empty_like(x)
        ctx.save_for_backward(x if keep_input else result)
        return result


class _FastMetaKernels(TorchFunctionMode):
    """Replaces batch norms in evaluation mode and ReLUs by their shapes and what they keep.

    torch computes both in Python on the meta device, which takes milliseconds for each call.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_evaluated_batch_norm(func, args, kwargs):
            return _SavedForBackward.apply(args[0], KEEP_INPUT)
        if _is_out_of_place_relu(func, args, kwargs):
            return _SavedForBackward.apply(args[0], KEEP_RESULT)
        return func(*args, **kwargs)


def _is_evaluated_batch_norm(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call is a batch norm that uses running statistics, as ``nn.BatchNorm`` calls it."""
    is_called_so = func is F.batch_norm and len(args) > 0 and not kwargs.get("training", True)
    return is_called_so and bool(args[0].is_meta)


def _is_out_of_place_relu(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call is a ReLU that does not work in place."""
    is_relu = func in (F.relu, torch.relu)
    return is_relu and not kwargs.get("inplace") and len(args) == 1 and bool(args[0].is_meta)
