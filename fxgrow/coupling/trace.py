"""Run a model's skeleton under the observer, and gather what the rules learnt."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves

from fxgrow.capture import first_line
from fxgrow.coupling.fields import flat_labels
from fxgrow.coupling.meta_copy import meta_copy, meta_inputs
from fxgrow.coupling.observer import Constants, Observer, ShapeReads, WriteWatch
from fxgrow.coupling.values import Axis, Context, Observed, Value
from fxgrow.errors import ModelError
from fxgrow.randomness import seeded
from fxgrow.surgery import named_tensors


def observe(subjects: Sequence[Observed]) -> Context:
    """Run the skeletons of one model's subjects and give back everything that the rules learnt.

    The first subject is run in eval mode. While some parameter was not met (an auxiliary head), it is run in train mode
    too, and so are the other subjects, whose parameters have the same names. A model that cannot run on shapes alone
    is run with its numbers.
    """
    contexts = (Context(numbers=numbers) for numbers in (False, True))
    failures: list[Exception] = []
    for ctx in contexts:
        failures = _observe(ctx, subjects)
        if ctx.passes:
            ctx.resolve_roles()
            return ctx
    message = f"{type(subjects[0].model).__name__} does not run on its example inputs: {first_line(failures[0])}"
    raise ModelError("does-not-run", message) from failures[0]


def _observe(ctx: Context, subjects: Sequence[Observed]) -> list[Exception]:
    failures = []
    for subject, training in itertools.product(subjects, (False, True)):
        if not ctx.passes or _unmet(ctx):
            bare = meta_copy(subject.model)
            label_parameters(ctx, bare)
            attach_values(ctx, bare, named_tensors(subject.model))
            error = run_once(ctx, bare, subject, training)
            failures += [error] if error else []
    return failures


def label_parameters(ctx: Context, bare: nn.Module) -> None:
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
            axes = [
                Axis(name, dim, ctx.labels.new(size), constant=fixed)
                for dim, size in enumerate(tensor.shape)
            ]
            ctx.axes.extend(axes)
        ctx.label(tensor, tuple(axes))


def attach_values(ctx: Context, bare: nn.Module, numbers: Mapping[str, Tensor]) -> None:
    """Where numbers are asked for, give those of the parameters and buffers to their bare twins."""
    if not ctx.numbers:
        return
    for name, tensor in named_tensors(bare).items():
        real = numbers.get(name)
        if real is not None and tensor.is_meta and not real.is_meta:
            value = ctx.value(tensor)
            ctx.set_value(tensor, Value(value.fields, value.axes, real.detach().clone()))


def _unmet(ctx: Context) -> bool:
    met = {parameter for parameter, _ in ctx.roles}
    return any(axis.parameter not in met for axis in ctx.axes if not axis.constant)


def run_once(
    ctx: Context, bare: nn.Module, subject: Observed, training: bool, watch: bool = True
) -> Exception | None:
    """One pass in train or eval mode (dropout off in both: it only adds noise of the same shape).

    ``watch``: whether the rules see it, or the shapes alone are of interest.
    """
    parts = list(bare.named_modules())
    for _, module in parts:
        module.training = training and not isinstance(module, _DropoutNd)
    inputs = meta_inputs(subject.example_inputs)
    if ctx.numbers:
        _know_inputs(ctx, inputs, subject.example_inputs)
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(
                seeded(0)
            )  # a layer that is dropped at random must be so in every run
            stack.enter_context(_plain_attention())
            stack.enter_context(_module_paths(ctx, parts))
            stack.enter_context(Constants())
            if ctx.numbers:
                stack.enter_context(WriteWatch())
            stack.enter_context(Observer(ctx) if watch else ShapeReads())
            output = subject.run(bare, inputs, ctx)
    except Exception as error:  # noqa: BLE001 - whatever the user's model raises: the caller reports it if no mode works
        return error
    shapes = tuple(tuple(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    ctx.passes.setdefault(subject, {})[training] = shapes
    for tensor in tree_leaves(output):
        ctx.mark_read(tensor)
    for field in (field for tensor in tree_leaves(output) for field in ctx.fields(tensor).values()):
        ctx.labels.pin(
            flat_labels(field), "output", "is part of the model's output", "model: output"
        )
    return None


def _know_inputs(ctx: Context, inputs: tuple[Any, ...], example_inputs: tuple[Any, ...]) -> None:
    for bare, real in zip(tree_leaves(inputs), tree_leaves(example_inputs), strict=True):
        if isinstance(bare, Tensor) and bare.is_meta and not real.is_meta:
            ctx.set_value(bare, Value(real=real.detach().clone()))


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
def _module_paths(ctx: Context, parts: Sequence[tuple[str, nn.Module]]) -> Iterator[None]:
    """Keep ``ctx.modules`` the stack of the modules that are running."""

    def leave(*_: Any) -> None:
        ctx.modules.pop()

    hooks = []
    for name, module in parts:
        hooks.append(
            module.register_forward_pre_hook(lambda *_, name=name: ctx.modules.append(name))
        )
        hooks.append(module.register_forward_hook(leave))
    del ctx.modules[1:]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
