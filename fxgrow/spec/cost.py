"""What one forward pass costs, counted on the meta device.

Besides plain counts there are *terms*: a cost as a sum of formulas over sizes of tensors. When a
width grows, every such size changes by a fixed number per neuron, so the terms of the model and of
the model with one more neuron give the cost for any number of neurons: see the cost models of
``fxgrow.growth``.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.flop_counter import flop_registry

from fxgrow.errors import SpecError
from fxgrow.meta import ShapeCache
from fxgrow.modes import evaluation_mode
from fxgrow.running import CALLED_CODE_ERRORS
from fxgrow.spec.models import Cost

KEEP_INPUT, KEEP_RESULT = True, False
"""Which tensor an operator keeps for the backward pass."""


@dataclass(frozen=True)
class Term:
    """One summand of a cost: ``formula(sizes)``.

    Args:
        formula: Computes the summand from sizes of tensors.
        sizes: The sizes in the model as it is.
    """

    formula: Callable[[Sequence[int]], int]
    sizes: tuple[int, ...]

    @property
    def value(self) -> int:
        """What it adds to the cost."""
        return self.formula(self.sizes)


def multiply_adds(graph_module: nn.Module, example_inputs: Sequence[Tensor]) -> int:
    """Count the multiply-adds of convolutions, matrix products and attention in one forward pass.

    Nothing is allocated. The pass runs in evaluation mode; the module is unchanged afterwards.

    Args:
        graph_module: The model.
        example_inputs: The arguments of its forward pass; only shape and dtype matter.

    Returns:
        The number of multiply-adds: half the floating-point operations that torch counts.

    Raises:
        SpecError: ``not-runnable`` if the graph does not run on tensors without values.
    """
    with torch.no_grad(), _Counting() as counting:
        _run(graph_module, example_inputs)
    return int(sum(counting.counts)) // 2


def cost(graph_module: nn.Module, example_inputs: Sequence[Tensor]) -> Cost:
    """Count parameters (tied ones once) and multiply-adds.

    Args:
        graph_module: The model.
        example_inputs: The arguments of its forward pass; only shape and dtype matter.

    Returns:
        Both numbers.

    Raises:
        SpecError: ``not-runnable`` if the graph does not run on tensors without values.
    """
    parameters = sum(parameter.numel() for parameter in graph_module.parameters())
    return Cost(parameters=parameters, multiply_adds=multiply_adds(graph_module, example_inputs))


def parameter_terms(module: nn.Module, _: Sequence[Tensor]) -> tuple[Term, ...]:
    """The numbers of elements of all parameters (tied ones once), one term for each."""
    return tuple(Term(math.prod, tuple(parameter.shape)) for parameter in module.parameters())


def multiply_add_terms(module: nn.Module, example_inputs: Sequence[Tensor]) -> tuple[Term, ...]:
    """The multiply-adds of every operator that ``multiply_adds`` counts, by torch's own formulas.

    Args:
        module: The model.
        example_inputs: The arguments of its forward pass; only shape and dtype matter.

    Returns:
        One term per operator call.

    Raises:
        SpecError: ``not-runnable`` if the graph does not run on tensors without values.
    """
    with torch.no_grad(), _Counting(_multiply_add_term) as counting:
        _run(module, example_inputs)
    return tuple(counting.counts)


def activation_terms(
    module: nn.Module, example_inputs: Sequence[Tensor], *, as_they_are: bool = False
) -> tuple[Term, ...]:
    """The bytes of every storage that one forward pass keeps for the backward pass.

    The inputs of the model are counted if they are kept, parameters and buffers are not. The pass
    runs in evaluation mode.

    Args:
        module: The model.
        example_inputs: The arguments of its forward pass; only shape and dtype matter.
        as_they_are: Count what the parameters need that require gradients now; otherwise, as if
            every parameter required gradients.

    Returns:
        One term per storage.

    Raises:
        SpecError: ``not-runnable`` if the graph does not run on tensors without values.
    """
    state_storages: set[int] = set()
    # storage address -> (storage, its bytes). Holding the storage keeps its address from being
    # given to another one while the pass runs.
    saved: dict[int, tuple[Any, Term]] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in state_storages:
            saved.setdefault(storage._cdata, (storage, _storage_term(tensor)))
        return tensor

    requires_grad = None if as_they_are else True
    with torch.enable_grad(), saved_tensors_hooks(record, lambda tensor: tensor), _Counting():
        _run(module, example_inputs, requires_grad=requires_grad, state_storages=state_storages)
    return tuple(term for _, term in saved.values())


def _storage_term(tensor: Tensor) -> Term:
    """The bytes of a tensor's storage, by the tensor's shape where that accounts for all of it.

    A view of a larger storage, or an expanded tensor, does not tell which sizes make the bytes.
    """
    num_bytes = tensor.untyped_storage().nbytes()
    fills_storage = tensor.numel() * tensor.element_size() == num_bytes
    sizes = (*tensor.shape, tensor.element_size()) if fills_storage else (num_bytes,)
    return Term(math.prod, sizes)


class _Counting(TorchDispatchMode):
    """Counts every operator for whose floating-point operations torch has a formula.

    Like ``FlopCounterMode`` without its account per module. Of the branches of ``torch.cond`` the
    one that costs more counts.

    Args:
        make_term: Called as ``make_term(formula, args, kwargs)`` with shapes in place of tensors,
            and gives what is added to ``counts``; without it, the number of operations is added.
    """

    supports_higher_order_operators = True

    def __init__(self, make_term: Callable[..., Any] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.make_term = make_term
        self.counts: list[Any] = []
        self.shape_cache = ShapeCache()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.higher_order.cond:
            return self._costlier_branch(*args[1:])
        formula = flop_registry.get(func.overloadpacket)
        if formula is None:
            # Operators that are made of others, which the branches of torch.cond do not split.
            with self:
                out = func.decompose(*args, **kwargs)
            return self.shape_cache.run(func, args, kwargs) if out is NotImplemented else out
        out = self.shape_cache.run(func, args, kwargs)
        if self.make_term is None:
            self.counts.append(formula(*args, **kwargs, out_val=out))
        # Torch wraps the formulas that read nothing but shapes; only those can be made terms.
        elif hasattr(formula, "__wrapped__"):
            shapes, named, out_shape = tree_map(_shape, (args, kwargs, out))
            named = {**named, "out_shape": out_shape}
            self.counts.append(self.make_term(formula.__wrapped__, shapes, named))
        return out

    def _costlier_branch(
        self, on_true: Callable[..., Any], on_false: Callable[..., Any], operands: Sequence[Tensor]
    ) -> Any:
        """What a branch gives (shapes agree in both); counts the branch that costs more."""
        branch_counts: list[list[Any]] = []
        for branch in (on_true, on_false):
            with _Counting(self.make_term) as counting:
                out = branch(*operands)
            branch_counts.append(counting.counts)
        self.counts += max(branch_counts, key=_total)
        return out


def _total(counts: Iterable[Term | int]) -> int:
    total = 0
    for count in counts:
        total += count.value if isinstance(count, Term) else count
    return total


def _shape(x: Any) -> Any:
    return tuple(x.shape) if isinstance(x, Tensor) else x


def _multiply_add_term(formula: Callable[..., int], args: Any, kwargs: dict[str, Any]) -> Term:
    """A formula over the whole numbers in its arguments; everything else in them is constant."""
    leaves, tree = tree_flatten((args, kwargs))
    positions = [index for index, leaf in enumerate(leaves) if type(leaf) is int]

    def evaluate(sizes: Sequence[int]) -> int:
        new_leaves = list(leaves)
        for position, size in zip(positions, sizes, strict=True):
            new_leaves[position] = size
        args, kwargs = tree_unflatten(new_leaves, tree)
        # torch counts a multiply-add as two operations.
        return formula(*args, **kwargs) // 2

    return Term(evaluate, tuple(leaves[position] for position in positions))


def _run(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    *,
    requires_grad: bool | None = False,
    state_storages: set[int] | None = None,
) -> None:
    """Run one pass in evaluation mode with parameters, buffers and inputs on the meta device.

    Args:
        module: The model.
        example_inputs: The arguments of its forward pass.
        requires_grad: Whether parameters require gradients; None: each as in the model.
        state_storages: A set that gets the storages of the parameters and buffers.
    """
    state: dict[str, Tensor] = {}
    for named_tensors in (module.named_parameters, module.named_buffers):
        for name, tensor in named_tensors(remove_duplicate=False):
            state[name] = torch.empty_like(tensor, device="meta")
    for name, parameter in module.named_parameters(remove_duplicate=False):
        flag = parameter.requires_grad if requires_grad is None else requires_grad
        state[name].requires_grad_(flag)
    if state_storages is not None:
        state_storages.update(tensor.untyped_storage()._cdata for tensor in state.values())
    inputs = tuple(torch.empty_like(tensor, device="meta") for tensor in example_inputs)
    try:
        with evaluation_mode(module), _FastMetaKernels():
            functional_call(module, state, inputs, tie_weights=False)
    except CALLED_CODE_ERRORS as error:
        raise SpecError(
            "not-runnable",
            f"the graph does not run on its example inputs ({error}); give inputs that it accepts",
        ) from error


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
    return func is F.batch_norm and not kwargs.get("training", True) and bool(args[0].is_meta)


def _is_out_of_place_relu(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call is a ReLU that does not work in place."""
    is_relu = func in (F.relu, torch.relu)
    return is_relu and not kwargs.get("inplace") and len(args) == 1 and bool(args[0].is_meta)
