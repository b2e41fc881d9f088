"""Coupling: which parameter slices together make one neuron, and which of those sets can grow."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from fxgrow.capture import Captured
from fxgrow.coupling.fields import flat
from fxgrow.coupling.grids import Direction
from fxgrow.coupling.labels import Pin
from fxgrow.coupling.probe import change_maps, try_growing
from fxgrow.coupling.trace import observe
from fxgrow.coupling.values import Context, Role
from fxgrow.coupling.widths import Coupling, Owners, Site, Width, build, classify
from fxgrow.errors import InternalError

__all__ = ["Coupling", "Owners", "Role", "Site", "Width", "change_maps", "couple"]


def couple(model_or_captured: nn.Module | Captured, example_inputs: tuple[Any, ...] | None = None) -> Coupling:
    """Find the neurons of a model by running its data movement once on the meta device.

    Parameters are named as in the user's own module. Nothing is computed or changed on the model itself.
    Raises ``ModelError`` if the model does not run on ``example_inputs`` (a tuple of arguments).
    """
    if isinstance(model_or_captured, Captured):
        captured = model_or_captured
        trials: tuple[nn.Module, ...] = (captured.graph_module, captured.model)
        return _couple(captured.graph_module, example_inputs or captured.example_inputs, trials)
    return _couple(model_or_captured, example_inputs or (), (model_or_captured,))


def _couple(model: nn.Module, example_inputs: tuple[Any, ...], trials: tuple[nn.Module, ...]) -> Coupling:
    def run(bare: nn.Module, inputs: tuple[Any, ...], ctx: Context) -> Any:
        return _Walk(bare, ctx).run(*inputs) if isinstance(bare, fx.GraphModule) else bare(*inputs)

    ctx = observe(model, example_inputs, run)
    banned: set[Direction] = set()
    pins: list[Pin] = []
    for _ in range(len(ctx.grids) * 3 + len(ctx.shape_events) + 2):
        classes = classify(ctx, banned, pins)
        coupling = build(ctx, classes, ctx.carried)
        tried = (try_growing(trial, example_inputs, run, ctx, classes, coupling) for trial in trials)
        verdict = next((one for one in tried if one), None)
        if verdict is None:
            return coupling
        banned |= verdict.banned
        pins += verdict.pins
    raise InternalError(f"the trial growth of {type(model).__name__} never settles")


class _Walk(fx.Interpreter):
    """Runs an fx graph node by node, so that what is learnt can be told per node."""

    def __init__(self, module: fx.GraphModule, ctx: Context) -> None:
        super().__init__(module)
        self.ctx = ctx

    def run_node(self, n: fx.Node) -> Any:
        self.ctx.graph_node = n.name
        result = super().run_node(n)
        with torch.utils._python_dispatch._disable_current_modes():
            known = [self.ctx.fields(leaf).values() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            found = [flat(field) for fields in known for field in fields]
            if found:
                self.ctx.carried[n.name] = np.unique(np.concatenate(found))
        return result
