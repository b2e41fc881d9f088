"""Find the neurons of a model: which parameter slices together make one, and which can grow."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from fxgrow.argument_checks import checked
from fxgrow.capture import Captured, How, positional_inputs
from fxgrow.coupling.fields import flat_labels
from fxgrow.coupling.patterns import Patterns
from fxgrow.coupling.resolve import resolve_coupling
from fxgrow.coupling.trace import observe
from fxgrow.coupling.values import Context, Observed
from fxgrow.coupling.widths import Coupling


@checked
def couple(
    model_or_captured: nn.Module | Captured,
    example_inputs: Any = None,
    *,
    ignore: Sequence[str] = (),
    only: Sequence[str] = (),
) -> Coupling:
    """Find the neurons of a model by running its data movement once on the meta device.

    Parameters are named as in the user's own module. Nothing is computed or changed on the model
    itself. Neurons that touch an ignored module, or none of those in ``only``, are refused by name.

    Args:
        model_or_captured: the model, or what ``fxgrow.capture`` made of it.
        example_inputs: a tuple of arguments, a tensor, or a dict of keyword arguments; left out,
            those of the captured model.
        ignore: patterns of paths of modules that keep their shapes (``"layer4.*"``).
        only: patterns of paths of the modules that alone may grow (empty: all).

    Returns:
        The widths of the model, with the reason of each that cannot grow.

    Raises:
        ModelError: ``does-not-run``, if the model does not run on its example inputs;
            ``unknown-module``, if a pattern fits no module.

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
    subjects = _subjects(model_or_captured, example_inputs)
    patterns = Patterns.of(subjects[-1].model, ignore, only)
    with _garbage_collection_off():
        return resolve_coupling(observe(subjects), subjects[-1], patterns)


@contextmanager
def _garbage_collection_off() -> Iterator[None]:
    """Save the time of garbage collection: nearly all the small objects made here live on."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _subjects(model_or_captured: nn.Module | Captured, example_inputs: Any) -> tuple[Observed, ...]:
    """What to observe; the last one is the model itself, which must still run when it has grown.

    Of a captured model the graph is observed, node by node. It is not grown: after growth the
    model is captured again.
    """
    if not isinstance(model_or_captured, Captured):
        given = () if example_inputs is None else example_inputs
        return (_observed(model_or_captured, positional_inputs(model_or_captured, given)),)
    captured = model_or_captured
    inputs = captured.example_inputs
    if example_inputs is not None:
        inputs = positional_inputs(captured.model, example_inputs)
    model = _observed(captured.model, inputs)
    # An opaque model has no graph of its own to go through.
    if captured.how is How.OPAQUE:
        return (model,)
    return _observed(captured.graph_module, inputs), model


def _observed(model: nn.Module, example_inputs: tuple[Any, ...]) -> Observed:
    graph = model.graph if isinstance(model, fx.GraphModule) else None

    def run(bare: nn.Module, inputs: tuple[Any, ...], ctx: Context) -> Any:
        return _NodeByNode(bare, graph, ctx).run(*inputs) if graph else bare(*inputs)

    return Observed(model, example_inputs, run)


class _NodeByNode(fx.Interpreter):
    """Runs an fx graph, and records per node what the rules learn of its value."""

    def __init__(self, module: nn.Module, graph: fx.Graph, ctx: Context) -> None:
        super().__init__(module, graph=graph)
        self.ctx = ctx

    def run_node(self, n: fx.Node) -> Any:
        self.ctx.graph_node = n.name
        result = super().run_node(n)
        # Label fields are tensors too: what is done with them is not to be observed.
        with torch.utils._python_dispatch._disable_current_modes():
            self._record_labels(n.name, result)
            if isinstance(result, Tensor):
                self._record_shape(n.name, result)
        return result

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
        for support in self.ctx.fields(result):
            labeled.update(support)
        self.ctx.shapes[name] = tuple(result.shape), frozenset(labeled)
