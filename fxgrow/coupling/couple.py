"""Coupling: which parameter slices together make one neuron, and which of those sets can grow."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from fxgrow.capture import Captured, How, positional_inputs
from fxgrow.coupling.fields import flat_labels
from fxgrow.coupling.patterns import Patterns
from fxgrow.coupling.resolve import resolve_coupling
from fxgrow.coupling.trace import observe
from fxgrow.coupling.values import Context, Observed
from fxgrow.coupling.widths import Coupling


def couple(
    model_or_captured: nn.Module | Captured,
    example_inputs: Any = None,
    *,
    ignore: Sequence[str] = (),
    only: Sequence[str] = (),
) -> Coupling:
    """Find the neurons of a model by running its data movement once on the meta device.

    Parameters are named as in the user's own module. Nothing is computed or changed on the model itself.
    ``example_inputs``: a tuple of arguments, a tensor, or a
    dict of keyword arguments. ``ignore`` / ``only``: patterns of module paths (``"layer4.*"``); neurons
    that touch an ignored module, or none of those in ``only``, are refused by name. Raises ``ModelError`` if the model
    does not run on its example inputs, or if a pattern fits no module.
    """
    subjects = _subjects(model_or_captured, example_inputs)
    patterns = Patterns.of(subjects[-1].model, ignore, only)
    with _uncollected():
        return resolve_coupling(observe(subjects), subjects[-1], patterns)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection: of the many small objects made here nearly all live to the end, so it finds nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _subjects(model_or_captured: nn.Module | Captured, example_inputs: Any) -> tuple[Observed, ...]:
    """What to observe; the last one is the model itself, which must still run when it has grown.

    Of a captured model the graph is observed, node by node. It is not grown: after growth it is captured again.
    """
    if not isinstance(model_or_captured, Captured):
        given = () if example_inputs is None else example_inputs
        return (_subject(model_or_captured, positional_inputs(model_or_captured, given)),)
    captured = model_or_captured
    inputs = (
        captured.example_inputs
        if example_inputs is None
        else positional_inputs(captured.model, example_inputs)
    )
    whole = _subject(captured.model, inputs)
    return (
        (whole,) if captured.how is How.OPAQUE else (_subject(captured.graph_module, inputs), whole)
    )


def _subject(model: nn.Module, example_inputs: tuple[Any, ...]) -> Observed:
    graph = model.graph if isinstance(model, fx.GraphModule) else None

    def run(bare: nn.Module, inputs: tuple[Any, ...], ctx: Context) -> Any:
        return _Walk(bare, graph, ctx).run(*inputs) if graph else bare(*inputs)

    return Observed(model, example_inputs, run)


class _Walk(fx.Interpreter):
    """Runs an fx graph node by node, so that what is learnt can be told per node."""

    def __init__(self, module: nn.Module, graph: fx.Graph, ctx: Context) -> None:
        super().__init__(module, graph=graph)
        self.ctx = ctx

    def run_node(self, n: fx.Node) -> Any:
        self.ctx.graph_node = n.name
        result = super().run_node(n)
        with torch.utils._python_dispatch._disable_current_modes():
            known = [
                self.ctx.fields(leaf).values()
                for leaf in tree_leaves(result)
                if isinstance(leaf, Tensor)
            ]
            found = [flat_labels(field) for fields in known for field in fields]
            if found:
                self.ctx.carried[n.name] = np.unique(np.concatenate(found))
            if isinstance(result, Tensor):
                dims = frozenset(dim for key in self.ctx.fields(result) for dim in key)
                self.ctx.shapes[n.name] = tuple(result.shape), dims
        return result
