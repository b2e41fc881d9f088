"""What one forward pass costs, counted on the meta device.

Besides whole counts there are *terms*: a cost as a sum of formulas over sizes of tensors. When a width grows, every
such size changes by a fixed number per neuron, so terms of the model and of the model with one more neuron tell what
any number of neurons costs (``growth.meters``).
"""

import math
from collections.abc import Callable, Sequence
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
from fxgrow.spec.models import Cost

# What a model may raise when it does not fit its input; an internal error of torch is a RuntimeError.
KEEP_INPUT, KEEP_RESULT = True, False
_RUN_ERRORS = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
)


@dataclass(frozen=True)
class Term:
    """One summand of a cost: ``formula(sizes)``."""

    formula: Callable[[Sequence[int]], int]
    sizes: tuple[int, ...]

    @property
    def value(self) -> int:
        """What it adds to the cost."""
        return self.formula(self.sizes)


def multiply_adds(graph_module: nn.Module, example_inputs: Sequence[Tensor]) -> int:
    """Multiply-adds of convolutions, matrix products and attention in one forward pass; nothing is allocated.

    Counted in eval mode; the module is as before afterwards.
    ``SpecError("not-runnable")`` if the graph does not run on tensors without values.
    """
    with torch.no_grad(), _Counting() as counting:
        _run(graph_module, example_inputs)
    return int(sum(counting.found)) // 2


def cost(graph_module: nn.Module, example_inputs: Sequence[Tensor]) -> Cost:
    """Parameters (tied ones once) and multiply-adds of ``graph_module``."""
    parameters = sum(parameter.numel() for parameter in graph_module.parameters())
    return Cost(parameters=parameters, multiply_adds=multiply_adds(graph_module, example_inputs))


def parameter_terms(module: nn.Module, _: Sequence[Tensor]) -> tuple[Term, ...]:
    """The elements of every parameter (tied ones once)."""
    return tuple(Term(math.prod, tuple(parameter.shape)) for parameter in module.parameters())


def multiply_add_terms(module: nn.Module, example_inputs: Sequence[Tensor]) -> tuple[Term, ...]:
    """The multiply-adds of every operator that ``multiply_adds`` counts, by torch's own formulas."""
    with torch.no_grad(), _Counting(_term) as counting:
        _run(module, example_inputs)
    return tuple(counting.found)


def activation_terms(
    module: nn.Module, example_inputs: Sequence[Tensor], *, as_they_are: bool = False
) -> tuple[Term, ...]:
    """The bytes of every storage that one forward pass keeps for the backward pass, its inputs included.

    Parameters and buffers are not counted. Counted in eval mode, as if every parameter learnt; ``as_they_are``: those
    alone that do.
    """
    own: set[int] = set()
    kept: dict[
        int, tuple[Any, Term]
    ] = {}  # the storage beside the term, so that its number stays its own

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept.setdefault(storage._cdata, (storage, _bytes_of(tensor)))
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(note, lambda tensor: tensor), _Counting():
        _run(module, example_inputs, learning=None if as_they_are else True, own=own)
    return tuple(term for _, term in kept.values())


def _bytes_of(tensor: Tensor) -> Term:
    """By the tensor's shape, which says which sizes there are, unless it is a view of something larger or smaller."""
    storage = tensor.untyped_storage().nbytes()
    full = tensor.numel() * tensor.element_size() == storage
    return Term(math.prod, (*tensor.shape, tensor.element_size()) if full else (storage,))


class _Counting(TorchDispatchMode):
    """Counts every operator of whose floating-point operations torch has a formula.

    Like ``FlopCounterMode`` without its account per module. With ``note``, what is found is ``note(formula, args,
    kwargs)``, tensors among the arguments given by their shapes. Of ``torch.cond``'s branches the dearer one counts.
    """

    supports_higher_order_operators = True

    def __init__(self, note: Callable[..., Any] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.note = note
        self.found: list[Any] = []
        self.memory = ShapeCache()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.higher_order.cond:
            return self._dearer(*args[1:])
        formula = flop_registry.get(func.overloadpacket)
        if formula is None:
            with self:  # operators made of others, which branches hand over whole
                out = func.decompose(*args, **kwargs)
            return self.memory.run(func, args, kwargs) if out is NotImplemented else out
        out = self.memory.run(func, args, kwargs)
        if self.note is None:
            self.found.append(formula(*args, **kwargs, out_val=out))
        elif hasattr(formula, "__wrapped__"):  # the others read more than shapes
            shapes, named, result = tree_map(_shape, (args, kwargs, out))
            self.found.append(
                self.note(formula.__wrapped__, shapes, {**named, "out_shape": result})
            )
        return out

    def _dearer(
        self, yes: Callable[..., Any], no: Callable[..., Any], operands: Sequence[Tensor]
    ) -> Any:
        """What a branch gives; counts the one that costs more."""
        counts = []
        for branch in (yes, no):
            with _Counting(self.note) as counting:
                out = branch(*operands)
            counts.append(counting.found)
        self.found += max(
            counts,
            key=lambda found: sum(one.value if isinstance(one, Term) else one for one in found),
        )
        return out


def _shape(x: Any) -> Any:
    return tuple(x.shape) if isinstance(x, Tensor) else x


def _term(formula: Callable[..., int], args: Any, kwargs: dict[str, Any]) -> Term:
    """A formula over the whole numbers in its arguments; everything else in them stays as it is."""
    leaves, form = tree_flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if type(leaf) is int]

    def evaluated(sizes: Sequence[int]) -> int:
        filled = list(leaves)
        for place, size in zip(places, sizes, strict=True):
            filled[place] = size
        args, kwargs = tree_unflatten(filled, form)
        return formula(*args, **kwargs) // 2

    return Term(evaluated, tuple(leaves[i] for i in places))


def _run(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    *,
    learning: bool | None = False,
    own: set[int] | None = None,
) -> None:
    """One pass in eval mode with parameters, buffers and inputs on the meta device; ``own`` gets their storages.

    ``learning``: whether parameters require gradients (None: those that do).
    """
    state = {
        name: torch.empty_like(tensor, device="meta")
        for named in (module.named_parameters, module.named_buffers)
        for name, tensor in named(remove_duplicate=False)
    }
    for name, parameter in module.named_parameters(remove_duplicate=False):
        state[name].requires_grad_(parameter.requires_grad if learning is None else learning)
    if own is not None:
        own.update(tensor.untyped_storage()._cdata for tensor in state.values())
    inputs = tuple(torch.empty_like(tensor, device="meta") for tensor in example_inputs)
    try:
        with evaluation_mode(module), _Swift():
            functional_call(module, state, inputs, tie_weights=False)
    except _RUN_ERRORS as error:
        raise SpecError(
            "not-runnable",
            f"the graph does not run on its example inputs ({error}); give inputs that it accepts",
        ) from error


class _Kept(torch.autograd.Function):
    """A tensor like the input; the input, or else the result, is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep_input: bool) -> Tensor:
        result = torch.empty_like(x)
        ctx.save_for_backward(x if keep_input else result)
        return result


class _Swift(TorchFunctionMode):
    """Batch norms by running statistics, and ReLUs, by their shapes and what they keep alone.

    torch works both out in Python on the meta device, which takes milliseconds each.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is F.batch_norm and not given.get("training", True) and args[0].is_meta:
            return _Kept.apply(args[0], KEEP_INPUT)
        if (
            func in (F.relu, torch.relu)
            and not given.get("inplace")
            and len(args) == 1
            and args[0].is_meta
        ):
            return _Kept.apply(args[0], KEEP_RESULT)
        return func(*args, **given)
