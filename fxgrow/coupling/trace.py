"""Run the bare copy of a model under the observer, and gather what the rules learn."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves

from fxgrow.capture import first_line, output_leaves
from fxgrow.coupling.context import Context, Observed
from fxgrow.coupling.fields import flat_labels
from fxgrow.coupling.meta_copy import meta_copy, meta_inputs
from fxgrow.coupling.number_log import NumberLog
from fxgrow.coupling.observer import Composites, Constants, Observer, ShapeReads, WriteWatch
from fxgrow.coupling.open_norms import OpenNorms
from fxgrow.coupling.repeated import Recorded
from fxgrow.coupling.rules.einsum import WholeEinsum
from fxgrow.coupling.size_numbers import (
    SizeAttributeGuess,
    SizeWatcher,
    axis_sizes,
    size_number,
)
from fxgrow.coupling.size_reads import SizeReads
from fxgrow.coupling.size_records import SizeRecord, watch_sizes
from fxgrow.coupling.training_code import reads_training_mode
from fxgrow.coupling.values import Axis, Value
from fxgrow.coupling.view_log import ViewLog
from fxgrow.errors import ModelError
from fxgrow.modes import plain_attention
from fxgrow.randomness import seeded
from fxgrow.surgery import (
    has_size_attributes,
    named_tensors,
    normalized_weights,
    set_integer,
    sync_size_attributes,
)
from fxgrow.user_lines import packages_of

_SAME_IN_BOTH_MODES = (_DropoutNd, _BatchNorm)
"""Layers that do the same to neurons in both modes."""


def observe(
    examples: Sequence[Sequence[Observed]],
    records: Sequence[SizeRecord] = (),
    followed: tuple[SizeAttributeGuess, ...] = (),
    open_norms: bool = False,
) -> Context:
    """Run bare copies of one model's subjects and gather what the rules learn.

    Each is run in eval mode, the graph for what its nodes do, the model for what its modules do.
    While some parameter was not met (an auxiliary head), it is run in train mode too, and so is a
    model whose own code asks for the mode.
    A model that cannot run on shapes alone is run with its numbers.

    Args:
        examples: for each example the graph of a model, if there is one, and the model.
        records: sizes that the model writes down, to be watched.
        followed: attributes of modules that are sizes as well.
        open_norms: tell what lies before a norm from what lies behind it (``open_norms``).

    Returns:
        The context that the rules wrote to: what holds for all examples together.

    Raises:
        ModelError: ``does-not-run``, if no subject of some example runs in any mode.
    """
    model = examples[0][-1].model
    error = None
    for numbers in (False, True):
        ctx = Context(
            numbers=numbers,
            follows_sizes=True,
            followed=followed,
            packages=packages_of(model),
            open_norms=OpenNorms() if open_norms else None,
            normalized=frozenset(weight.direction for weight in normalized_weights(model)),
        )
        error = _run_examples(ctx, examples, records)
        if error is None:
            ctx.resolve_roles()
            ctx.resolve_weight_products()
            return ctx
    raise error  # type: ignore[misc]


def _run_examples(
    ctx: Context, examples: Sequence[Sequence[Observed]], records: Sequence[SizeRecord]
) -> ModelError | None:
    """Run every example; gives back the error of the first one that does not run."""
    for number, subjects in enumerate(examples):
        failures = _run_until_all_met(ctx, subjects, records)
        if ctx.passes.keys().isdisjoint(subjects):
            name = type(subjects[-1].model).__name__
            which = f" of example {number}" if len(examples) > 1 else ""
            message = f"{name} does not run on its example inputs{which}: {first_line(failures[0])}"
            error = ModelError("does-not-run", message)
            error.__cause__ = failures[0]
            return error
    return None


def _run_until_all_met(
    ctx: Context, subjects: Sequence[Observed], records: Sequence[SizeRecord]
) -> list[Exception]:
    """Run the subjects, in both modes until every parameter was met; gives back what went wrong."""
    failures: list[Exception] = []
    model = subjects[-1].model
    owned = _names_of(model)
    for subject in subjects:
        # A graph was captured in evaluation mode, and is the same in both.
        differs = subject is subjects[-1] and reads_training_mode(model)
        for training in (False, True):
            if ctx.passes.get(subject) and not differs and not _unmet(ctx, model):
                break
            bare = meta_copy(subject.model)
            label_parameters(ctx, bare, owned)
            watch_sizes(ctx, bare, records)
            numbers = named_tensors(subject.model)
            attach_values(ctx, bare, numbers)
            _attach_constants(ctx, bare, owned, numbers)
            error = run_once(ctx, bare, subject, training)
            if error is not None:
                failures.append(error)
    return failures


def _names_of(model: nn.Module) -> frozenset[str]:
    """The names of all parameters and buffers of a model, all those of tied ones included."""
    names: set[str] = set()
    for name, _ in model.named_parameters(remove_duplicate=False):
        names.add(name)
    for name, _ in model.named_buffers(remove_duplicate=False):
        names.add(name)
    return frozenset(names)


def label_parameters(ctx: Context, bare: nn.Module, owned: Set[str]) -> None:
    """Label every axis of every parameter and buffer; one whose name is known keeps its labels.

    Args:
        ctx: the context of the run.
        bare: the bare copy of a model.
        owned: the names that the user's own model has. What a graph holds beside these are
            constants, which do not grow.
    """
    known: dict[str, list[Axis]] = defaultdict(list)
    for axis in ctx.axes:
        known[axis.parameter].append(axis)
    for name, tensor in (*bare.named_parameters(), *bare.named_buffers()):
        if not tensor.is_meta or name not in owned:
            continue
        axes = known.get(name)
        if axes is None:
            axes = _new_axes(ctx, name, tensor)
            ctx.axes.extend(axes)
        ctx.label(tensor, tuple(axes))


def _new_axes(ctx: Context, name: str, tensor: Tensor) -> list[Axis]:
    is_buffer = not isinstance(tensor, nn.Parameter)
    axes = []
    for dim, size in enumerate(tensor.shape):
        axes.append(Axis(name, dim, ctx.labels.new(size), constant=is_buffer))
    return axes


def attach_values(ctx: Context, bare: nn.Module, numbers: Mapping[str, Tensor]) -> None:
    """Give a bare copy the numbers of its parameters and buffers, where numbers are asked for.

    Args:
        ctx: the context of the run.
        bare: the bare copy of a model.
        numbers: the model's parameters and buffers by name.
    """
    if not ctx.numbers:
        return
    for name, tensor in named_tensors(bare).items():
        _attach(ctx, tensor, numbers.get(name))


def _attach_constants(
    ctx: Context, bare: nn.Module, owned: Set[str], numbers: Mapping[str, Tensor]
) -> None:
    """Give a graph the constants of one number that it holds beside what the user's model has.

    One may be a first state that is as long as the neurons it becomes (``cat([x, zeros(1, d)])``).
    """
    for name, tensor in named_tensors(bare).items():
        if name not in owned and name in numbers and _holds_one_number(numbers[name]):
            _attach(ctx, tensor, numbers[name])


def _attach(ctx: Context, tensor: Tensor, real: Tensor | None) -> None:
    if real is not None and tensor.is_meta and not real.is_meta:
        value = ctx.value(tensor)
        ctx.set_value(tensor, Value(value.fields, value.axes, real.detach().clone()))


def _holds_one_number(tensor: Tensor) -> bool:
    if tensor.layout is not torch.strided or tensor.is_meta or not tensor.numel():
        return False
    return bool((tensor == tensor.flatten()[0]).all())


def _unmet(ctx: Context, model: nn.Module) -> bool:
    """Whether some parameter has no role yet; a graph lacks those that it does not take."""
    met = {parameter for parameter, _ in ctx.roles}
    if any(axis.parameter not in met and not axis.constant for axis in ctx.axes):
        return True
    known = {axis.parameter for axis in ctx.axes}
    return any(
        parameter.dim() and name not in known for name, parameter in model.named_parameters()
    )


def run_once(
    ctx: Context, bare: nn.Module, subject: Observed, training: bool, watch: bool = True
) -> Exception | None:
    """Run a bare copy once.

    Dropout is off, for it only adds noise of the same shape. Batch norms use their statistics:
    those of a batch with one value per channel, as auxiliary heads see it, torch does not take.

    Args:
        ctx: the context of the run.
        bare: the bare copy of the subject's model.
        subject: what is run, and on which inputs.
        training: whether to run in train mode.
        watch: whether rules see the run, or only shapes are of interest.

    Returns:
        The error of the model's own code, if it fails.
    """
    recorded = Recorded.of(ctx)
    modules = list(bare.named_modules())
    for _, module in modules:
        module.training = training and not isinstance(module, _SAME_IN_BOTH_MODES)
    inputs = meta_inputs(subject.example_inputs)
    if ctx.numbers:
        _attach_input_values(ctx, inputs, subject.example_inputs)
    ctx.graph_node = ""
    wanted = ctx.number_log.wanted
    ctx.number_log = NumberLog(wanted)
    ctx.view_log = ViewLog(ctx.views.get((subject, training)) if ctx.is_trial else None)
    ctx.names = {id(tensor): name for name, tensor in named_tensors(bare).items()}
    try:
        with _observation(ctx, modules, watch) as sizes:
            if ctx.follows_sizes:
                _follow_size_attributes(modules)
                _follow_guesses(ctx.followed, dict(modules), sizes)
            output = subject.run(bare, inputs, ctx)
            leaves = output_leaves(output, bare)  # an iterator computes them only now
    # Whatever the user's model raises: the caller reports it if no mode works.
    except Exception as error:  # noqa: BLE001
        return error
    if not training:
        ctx.number_logs[subject] = ctx.number_log
    elif False in ctx.passes.get(subject, {}):
        # The run in evaluation mode recorded most of it already.
        recorded.drop_repeated(ctx)
    if not ctx.is_trial:
        ctx.views[subject, training] = ctx.view_log.seen
    shapes = [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor)]
    ctx.passes.setdefault(subject, {})[training] = tuple(shapes)
    _pin_output(ctx, leaves)
    return None


def _follow_size_attributes(modules: Sequence[tuple[str, nn.Module]]) -> None:
    """Have the sizes that layers hold as attributes (``in_features``) followed as those of shapes.

    The sizes of their parameters are asked for while somebody watches. Numbers of groups stay
    plain: only the layers themselves read them, at every call.
    """
    for _, module in modules:
        if has_size_attributes(type(module)):
            held = vars(module)
            names = [name for name in ("groups", "num_groups") if name in held]
            groups = [(name, held[name]) for name in names]
            sync_size_attributes(module)
            held.update(groups)


def _follow_guesses(
    guesses: Sequence[SizeAttributeGuess], modules: Mapping[str, nn.Module], watcher: SizeWatcher
) -> None:
    """Have attributes of the model's own modules followed as sizes of the neurons they count."""
    for guess in guesses:
        holder = modules.get(guess.module)
        if holder is not None and hasattr(holder, guess.name):  # a graph has none
            number = size_number(len(guess.labels), guess.labels, watcher)
            set_integer(holder, guess.name, guess.keys, number)


def _pin_output(ctx: Context, leaves: Sequence[Any]) -> None:
    """The sizes of a model's outputs are the user's: their neurons cannot grow."""
    for leaf in leaves:
        ctx.mark_read(leaf)
    part = "is part of the model's output"
    for leaf in leaves:
        for field in ctx.fields(leaf).values():
            ctx.labels.pin(flat_labels(field), "output", part, "model: output")
        for labels in axis_sizes(leaf):
            ctx.labels.pin(labels, "output", f"its size {part}", "model: output")


@contextmanager
def _observation(
    ctx: Context, modules: Sequence[tuple[str, nn.Module]], watch: bool
) -> Iterator[SizeReads]:
    """Everything that must hold while a bare copy runs; gives what watches sizes."""
    sizes = SizeReads(ctx)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        # A layer that is dropped at random must be so in every run.
        stack.enter_context(seeded(0))
        stack.enter_context(plain_attention())
        stack.enter_context(_module_paths(ctx, modules))
        stack.enter_context(Constants(ctx))
        stack.enter_context(WholeEinsum())
        if ctx.numbers:
            stack.enter_context(WriteWatch())
        stack.enter_context(Composites(ctx if watch else None))
        if ctx.follows_sizes:
            stack.enter_context(sizes)
        stack.enter_context(Observer(ctx) if watch else ShapeReads(ctx))
        yield sizes


def _attach_input_values(
    ctx: Context, inputs: tuple[Any, ...], example_inputs: tuple[Any, ...]
) -> None:
    for bare, real in zip(tree_leaves(inputs), tree_leaves(example_inputs), strict=True):
        if isinstance(bare, Tensor) and bare.is_meta and not real.is_meta:
            ctx.set_value(bare, Value(real=real.detach().clone()))


@contextmanager
def _module_paths(ctx: Context, modules: Sequence[tuple[str, nn.Module]]) -> Iterator[None]:
    """Keep ``ctx.modules`` the stack of the modules that are running."""

    def enter(name: str, args: Any, kwargs: Any) -> None:
        ctx.modules.append(name)
        note((args, kwargs))
        ctx.entered.add(name)

    def leave(_: nn.Module, __: Any, output: Any) -> None:
        ctx.modules.pop()
        note(output)

    def note(values: Any) -> None:
        """What the innermost module handles; in a graph modules do not call each other."""
        if ctx.follows_sizes and not ctx.graph_node:
            ctx.record_visible(values)

    hooks = []
    for name, module in modules:
        # The name is bound as a default: a plain closure would see that of the last module.
        on_enter = lambda _, args, kwargs, name=name: enter(name, args, kwargs)  # noqa: E731
        hooks.append(module.register_forward_pre_hook(on_enter, with_kwargs=True))
        hooks.append(module.register_forward_hook(leave))
    # A run that failed leaves its stack; the entry "" of the model itself stays.
    del ctx.modules[1:]
    ctx.graph_node = ""  # a graph that ran before leaves its last node
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
