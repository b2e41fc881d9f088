"""Every ATen operator of a run passes here: it runs on the meta device, and the rule of its row sees it.

A value may have its *numbers* beside its shape, because models read some of them (masks that call ``.item()``, routing
of tokens to experts, suppression of boxes). Whole numbers and small constants always do; the parameters and inputs do
if ``ctx.numbers`` is set, which makes a run as dear as a real one and is therefore tried only where shapes alone fail.
Numbers share their memory as the model's own tensors do, so that writing into a view is seen in the whole.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.coupling.rules import rule_for
from fxgrow.coupling.rules.registry import REGISTRY
from fxgrow.coupling.values import Context, Value
from fxgrow.errors import ModelError
from fxgrow.meta import ShapeCache

_MAX_VALUES = 1 << 20
"""Elements up to which numbers are kept when shapes suffice."""

aten = torch.ops.aten


def _normalised(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The results of a batch normalisation (its statistics are read by the backward pass only)."""
    return torch.empty_like(x), x.new_empty(0), x.new_empty(0)


def _like_first(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return torch.empty_like(x)


def _first(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


_ACTIVATIONS = "relu hardtanh hardswish hardsigmoid silu gelu elu leaky_relu sigmoid tanh mish softplus _softmax _safe_softmax"

_SHAPE_READS: dict[Any, Callable[..., Any]] = {
    **{getattr(aten, name).default: _like_first for name in _ACTIVATIONS.split()},
    **{
        getattr(aten, name + "_").default: _first
        for name in _ACTIVATIONS.split()
        if hasattr(aten, name + "_")
    },
    aten.native_batch_norm.default: _normalised,
    aten.native_layer_norm.default: lambda x, *_: _normalised(x.contiguous()),
    aten._grouped_mm.default: lambda a, b, *_, **__: a.new_empty((*a.shape[:-1], b.shape[-1])),
}
"""Operators that torch decomposes on the meta device, which would take half the time of a run, or that it refuses."""

_STEADY = (
    "convolution mm addmm native_batch_norm native_layer_norm native_group_norm mean max_pool2d_with_indices avg_pool2d"
    " _adaptive_avg_pool2d cat clone detach alias expand native_dropout _softmax hardswish hardswish_ view _unsafe_view"
    " unsqueeze squeeze"
)
STEADY = {getattr(aten, name) for name in _STEADY.split()}
"""Operators that leave neurons where they are (views and grouped convolutions say themselves when they do not)."""


def tensors_in(arguments: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among the arguments of an operator, those in lists included."""
    for one in arguments:
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, (list, tuple)):
            yield from tensors_in(one)


class ShapeReads(TorchDispatchMode):
    """Runs operators on the meta device, and nobody watches."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.memory = ShapeCache()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.memory.run(func, args, kwargs or {}, _SHAPE_READS.get(func))


class Observer(TorchDispatchMode):
    """Runs every operator on the meta device and applies its rule; known numbers are computed as well."""

    def __init__(self, ctx: Context) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ctx = ctx
        self.memory = ShapeCache()
        self.twins: dict[
            int, tuple[Tensor, Tensor]
        ] = {}  # the meta twins of tensors that live elsewhere

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = list(tensors_in((*args, *kwargs.values())))
        if not all(tensor.is_meta for tensor in tensors):
            args, kwargs = tree_map(self._to_meta, (args, kwargs))
            tensors = list(tensors_in((*args, *kwargs.values())))
        if tensors and "device" in kwargs:
            kwargs = {**kwargs, "device": torch.device("meta")}
        for tensor in tensors:
            self.ctx.mark_read(tensor)
        numbers = self._numbers(func, args, kwargs, tensors)
        if func is aten._local_scalar_dense.default:
            return _number(numbers)
        out = self._out(func, args, kwargs, numbers)
        if numbers is not None:
            self._know(out, numbers)
        if any(self.ctx.fields(tensor) for tensor in tensors):
            self._apply(func, args, tensors, out)
        return out

    def _apply(self, func: Any, args: Any, tensors: Sequence[Tensor], out: Any) -> None:
        self.ctx.operator = str(func)
        self.ctx.steady &= _steady(func)
        rule = rule_for(func)
        if rule is not None:
            rule(self.ctx, args, out)
            return
        for tensor in tensors:
            self.ctx.pin_fields(
                self.ctx.fields(tensor).values(),
                "unknown-operator",
                f"fxgrow has no rule for the operator {func}; register_rule adds one",
            )

    def _to_meta(self, x: Any) -> Any:
        """A tensor that lives elsewhere enters the run: its shape, and its numbers."""
        if not isinstance(x, Tensor) or x.is_meta:
            return x
        known = self.twins.get(id(x))
        if known is not None:
            return known[1]
        bare = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
        self.ctx.set_value(bare, Value(real=x.detach().clone()))
        self.twins[id(x)] = (x, bare)
        return bare

    def _numbers(self, func: Any, args: Any, kwargs: Any, tensors: Sequence[Tensor]) -> Any:
        """The operator's result in numbers; None if they are not known (or not worth it)."""
        if not tensors:
            return self._made(func, args, kwargs)
        reals = [self._real(tensor) for tensor in tensors]
        if any(
            real is None or (real.numel() > _MAX_VALUES and not self.ctx.numbers) for real in reals
        ):
            return None
        swap = lambda x: self._real(x) if isinstance(x, Tensor) else x  # noqa: E731
        real_args, real_kwargs = tree_map(swap, (args, kwargs))
        if "device" in real_kwargs:
            real_kwargs["device"] = "cpu"
        return func(*real_args, **real_kwargs)

    def _real(self, tensor: Tensor) -> Tensor | None:
        """The numbers of a tensor, if they are known (of an empty one they are)."""
        if not tensor.numel():
            return torch.empty_like(tensor, device="cpu")
        real = self.ctx.value(tensor).real
        return real if real is None or real.dtype == tensor.dtype else real.to(tensor.dtype)

    def _made(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The numbers of a tensor that is made of none (``torch.ones``), unless it is large or random."""
        if torch.Tag.nondeterministic_seeded in func.tags or kwargs.get("device") not in _META:
            return None
        bare = func(*args, **kwargs)
        if not isinstance(bare, Tensor) or (bare.numel() > _MAX_VALUES and not self.ctx.numbers):
            return None
        return func(*args, **{**kwargs, "device": "cpu"})

    def _out(self, func: Any, args: Any, kwargs: Any, numbers: Any) -> Any:
        """The operator's result on the meta device. Where the numbers decide on its shape, they give it."""
        if numbers is None or not _data_dependent(func):
            return self.memory.run(func, args, kwargs, _SHAPE_READS.get(func))
        return tree_map(
            lambda x: torch.empty_like(x, device="meta") if isinstance(x, Tensor) else x, numbers
        )

    def _know(self, out: Any, numbers: Any) -> None:
        for bare, real in zip(tree_leaves(out), tree_leaves(numbers), strict=True):
            if isinstance(bare, Tensor) and isinstance(real, Tensor):
                self.ctx.set_value(
                    bare, Value(self.ctx.fields(bare), self.ctx.value(bare).axes, real)
                )


UNTAGGED = {"torchvision::nms"}
"""Operators whose result's shape depends on the data, although nobody says so."""

_META = (torch.device("meta"), "meta")


class WriteWatch(TorchFunctionMode):
    """A number that is written into a string (``f"expert_{index}"``) is read; a meta tensor would write its repr."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__format__ and args[0].dim() == 0:
            return format(args[0].item(), args[1])
        return func(*args, **(kwargs or {}))


class Constants(TorchFunctionMode):
    """Tensors that are made of Python numbers keep them: they are made on the CPU, whatever device is asked for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if (
            func in (torch.tensor, torch.as_tensor, torch.asarray)
            and args
            and not isinstance(args[0], Tensor)
        ):
            kwargs.pop("device", None)
        return func(*args, **kwargs)


def _steady(func: Any) -> bool:
    """Whether an operator leaves neurons where they are; a rule that a user registered need not."""
    known = func.overloadpacket in STEADY or torch.Tag.pointwise in func.tags
    return known and REGISTRY.registered(func) is None


def _data_dependent(func: Any) -> bool:
    tagged = (
        torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags
    )
    return tagged or func._schema.name in UNTAGGED


def _number(numbers: Any) -> Any:
    if numbers is None:
        raise ModelError(
            "data-dependent", "the model reads a number out of a tensor whose numbers are not known"
        )
    return numbers
