"""Run a model once on meta tensors and let the rules see every ATen operator."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.capture import first_line
from fxgrow.coupling.fields import flat
from fxgrow.coupling.rules import rule_for
from fxgrow.coupling.values import Axis, Context, Value
from fxgrow.errors import ModelError

Run = Callable[[nn.Module, tuple[Any, ...], Context], Any]
_REAL_LIMIT = 1 << 20


def skeleton(model: nn.Module) -> nn.Module:
    """A copy of the model whose floating-point tensors are on the meta device; whole numbers keep their values."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            bare = torch.empty_like(tensor, device="meta")
            memo[id(tensor)] = nn.Parameter(bare, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else bare
    return copy.deepcopy(model, memo)


def meta_inputs(example_inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The example inputs on the meta device, whole numbers as they are."""
    moved: tuple[Any, ...] = tree_map(lambda x: x.to("meta") if _floating(x) else x, example_inputs)
    return moved


def _floating(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def observe(model: nn.Module, example_inputs: tuple[Any, ...], run: Run) -> Context:
    """Run the model's skeleton and give back everything that the rules learnt.

    The run is in train mode, where auxiliary heads take part; in eval mode too if some parameter was not met.
    """
    ctx = Context()
    bare = skeleton(model)
    for name, tensor in (*bare.named_parameters(), *bare.named_buffers()):
        if tensor.is_meta:
            fixed = not isinstance(tensor, nn.Parameter)
            axes = tuple(
                Axis(name, dim, ctx.labels.fresh(size), constant=fixed) for dim, size in enumerate(tensor.shape)
            )
            ctx.axes.extend(axes)
            ctx.label(tensor, axes)
    inputs = meta_inputs(example_inputs)
    failures = [run_once(ctx, bare, inputs, run, training=True)]
    met = {parameter for parameter, _ in ctx.roles}
    if failures[0] or any(name not in met for name, _ in bare.named_parameters()):
        failures.append(run_once(ctx, bare, inputs, run, training=False))
    if all(failures):
        last = next(error for error in reversed(failures) if error)
        message = f"{type(model).__name__} does not run on its example inputs: {first_line(last)}"
        raise ModelError("does-not-run", message) from last
    ctx.settle()
    return ctx


def run_once(ctx: Context, bare: nn.Module, inputs: tuple[Any, ...], run: Run, training: bool) -> Exception | None:
    """One pass in train or eval mode (dropout off in both: it only adds noise of the same shape)."""
    for module in bare.modules():
        module.training = training and not isinstance(module, _DropoutNd)
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(_plain_attention())
            stack.enter_context(_module_paths(ctx, bare))
            stack.enter_context(Observer(ctx))
            output = run(bare, inputs, ctx)
    except Exception as error:  # noqa: BLE001 - whatever the user's model raises: the caller reports it if no mode works
        return error
    ctx.passes[training] = tuple(tuple(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    for field in (field for tensor in tree_leaves(output) for field in ctx.fields(tensor).values()):
        ctx.labels.pin(flat(field), "output", "is part of the model's output", "model: output")
    return None


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Fused attention hides its projections; run the plain one, whose operators have rules."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _module_paths(ctx: Context, bare: nn.Module) -> Iterator[None]:
    """Keep ``ctx.modules`` the stack of the modules that are running."""

    def leave(*_: Any) -> None:
        ctx.modules.pop()

    hooks = []
    for name, module in bare.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: ctx.modules.append(name)))
        hooks.append(module.register_forward_hook(leave))
    del ctx.modules[1:]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _normalised(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The results of a batch normalisation (its statistics are read by the backward pass only)."""
    return torch.empty_like(x), x.new_empty(0), x.new_empty(0)


SHAPES: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.native_batch_norm.default: _normalised,
    torch.ops.aten.native_layer_norm.default: lambda x, *_: _normalised(x.contiguous()),
}
"""Operators that torch decomposes on the meta device, which would take half the time of a run."""


def tensors_in(arguments: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among the arguments of an operator, those in lists included."""
    for one in arguments:
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, (list, tuple)):
            yield from tensors_in(one)


class Observer(TorchDispatchMode):
    """Runs every operator on the meta device and applies its rule; whole numbers are also computed for real."""

    def __init__(self, ctx: Context) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ctx = ctx
        self.twins: dict[int, tuple[Tensor, Tensor]] = {}  # the meta twins of tensors that live elsewhere

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = list(tensors_in((*args, *kwargs.values())))
        if not all(tensor.is_meta for tensor in tensors):
            args, kwargs = tree_map(self._to_meta, (args, kwargs))
            tensors = list(tensors_in((*args, *kwargs.values())))
        known = bool(tensors) and all(self._known(tensor) for tensor in tensors)
        real = self._real(func, args, kwargs) if known else None
        if func is torch.ops.aten._local_scalar_dense.default:
            return self._item(real)
        out = SHAPES.get(func, func)(*args, **kwargs)
        if isinstance(out, Tensor) and isinstance(real, Tensor):
            self.ctx.know(out, Value(self.ctx.fields(out), self.ctx.value(out).axes, real))
        if any(self.ctx.fields(tensor) for tensor in tensors):
            self._apply(func, args, tensors, out)
        return out

    def _apply(self, func: Any, args: Any, tensors: Sequence[Tensor], out: Any) -> None:
        self.ctx.operator = str(func)
        rule = rule_for(func)
        if rule is not None:
            rule(self.ctx, args, out)
            return
        for tensor in tensors:
            self.ctx.pin_all(
                self.ctx.fields(tensor).values(), "unknown-operator", f"fxgrow has no rule for the operator {func}"
            )

    def _to_meta(self, x: Any) -> Any:
        """A tensor that lives elsewhere enters the run: its shape, and its values if they are whole numbers."""
        if not isinstance(x, Tensor) or x.is_meta:
            return x
        known = self.twins.get(id(x))
        if known is not None:
            return known[1]
        bare = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
        if not x.is_floating_point():
            self.ctx.know(bare, Value(real=x))
        self.twins[id(x)] = (x, bare)
        return bare

    def _real(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The operator's real result; its operands are known whole numbers."""
        swap = lambda x: self.ctx.value(x).real.clone() if isinstance(x, Tensor) else x  # type: ignore[union-attr]  # noqa: E731
        real_args, real_kwargs = tree_map(swap, (args, kwargs))
        if "device" in real_kwargs:
            real_kwargs["device"] = "cpu"
        return func(*real_args, **real_kwargs)

    def _known(self, tensor: Tensor) -> bool:
        real = self.ctx.value(tensor).real
        return real is not None and real.numel() <= _REAL_LIMIT

    def _item(self, real: Any) -> Any:
        if real is None:
            raise ModelError("data-dependent", "the model reads a number out of a tensor of floats (.item())")
        return real
