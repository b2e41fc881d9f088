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
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from fxgrow.meta import ShapeCache
from fxgrow.spec.bare_run import count_bare, run_bare
from fxgrow.spec.mixed_devices import MetaMeeting
from fxgrow.spec.models import Cost


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


def multiply_adds(graph_module: nn.Module, example_inputs: Sequence[Any]) -> int:
    """Count the multiply-adds of convolutions, matrix products and attention in one forward pass.

    Little is allocated, unless sizes follow from the model's numbers: then the pass runs with
    them. It runs in evaluation mode; the module is unchanged afterwards.

    Args:
        graph_module: The model.
        example_inputs: The arguments of its forward pass; of floats, only shape and dtype matter.

    Returns:
        The number of multiply-adds: half the floating-point operations that torch counts.

    Raises:
        SpecError: ``not-runnable`` if the graph does not run on its example inputs.
    """

    def count(values: bool) -> int:
        with torch.no_grad(), _Counting() as counting:
            run_bare(graph_module, example_inputs, values=values)
        return int(sum(counting.counts)) // 2

    return count_bare(graph_module, count)


def cost(graph_module: nn.Module, example_inputs: Sequence[Any]) -> Cost:
    """Count parameters (tied ones once) and multiply-adds.

    Args:
        graph_module: The model.
        example_inputs: The arguments of its forward pass; of floats, only shape and dtype matter.

    Returns:
        Both numbers.

    Raises:
        SpecError: ``not-runnable`` if the graph does not run on its example inputs.
    """
    parameters = sum(parameter.numel() for parameter in graph_module.parameters())
    return Cost(parameters=parameters, multiply_adds=multiply_adds(graph_module, example_inputs))


def parameter_terms(module: nn.Module, _: Sequence[Any]) -> tuple[Term, ...]:
    """The numbers of elements of all parameters (tied ones once), one term for each."""
    return tuple(Term(math.prod, tuple(parameter.shape)) for parameter in module.parameters())


def multiply_add_terms(module: nn.Module, example_inputs: Sequence[Any]) -> tuple[Term, ...]:
    """The multiply-adds of every operator that ``multiply_adds`` counts, by torch's own formulas.

    Args:
        module: The model.
        example_inputs: The arguments of its forward pass; of floats, only shape and dtype matter.

    Returns:
        One term per operator call.

    Raises:
        SpecError: ``not-runnable`` if the graph does not run on its example inputs.
    """

    def count(values: bool) -> tuple[Term, ...]:
        with torch.no_grad(), _Counting(_multiply_add_term) as counting:
            run_bare(module, example_inputs, values=values)
        return tuple(counting.counts)

    return count_bare(module, count)


def activation_terms(module: nn.Module, example_inputs: Sequence[Any]) -> tuple[Term, ...]:
    """The bytes of every storage that one forward pass keeps for the backward pass.

    The inputs of the model are counted if they are kept, parameters and buffers are not. The pass
    runs in evaluation mode, as if every parameter required gradients.

    Args:
        module: The model.
        example_inputs: The arguments of its forward pass; of floats, only shape and dtype matter.

    Returns:
        One term per storage.

    Raises:
        SpecError: ``not-runnable`` if the graph does not run on its example inputs.
    """

    def count(values: bool) -> tuple[Term, ...]:
        return _pass_cost(module, example_inputs, values, requires_grad=True).kept

    return count_bare(module, count)


@dataclass(frozen=True)
class PassCost:
    """What one forward pass costs while only some parameters learn.

    Args:
        kept: The bytes of every storage that it keeps for the backward pass.
        multiply_adds: How many there are, as ``multiply_adds`` counts.
    """

    kept: tuple[Term, ...]
    multiply_adds: int


def pass_cost(module: nn.Module, example_inputs: Sequence[Any]) -> PassCost:
    """Count what a pass keeps for the parameters that require gradients now, and multiply-adds.

    Args:
        module: The model.
        example_inputs: The arguments of its forward pass; of floats, only shape and dtype matter.

    Returns:
        Both.

    Raises:
        SpecError: ``not-runnable`` if the graph does not run on shapes alone: with numbers, it
            would take the memory that is to be foretold.
    """
    return _pass_cost(module, example_inputs, values=False, requires_grad=None)


def _pass_cost(
    module: nn.Module, example_inputs: Sequence[Any], values: bool, requires_grad: bool | None
) -> PassCost:
    """What one pass costs; ``values`` and ``requires_grad`` as for ``run_bare``."""
    state_storages: set[int] = set()
    # storage address -> (storage, its bytes). Holding the storage keeps its address from being
    # given to another one while the pass runs.
    saved: dict[int, tuple[Any, Term]] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in state_storages:
            saved.setdefault(storage._cdata, (storage, _storage_term(tensor)))
        # An output would keep itself alive: through its function, and what that keeps.
        return tensor.detach()

    keep = saved_tensors_hooks(record, lambda tensor: tensor)
    with torch.enable_grad(), keep, _Counting() as counting:
        run_bare(
            module,
            example_inputs,
            values=values,
            requires_grad=requires_grad,
            state_storages=state_storages,
        )
    kept = tuple(term for _, term in saved.values())
    return PassCost(kept, int(sum(counting.counts)) // 2)


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
        self.meeting = MetaMeeting()
        # Imported here: it brings Triton, and many programs count nothing.
        from torch.utils.flop_counter import flop_registry

        self.formulas = flop_registry
        self.elementary: set[Any] = set()  # operators that are made of no others

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.higher_order.cond:
            return self._costlier_branch(*args[1:])
        # Formulas see the arguments as they were: some read values (where sequences end).
        met_args, met_kwargs = self.meeting.arguments(func, args, kwargs)
        formula = self.formulas.get(func.overloadpacket)
        if formula is None:
            # Operators that are made of others, which the branches of torch.cond do not split.
            if func not in self.elementary:
                with self:
                    out = func.decompose(*args, **kwargs)
                if out is not NotImplemented:
                    return out
                self.elementary.add(func)
            return self.shape_cache.run(func, met_args, met_kwargs)
        out = self.shape_cache.run(func, met_args, met_kwargs)
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
