"""Find the neurons of a model: which parameter slices together make one, and which can grow."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from fxgrow.argument_checks import checked
from fxgrow.capture import (
    Captured,
    How,
    Interpreter,
    positional_inputs,
    preserve_attributes,
    require_growable_model,
)
from fxgrow.coupling.context import Context, Observed
from fxgrow.coupling.fields import flat_labels, unobserved
from fxgrow.coupling.patterns import Patterns
from fxgrow.coupling.resolve import resolve_coupling
from fxgrow.coupling.size_records import size_records
from fxgrow.coupling.widths import Coupling
from fxgrow.modes import exclusive_autograd, garbage_collection_off
from fxgrow.sharding import plain_inside


@checked
def couple(
    model_or_captured: nn.Module | Captured,
    example_inputs: Any = None,
    *,
    examples: Sequence[Any] = (),
    ignore: Sequence[str] = (),
    only: Sequence[str] = (),
    frozen: Sequence[str] = (),
) -> Coupling:
    """Find the neurons of a model by running its data movement once on the meta device.

    Parameters are named as in the user's own module. Nothing is computed or changed on the model
    itself. Neurons that touch an ignored module, or none of those in ``only``, are refused by name.

    Args:
        model_or_captured: the model, or what ``fxgrow.capture`` made of it.
        example_inputs: a tuple of arguments, a tensor, or a dict of keyword arguments; left out,
            those of the captured model.
        examples: more example inputs, each in one of these forms. A parameter that only one of
            them reaches (an expert, the head of a task) is met; a width can grow if it can in all.
        ignore: patterns of paths of modules that keep their shapes (``"layer4.*"``).
        only: patterns of paths of the modules that alone may grow (empty: all).
        frozen: names of parameters that keep their shapes: what they write or read is refused.

    Returns:
        The widths of the model, with the reason of each that cannot grow.

    Raises:
        ModelError: ``does-not-run``, if the model does not run on its example inputs;
            ``unknown-module``, if a pattern fits no module; ``wrapped-model``,
            ``quantized-model`` or ``uninitialized`` as for ``capture``.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from fxgrow import couple
        >>> model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> coupling = couple(model, torch.zeros(1, 6))
        >>> for width in coupling.widths:
        ...     print(width.name, width.size, width.growable)
        0 4 True
        2 2 False
    """
    if isinstance(model_or_captured, nn.Module):
        with plain_inside(model_or_captured):
            return _couple(model_or_captured, example_inputs, examples, ignore, only, frozen)
    return _couple(model_or_captured, example_inputs, examples, ignore, only, frozen)


def _couple(
    model_or_captured: nn.Module | Captured,
    example_inputs: Any,
    examples: Sequence[Any],
    ignore: Sequence[str],
    only: Sequence[str],
    frozen: Sequence[str],
) -> Coupling:
    """Couple a model that is made of plain modules."""
    subjects = subjects_of(model_or_captured, example_inputs, examples)
    models = [of_example[-1] for of_example in subjects]
    patterns = Patterns.of(models[0].model, ignore, only, frozen)
    # Hooks that keep features may do so in the model itself.
    keep_features = preserve_attributes(models[0].model)
    with exclusive_autograd(), garbage_collection_off(), keep_features:
        records = size_records(models[0].model)
        coupling = resolve_coupling(subjects, models, patterns, records)
        if len(subjects[0]) > 1 and _depends_on_sizes(coupling):
            # A graph has no lines of the user's code: once more, with the model itself first.
            lines_first = [(subjects[0][-1],), *subjects]
            coupling = resolve_coupling(lines_first, models, patterns, records)
        return coupling


_CODES_WITH_LINES = {"size-branch", "size-value", "uneven"}


def _depends_on_sizes(coupling: Coupling) -> bool:
    refusals = [width.refusal for width in coupling.widths if width.refusal is not None]
    return any(refusal.code in _CODES_WITH_LINES for refusal in refusals)


def subjects_of(
    model_or_captured: nn.Module | Captured, example_inputs: Any, examples: Sequence[Any]
) -> list[tuple[Observed, ...]]:
    """What to observe of each example; last the model itself, which must run when it has grown.

    Of a captured model the graph is observed, node by node. It is not grown: after growth the
    model is captured again.
    """
    captured = model_or_captured if isinstance(model_or_captured, Captured) else None
    model: nn.Module = captured.model if captured else model_or_captured  # type: ignore[assignment]
    if captured is None:
        require_growable_model(model)
    given = [positional_inputs(model, example) for example in examples]
    if example_inputs is not None:
        given.insert(0, positional_inputs(model, example_inputs))
    elif captured is not None:
        given.insert(0, captured.example_inputs)
    elif not given:
        given.append(())
    by_node = captured is None
    subjects: list[tuple[Observed, ...]] = []
    for inputs in given:
        subjects.append((_observed(model, inputs, by_node),))
    # An opaque model has no graph of its own to go through.
    if captured is not None and captured.how is not How.OPAQUE:
        subjects[0] = (_observed(captured.graph_module, given[0]), *subjects[0])
    return subjects


def _observed(model: nn.Module, example_inputs: tuple[Any, ...], by_node: bool = True) -> Observed:
    """What to observe; of a model beside its captured graph not ``by_node``: it has other nodes."""
    graph = model.graph if isinstance(model, fx.GraphModule) else None

    def run(bare: nn.Module, inputs: tuple[Any, ...], ctx: Context) -> Any:
        ctx.graph_node = ""
        if graph is None:
            return bare(*inputs)
        if not by_node:
            return fx.Interpreter(bare, graph=graph).run(*inputs)
        return _NodeByNode(bare, graph, ctx).run(*inputs)

    return Observed(model, example_inputs, run)


class _NodeByNode(Interpreter):
    """Runs an fx graph, and records per node what the rules learn of its value."""

    def __init__(self, module: nn.Module, graph: fx.Graph, ctx: Context) -> None:
        super().__init__(module, graph=graph)
        self.ctx = ctx
        self.constants: dict[str, Tensor] = {}

    def run(self, *args: Any, **kwargs: Any) -> Any:
        result = super().run(*args, **kwargs)
        with unobserved():
            for name, constant in self.constants.items():  # neurons may have been written into it
                self._record_shape(name, constant)
        return result

    def run_node(self, n: fx.Node) -> Any:
        # The inputs are those of the capture, but not the device (``x.device.type == "cpu"``).
        if n.target is torch._assert:
            return None
        self.ctx.graph_node = n.name
        result = super().run_node(n)
        value = self._written(n) if result is None else result
        with unobserved():
            self._record_labels(n.name, value)
            if isinstance(value, Tensor):
                self._record_shape(n.name, value)
                if not self.ctx.fields(value):
                    self.constants[n.name] = value
        return result

    def _written(self, n: fx.Node) -> Any:
        """What a node without a value writes into (``out[rows] = h``)."""
        target = n.args[0] if n.target is operator.setitem else None
        return self.env[target] if isinstance(target, fx.Node) else None

    def _record_labels(self, name: str, result: Any) -> None:
        labels = []
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                for field in self.ctx.fields(leaf).values():
                    labels.append(flat_labels(field))
        if labels:
            self.ctx.carried[name] = np.unique(np.concatenate(labels))

    def _record_shape(self, name: str, result: Tensor) -> None:
        labeled: set[int] = set()
        for support, labels in self.ctx.fields(result).items():
            labeled.update(support)
            if len(support) > 1:
                core = [slice(None) if dim in support else slice(1) for dim in range(result.dim())]
                self.ctx.node_grids.setdefault(name, []).append(labels[tuple(core)].numpy())
        self.ctx.shapes[name] = tuple(result.shape), frozenset(labeled)
