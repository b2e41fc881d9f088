"""Run a model once on meta tensors and let the rules see every ATen operator."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.capture import first_line
from fxgrow.coupling.fields import flat
from fxgrow.coupling.rules import rule_for
from fxgrow.coupling.values import Axis, Context, Subject, Value
from fxgrow.errors import ModelError

_REAL_LIMIT = 1 << 20


def skeleton(model: nn.Module) -> nn.Module:
    """A copy of the model whose floating-point tensors are on the meta device; whole numbers keep their values.

    The counters of batch norms are left out: no neuron reaches them and they would cost an operator per layer.
    """
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            bare = torch.empty_like(tensor, device="meta")
            memo[id(tensor)] = nn.Parameter(bare, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else bare
    copied = _bare_root(model, memo) if isinstance(model, fx.GraphModule) else _bare_copy(model, memo)
    for norm in (module for module in copied.modules() if isinstance(module, _NormBase)):
        norm.num_batches_tracked = None
    return copied


def _bare_root(graph_module: fx.GraphModule, memo: dict[int, Any]) -> nn.Module:
    """What a graph is interpreted on: the modules and values that it names."""
    root = nn.Module()
    known = vars(root).keys()
    for key, value in vars(graph_module).items():
        if key in known or isinstance(value, (Tensor, nn.Module)):
            vars(root)[key] = _bare_value(key, value, memo)
    return root


def _bare_copy(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """``copy.deepcopy`` of a module, which spends most of its time on a dozen empty dictionaries of hooks."""
    if id(module) in memo:
        return memo[id(module)]  # type: ignore[no-any-return]
    kind = type(module)
    if hasattr(kind, "__deepcopy__"):
        return copy.deepcopy(module, memo)
    new = kind.__new__(kind)
    memo[id(module)] = new
    for key, value in vars(module).items():
        vars(new)[key] = _bare_value(key, value, memo)
    return new


def _bare_value(key: str, value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, dict) and not value:
        return type(value)()
    if key == "_modules":
        return {name: child if child is None else _bare_copy(child, memo) for name, child in value.items()}
    return copy.deepcopy(value, memo)


def meta_inputs(example_inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The example inputs on the meta device, whole numbers as they are."""
    moved: tuple[Any, ...] = tree_map(lambda x: x.to("meta") if _floating(x) else x, example_inputs)
    return moved


def _floating(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def observe(subjects: Sequence[Subject]) -> Context:
    """Run the skeletons of one model's subjects and give back everything that the rules learnt.

    The first is run in train mode, where auxiliary heads take part. While some parameter was not met, it is run in
    eval mode too, and so are the other subjects, whose parameters have the same names.
    """
    ctx = Context()
    failures: list[Exception | None] = []
    for subject in subjects:
        bare = skeleton(subject.model)
        _label(ctx, bare)
        for training in (True, False):
            if not failures or failures[-1] or _unmet(ctx, bare):
                failures.append(run_once(ctx, bare, subject, training))
    if all(failures):
        last = next(error for error in reversed(failures) if error)
        message = f"{type(subjects[0].model).__name__} does not run on its example inputs: {first_line(last)}"
        raise ModelError("does-not-run", message) from last
    ctx.settle()
    return ctx


def _label(ctx: Context, bare: nn.Module) -> None:
    """Give every axis of every parameter and buffer its labels, the same ones if its name has some."""
    known: dict[str, list[Axis]] = defaultdict(list)
    for axis in ctx.axes:
        known[axis.parameter].append(axis)
    for name, tensor in (*bare.named_parameters(), *bare.named_buffers()):
        if not tensor.is_meta:
            continue
        axes = known.get(name)
        if axes is None:
            fixed = not isinstance(tensor, nn.Parameter)
            axes = [Axis(name, dim, ctx.labels.fresh(size), constant=fixed) for dim, size in enumerate(tensor.shape)]
            ctx.axes.extend(axes)
        ctx.label(tensor, tuple(axes))


def _unmet(ctx: Context, bare: nn.Module) -> bool:
    met = {parameter for parameter, _ in ctx.roles}
    return any(name not in met for name, _ in bare.named_parameters())


def run_once(ctx: Context, bare: nn.Module, subject: Subject, training: bool) -> Exception | None:
    """One pass in train or eval mode (dropout off in both: it only adds noise of the same shape)."""
    for module in bare.modules():
        module.training = training and not isinstance(module, _DropoutNd)
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(_plain_attention())
            stack.enter_context(_module_paths(ctx, bare))
            stack.enter_context(Observer(ctx))
            output = subject.run(bare, meta_inputs(subject.example_inputs), ctx)
    except Exception as error:  # noqa: BLE001 - whatever the user's model raises: the caller reports it if no mode works
        return error
    shapes = tuple(tuple(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    ctx.passes.setdefault(subject, {})[training] = shapes
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
