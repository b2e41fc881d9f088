"""Every ATen operator of a run passes here: it runs on the meta device, and its rule is applied.

A value may have its *numbers* beside its shape, because models read some of them (masks that call
``.item()``, routing of tokens to experts, suppression of boxes). Integers and small constants
always do; the parameters and inputs do if ``ctx.numbers`` is set, which makes a run as expensive as
a real one and is therefore tried only where shapes alone fail. Numbers share their memory as the
model's own tensors do, so that writing into a view is seen in its base.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.coupling import sparse
from fxgrow.coupling.context import Context
from fxgrow.coupling.rules import rule_for
from fxgrow.coupling.rules.movement import holds_new_neurons
from fxgrow.coupling.rules.open_norms import follow
from fxgrow.coupling.rules.recurrent import COMPOSITES
from fxgrow.coupling.rules.registry import REGISTRY
from fxgrow.coupling.rules.unknown import refuse_unknown
from fxgrow.coupling.size_reads import refuse_values
from fxgrow.coupling.values import Value
from fxgrow.coupling.view_log import VIEWS
from fxgrow.coupling.written_views import carry_to_base
from fxgrow.errors import ModelError
from fxgrow.meta import shares_no_memory
from fxgrow.shape_kernels import shape_kernel

_MAX_VALUES = 1 << 20
"""Elements up to which numbers are computed when shapes suffice."""

_META = (torch.device("meta"), "meta")

aten = torch.ops.aten

STEADY_NAMES = (
    "convolution mm addmm native_batch_norm native_layer_norm native_group_norm mean"
    " max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d cat clone detach alias expand"
    " native_dropout _softmax hardswish hardswish_ view _unsafe_view unsqueeze squeeze"
)

STEADY = {getattr(aten, name) for name in STEADY_NAMES.split()}
"""Operators that leave neurons where they are.

Rules of views and grouped convolutions set ``ctx.steady`` to False where that is not so.
"""

UNTAGGED = {"torchvision::nms"}
"""Operators whose result's shape depends on the data, although torch has no tag on them."""


_UNIFORM_FACTORIES = {aten.zeros.default, aten.ones.default, aten.full.default}
"""Operators that make a tensor of one number, from its size and perhaps the number."""

_EMPTY = {aten.empty.memory_format, aten.new_empty.default}
"""Operators whose numbers are whatever lay in memory; here they are zeros."""

_FACTORIES_OF_A_TYPE = {
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
    aten.new_empty.default,
}
"""Operators that take only the type of a tensor, before the size of their result."""


def tensors_in(arguments: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among the arguments of an operator, those in lists included."""
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, (list, tuple)):
            yield from tensors_in(argument)


def _refuse_higher_order(func: Any) -> None:
    """Say that an operator takes functions (``torch.cond``), which cannot be looked into."""
    if isinstance(func, HigherOrderOperator):
        raise ModelError(
            "does-not-run",
            f"torch's operator {func} takes functions, which neurons cannot be followed through; "
            "write the branch or the loop in Python",
        )


def _written(func: Any, args: Any) -> Iterator[Tensor]:
    """The tensors that an operator writes into."""
    for argument, schema in zip(args, func._schema.arguments, strict=False):
        if schema.is_write and isinstance(argument, Tensor):
            yield argument


def _record_view(ctx: Context, func: Any, args: Any, out: Any) -> None:
    if func._schema.name in VIEWS:
        ctx.view_log.record(args[0].shape, out.shape)


Dispatch = Callable[..., Any]


def _unwatched(dispatch: Dispatch) -> Dispatch:
    """A ``__torch_dispatch__`` whose own reads of sizes nobody watches.

    Operators in TorchScript or in C++ code arrive here without a torch function before them, while
    modes for functions are on still.
    """

    @functools.wraps(dispatch)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return dispatch(*args, **kwargs)

    return wrapper


class ShapeReads(TorchDispatchMode):
    """Runs operators on the meta device, without rules."""

    supports_higher_order_operators = True

    def __init__(self, ctx: Context) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ctx = ctx

    @_unwatched
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        _refuse_higher_order(func)
        self.ctx.steps += 1
        kwargs = kwargs or {}
        self.ctx.number_log.record(func, args, kwargs, self.ctx)
        if len({tensor.is_meta for tensor in tensors_in(args)}) > 1:  # a constant meets a value
            args = tree_map(_to_meta, args)
        out = self.ctx.shape_cache.run(func, args, kwargs, shape_kernel(func, args))
        _record_view(self.ctx, func, args, out)
        return out


class Observer(TorchDispatchMode):
    """Runs operators on the meta device and applies their rules; known numbers are computed too."""

    supports_higher_order_operators = True

    def __init__(self, ctx: Context) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ctx = ctx
        # The meta twins of tensors that live elsewhere, by id. The tensor is held as well, so that
        # its id is not given to another one.
        self.twins: dict[int, tuple[Tensor, Tensor]] = {}

    @_unwatched
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        _refuse_higher_order(func)
        kwargs, func = kwargs or {}, sparse.DENSE.get(func, func)
        self.ctx.number_log.record(func, args, kwargs, self.ctx)
        if self.ctx.size_arguments:
            refuse_values(self.ctx, func, args, kwargs)
        tensors = list(tensors_in((*args, *kwargs.values())))
        if sparse.meets_sparse(func, tensors):
            return self._with_sparse(func, args, kwargs, tensors)
        if not all(tensor.is_meta for tensor in tensors):
            args, kwargs = tree_map(self._to_meta, (args, kwargs))
            tensors = list(tensors_in((*args, *kwargs.values())))
        if tensors and "device" in kwargs:
            kwargs = {**kwargs, "device": torch.device("meta")}
        self.ctx.mark_operands(tensors)
        self.ctx.steps += 1
        try:
            if func in _VIEWS_IN_PLACE:
                return self._shaped_in_place(func, args, kwargs)
            out = self._observed(func, args, kwargs, tensors)
            if func._schema.is_mutable:
                self._tell_twins()
            return out
        except Exception as error:
            self.ctx.note_failure(error, tensors)
            raise

    def _with_sparse(self, func: Any, args: Any, kwargs: Any, tensors: Sequence[Tensor]) -> Any:
        """The result of an operator that takes or makes a sparse tensor."""
        self.ctx.steps += 1
        numbers = sparse.computed(func, args, kwargs, self._known)
        if numbers is not None:
            return numbers
        out = sparse.made(func, args)
        if out is None:
            return self.__torch_dispatch__(func, (), *sparse.as_dense((args, kwargs)))
        self.ctx.operator = str(func)
        if any(self.ctx.fields(tensor) for tensor in tensors):
            refuse_unknown(self.ctx, func, tensors, out)
        return out

    def _observed(self, func: Any, args: Any, kwargs: Any, tensors: Sequence[Tensor]) -> Any:
        """The result of an operator, with what is known of it."""
        numbers = self._numbers(func, args, kwargs, tensors)
        bare_views = list(self._views_without_neurons(func, args))
        if func is aten._local_scalar_dense.default:  # ``.item()``
            return _require_known(numbers)
        out = self._result(func, args, kwargs, numbers)
        _record_view(self.ctx, func, args, out)
        if numbers is not None:
            self._attach_numbers(out, numbers)
            self._note_sources(func, tensors, out)
            if tensors and not self.ctx.numbers:
                self._note_constant(func, numbers)
        self.ctx.operator = str(func)
        self._follow_neurons(func, args, tensors, out)
        for view in bare_views:
            if self.ctx.fields(view):
                carry_to_base(self.ctx, view, self._to_meta(view._base))
        if numbers is None and func._schema.is_mutable:
            for written in _written(func, args):
                self.ctx.note_overwritten(written)
        return out

    def _shaped_in_place(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        """A tensor that is given another shape in place, which is what a view of it is."""
        shaped: Tensor = args[0]
        # The rule needs the shape before, which the operator takes away.
        earlier = shaped.detach()
        self.ctx.set_value(earlier, self.ctx.value(shaped))
        view = self._observed(_VIEWS_IN_PLACE[func], (earlier, *args[1:]), kwargs, [earlier])
        func(*args, **kwargs)
        self.ctx.set_value(shaped, self.ctx.value(view))
        return shaped

    def _follow_neurons(self, func: Any, args: Any, tensors: Sequence[Tensor], out: Any) -> None:
        """Apply the rule of an operator that neurons reach."""
        is_recorded = self.ctx.open_norms is not None and follow(self.ctx, func, args, out)
        if is_recorded:
            return
        begins = func is aten.cat.default and holds_new_neurons(self.ctx, args)
        if begins or any(self.ctx.fields(tensor) for tensor in tensors):
            self._apply_rule(func, args, tensors, out)

    def _tell_twins(self) -> None:
        """What was written into the meta twin of a tensor is in the tensor that the model has."""
        for tensor, bare in self.twins.values():
            if self.ctx.fields(bare):
                self.ctx.set_value(tensor, self.ctx.value(bare))

    def _views_without_neurons(self, func: Any, args: Any) -> Iterator[Tensor]:
        """The views that an operator writes into, of tensors that hold no neurons."""
        if func._schema.is_mutable:
            for written in _written(func, args):
                if written._is_view() and not self.ctx.fields(written):
                    yield written

    def _apply_rule(self, func: Any, args: Any, tensors: Sequence[Tensor], out: Any) -> None:
        self.ctx.steady &= _is_steady(func)
        rule = rule_for(func)
        if rule is not None:
            rule(self.ctx, args, out)
            return
        refuse_unknown(self.ctx, func, tensors, out)

    def _to_meta(self, x: Any) -> Any:
        """A tensor that lives elsewhere enters the run: its shape, and its numbers."""
        if not isinstance(x, Tensor) or x.is_meta:
            return x
        if id(x) in self.twins:
            return self.twins[id(x)][1]
        bare = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
        self.ctx.set_value(bare, Value(real=x.detach().clone()))
        self.twins[id(x)] = (x, bare)
        return bare

    def _numbers(self, func: Any, args: Any, kwargs: Any, tensors: Sequence[Tensor]) -> Any:
        """The operator's result in numbers; None if they are not known or too many."""
        if not tensors:
            return self._constant_numbers(func, args, kwargs)
        if func in _FACTORIES_OF_A_TYPE:  # the numbers of their tensor do not matter
            example = torch.empty(0, dtype=tensors[0].dtype, device="cpu")
            on_cpu = {**kwargs, "device": "cpu"}
            if self._too_many(args[1]):
                return None
            numbers = func(example, *args[1:], **on_cpu)
            return numbers.zero_() if func in _EMPTY else numbers
        for tensor in tensors:
            real = self._real(tensor)
            if real is None or self._too_many(real.shape):
                return None
        real_args, real_kwargs = tree_map(self._real_or_same, (args, kwargs))
        if "device" in real_kwargs:
            real_kwargs["device"] = "cpu"
        return func(*real_args, **real_kwargs)

    def _note_constant(self, func: Any, numbers: Any) -> None:
        """What was made of constants may be a size (``ones(d).sum()``): the trial compares it."""
        if func not in _FACTORIES_OF_A_TYPE:
            self.ctx.steady = False  # so that the trial computes it too
            self.ctx.number_log.record_result(func, numbers, self.ctx)

    def _too_many(self, shape: Sequence[int]) -> bool:
        return math.prod(shape) > _MAX_VALUES and not self.ctx.numbers

    def _real(self, tensor: Tensor) -> Tensor | None:
        """The numbers of a tensor, if they are known (of an empty one they are)."""
        if not tensor.numel():
            return torch.empty_like(tensor, device="cpu")
        real = self.ctx.value(tensor).real
        return real if real is None or real.dtype == tensor.dtype else real.to(tensor.dtype)

    def _known(self, tensor: Tensor) -> Tensor | None:
        """The numbers of a tensor, or a tensor that has its values in the run."""
        return self._real(tensor) if tensor.is_meta else tensor

    def _real_or_same(self, x: Any) -> Any:
        return self._real(x) if isinstance(x, Tensor) else x

    def _constant_numbers(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The numbers of a tensor that is made of none (``torch.ones``), unless large or random."""
        if torch.Tag.nondeterministic_seeded in func.tags or kwargs.get("device") not in _META:
            return None
        bare = func(*args, **kwargs)
        if not isinstance(bare, Tensor):
            return None
        if self._too_many(bare.shape):
            return _expanded_numbers(func, args, kwargs)
        numbers: Tensor = func(*args, **{**kwargs, "device": "cpu"})
        if numbers._is_zerotensor():  # of forward differentiation; it has no memory to read from
            return torch.zeros(numbers.shape, dtype=numbers.dtype)
        return numbers.zero_() if func in _EMPTY else numbers

    def _result(self, func: Any, args: Any, kwargs: Any, numbers: Any) -> Any:
        """The operator's result on the meta device: where its numbers are known, like these.

        Their strides decide, as those of the model itself do, whether it can be viewed as another
        shape. A view and what is written into stay what they are to their tensors.
        """
        if numbers is not None and (shares_no_memory(func) or _is_data_dependent(func)):
            return tree_map(_meta_like, numbers)
        out = self.ctx.shape_cache.run(func, args, kwargs, shape_kernel(func, args))
        return out.zero_() if func in _EMPTY and not out.is_meta else out

    def _attach_numbers(self, out: Any, numbers: Any) -> None:
        for bare, real in zip(tree_leaves(out), tree_leaves(numbers), strict=True):
            if isinstance(bare, Tensor) and isinstance(real, Tensor):
                self.ctx.set_value(bare, replace(self.ctx.value(bare), real=real))

    def _note_sources(self, func: Any, tensors: Sequence[Tensor], out: Any) -> None:
        """Note of which constants a constant is computed element by element."""
        keeps_places = torch.Tag.pointwise in func.tags or func in _COPIES
        if keeps_places and isinstance(out, Tensor) and not self.ctx.fields(out):
            sources = tuple(tensor for tensor in tensors if tensor is not out)
            self.ctx.set_value(out, replace(self.ctx.value(out), made_of=sources))


_COPIES = {aten.clone.default, aten._to_copy.default}
"""Operators beside the pointwise ones that leave every element where it is."""


def _expanded_numbers(func: Any, args: Any, kwargs: Any) -> Tensor | None:
    """The numbers of a large tensor that holds one number only, in the memory of that number."""
    if func not in _UNIFORM_FACTORIES:
        return None
    size = args[0]
    one: Tensor = func([1] * len(size), *args[1:], **{**kwargs, "device": "cpu"})
    return one.expand(size)


class Composites(TorchFunctionMode):
    """Runs functions of torch that are observed as a whole, before torch takes them apart.

    Args:
        ctx: the context of the run; None if only its shapes are of interest.
    """

    def __init__(self, ctx: Context | None) -> None:
        super().__init__()
        self.ctx = ctx

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        composite = COMPOSITES.get(func)
        if composite is None or kwargs:
            return func(*args, **(kwargs or {}))
        return composite(func, self.ctx, args)


class WriteWatch(TorchFunctionMode):
    """Reads a number that is written into a string (``f"expert_{index}"``).

    A meta tensor would write its repr.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__format__ and args[0].dim() == 0:
            return format(args[0].item(), args[1])
        return func(*args, **(kwargs or {}))


_GIVE_NUMBERS = (Tensor.tolist, Tensor.numpy, Tensor.__array__)
"""Functions that give the numbers of a tensor to Python or numpy."""

READ_OUT = "its values are read one by one, outside of torch"

_MAKE_CONSTANTS = (torch.tensor, torch.as_tensor, torch.asarray)


class Constants(TorchFunctionMode):
    """Makes tensors of Python numbers on the CPU, whatever device is asked for, to know them.

    Of a function that fails before it comes to an operator the tensors are noted.

    Args:
        ctx: the context of the run, which is told the numbers.
    """

    def __init__(self, ctx: Context) -> None:
        super().__init__()
        self.ctx = ctx

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _MAKE_CONSTANTS and args and not isinstance(args[0], Tensor):
            kwargs.pop("device", None)
            self.ctx.number_log.record_constant(args[0], self.ctx)
        if func is Tensor.__getitem__:
            args = (args[0], _known_indices(args[1]))
        if func in _GIVE_NUMBERS and args[0].is_meta:
            return self._numbers_of(func, args, kwargs)
        if func is torch._weight_norm and not self.ctx.numbers:
            # For some dimensions torch takes it apart, so that a rule would not see it.
            return aten._weight_norm_interface(*args, **kwargs)[0]
        try:
            return func(*args, **kwargs)
        except Exception as error:
            self.ctx.note_failure(error, tensors_in((*args, *kwargs.values())))
            raise

    def _numbers_of(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What a function that leaves torch gives of the numbers of a tensor, if they are known."""
        x = args[0]
        real = _require_known(self.ctx.value(x).real)
        self.ctx.operator = func.__name__
        self.ctx.mark_operands([x])
        with _disable_current_modes():
            self.ctx.pin_fields(self.ctx.fields(x).values(), "sliced", READ_OUT)
            return func(real.detach().clone(), *args[1:], **kwargs)


def _known_indices(index: Any) -> Any:
    """An index with tensors for lists of numbers (``[-2]``), of which torch makes meta ones."""
    if not isinstance(index, tuple):
        return index
    return tuple(torch.tensor(entry) if _is_list_of_numbers(entry) else entry for entry in index)


def _is_list_of_numbers(entry: Any) -> bool:
    return isinstance(entry, list) and bool(entry) and all(type(number) is int for number in entry)


_VIEWS_IN_PLACE = {
    aten.squeeze_.default: aten.squeeze.default,
    aten.squeeze_.dim: aten.squeeze.dim,
    aten.squeeze_.dims: aten.squeeze.dims,
    aten.unsqueeze_.default: aten.unsqueeze.default,
    aten.t_.default: aten.t.default,
    aten.transpose_.default: aten.transpose.int,
}
"""Operators that give their tensor another shape, and those that give a tensor of that shape."""


def _is_steady(func: Any) -> bool:
    """Whether an operator leaves neurons where they are; a rule that a user registered need not."""
    known = func.overloadpacket in STEADY or torch.Tag.pointwise in func.tags
    return known and REGISTRY.registered(func) is None


def _is_data_dependent(func: Any) -> bool:
    """Whether the numbers decide on the shape of the result."""
    if func._schema.name in UNTAGGED:
        return True
    return (
        torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags
    )


def _to_meta(x: Any) -> Any:
    return x.to("meta") if isinstance(x, Tensor) else x


def _meta_like(x: Any) -> Any:
    """A tensor on the meta device with the same strides; of an expanded one with its own memory."""
    if not isinstance(x, Tensor):
        return x
    if 0 in x.stride():
        return torch.empty_like(x, device="meta")
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _require_known(numbers: Any) -> Any:
    if numbers is None:
        raise ModelError(
            "data-dependent", "the model reads a number out of a tensor whose numbers are not known"
        )
    return numbers
