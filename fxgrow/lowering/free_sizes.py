"""Heads whose number a module's own code fixes: modules of any class, by a graph of their code.

That is what ``lower`` does with modules that have no row in ``LOWERINGS``. Coupling tells which
they are: it refuses their neurons and names the reshape to blame. Whether another code helps is
tried out on the module alone.
"""

import copy
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from fxgrow.capture import (
    bind_call,
    first_line,
    is_symbolic,
    own_code_graph,
    preserve_state,
    run_model,
    same_outputs,
)
from fxgrow.coupling import Coupling, couple
from fxgrow.errors import FxgrowError, ModelError, Refusal
from fxgrow.lowering.own_forward import (
    PLAIN,
    ForwardCode,
    Free,
    OwnForward,
    default_arguments,
    with_own_forward,
)
from fxgrow.lowering.relations import FREE_PARTS, FreePart, compute_sizes

_CODES = ("grid", "merged", "mixed-axis", "fixed-code", "order", "unread", "bilinear")
"""Refusals that sizes in a module's own code may cause."""

_MAX_ROUNDS = 3
"""How often coupling is asked again: behind one module that fixes heads there may be another."""


def free_sizes(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Have modules compute the sizes of heads that their code fixes, in place.

    Args:
        model: the model; modules of it get types that are subclasses of what they are.
        inputs: its positional arguments.
    """
    trials = _Trials()
    tried: set[str] = set()
    for _ in range(_MAX_ROUNDS):
        paths = _blamed_modules(model, couple(model, inputs)) - tried
        if not paths:
            return
        calls = _recorded_calls(model, inputs, paths)
        for path in sorted(paths):
            own = trials.own_forward(model.get_submodule(path), calls.get(path, ()))
            if own is not None:
                with_own_forward(model.get_submodule(path), own)
        tried |= paths


def _blamed_modules(model: nn.Module, coupling: Coupling) -> set[str]:
    """The paths of the modules whose code is to blame for refused neurons."""
    known = dict(model.named_modules())
    paths = set()
    for refusal in _refused(coupling):
        for node in refusal.nodes:
            path = node.partition(":")[0]
            path = "" if path == "model" and path not in known else path
            if path in known and not type(known[path]).__module__.startswith("torch."):
                paths.add(path)
    return paths


def _refused(coupling: Coupling) -> list[Refusal]:
    """The refusals that sizes in code may cause."""
    refusals = [width.refusal for width in coupling.widths if width.refusal is not None]
    return [refusal for refusal in refusals if refusal.code in _CODES]


Call = tuple[Any, ...]
"""The positional arguments of one call."""


def _recorded_calls(
    model: nn.Module, inputs: tuple[Any, ...], paths: Collection[str]
) -> Mapping[str, Sequence[Call]]:
    """Every call of some modules in one run; empty where an argument has a name alone."""
    calls: dict[str, list[Call]] = defaultdict(list)

    def recorder(path: str) -> Any:
        def record(module: nn.Module, args: Any, kwargs: Any) -> None:
            try:
                calls[path].append(bind_call(module, args, kwargs))
            except FxgrowError:
                calls[path].append(())

        return record

    # The hooks come inside: what hooks hold is put back with the model.
    with preserve_state(model):
        for path in paths:
            module = model.get_submodule(path)
            module.register_forward_pre_hook(recorder(path), with_kwargs=True)
        try:
            run_model(model, inputs)
        except Exception as error:
            kind = type(model).__name__
            message = f"{kind} does not run on its example inputs: {first_line(error)}"
            raise ModelError("does-not-run", message) from error
    return calls


@dataclass
class _Trials:
    """Finds code for modules; for alike ones once.

    Args:
        found: by what tells modules apart, the code that was found, or None.
    """

    found: dict[Any, OwnForward | None] = field(default_factory=dict)

    def own_forward(self, module: nn.Module, calls: Sequence[Call]) -> OwnForward | None:
        """The code for the calls of a module; None if there is none that helps."""
        arguments = _common_arguments(module, calls)
        if arguments is None:
            return None
        inputs = calls[0]
        # A copy: tracing runs parts of some modules, which may write into their buffers.
        module = copy.deepcopy(module)
        try:
            texts = [own_code_graph(module, inputs, training=mode).code for mode in (False, True)]
        except FxgrowError:
            return None
        shapes = tuple((name, tensor.shape) for name, tensor in module.named_parameters())
        key = (type(module), arguments, shapes, *texts)
        if key not in self.found:
            self.found[key] = _best_forward(module, inputs, arguments)
        return self.found[key]


def _common_arguments(
    module: nn.Module, calls: Sequence[Call]
) -> tuple[tuple[str, Any], ...] | None:
    """The arguments as in ``OwnForward``; None if calls differ in what the code would fix."""
    found = {_arguments(module, call) for call in calls}
    return next(iter(found)) if len(found) == 1 else None


def _arguments(module: nn.Module, call: Call) -> tuple[tuple[str, Any], ...] | None:
    names = list(default_arguments(type(module)))
    if not call or len(call) > len(names):
        return None
    arguments: list[tuple[str, Any]] = []
    for name, value in zip(names, call, strict=False):
        if is_symbolic(value):
            arguments.append((name, Free.ARGUMENT))
        elif value is None or isinstance(value, PLAIN):
            arguments.append((name, value))
        else:
            return None
    return tuple(arguments)


def _best_forward(
    module: nn.Module, inputs: Call, arguments: tuple[tuple[str, Any], ...]
) -> OwnForward | None:
    """Of the codes with one part free or another, the one with which most can grow."""
    best, most = None, _num_growable(couple(_FirstOutput(module), inputs))
    expected = _outputs(module, inputs)
    for free_part in FREE_PARTS:
        sources = [_source(module, inputs, mode, free_part) for mode in (False, True)]
        evaluating, training = sources
        if evaluating is None or training is None:
            return None
        own = OwnForward(evaluating, training, arguments)
        lowered = copy.deepcopy(module)
        with_own_forward(lowered, own)
        coupling = couple(_FirstOutput(lowered), inputs)
        count = _num_growable(coupling)
        if count > most and same_outputs(expected, _outputs(lowered, inputs)):
            best, most = own, count
            if not _refused(coupling):
                break
    return best


class _FirstOutput(nn.Module):
    """A module without its outputs but the first: attention weights, say, which few models read.

    All of them would be outputs of a module that is coupled alone, and fix its heads.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any) -> Any:
        """What the module gives first."""
        output = self.module(*args)
        return output[0] if isinstance(output, tuple) else output


def _outputs(module: nn.Module, inputs: Call) -> list[Any]:
    """What a module gives in both modes."""
    outputs = []
    for mode in (False, True):
        # A copy for each run: in training mode batch norms write into their statistics, and torch
        # does not count that as a write.
        copied = copy.deepcopy(module)
        copied.train(mode)
        outputs.append(run_model(copied, inputs))
    return outputs


def _num_growable(coupling: Coupling) -> int:
    """How many indices of parameters belong to widths that can grow."""
    growable = [number for number, width in enumerate(coupling.widths) if width.growable]
    owners = coupling.owners.values()
    return sum(int(np.isin(owned.width, growable).sum()) for owned in owners)


def _source(
    module: nn.Module, inputs: Call, training: bool, free_part: FreePart
) -> ForwardCode | None:
    """The code in one mode; None if no size in it is to be computed."""
    graph_module = own_code_graph(module, inputs, training=training)
    shapes = couple(graph_module, inputs).shapes
    if not compute_sizes(graph_module, shapes, free_part):
        return None
    return ForwardCode.of(graph_module.graph)
