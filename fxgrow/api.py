"""The library's front door: the pipeline with its default method, and saving what it gives."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import fx, nn
from torch.optim import Optimizer

from fxgrow import spec as specs
from fxgrow.growth import Batch, Budget, Growth, LossFunction, Method, Scope, grow_step
from fxgrow.methods import Firefly
from fxgrow.spec import META_KEY, ArchitectureSpec, GrowthStep


def grow(
    model: nn.Module,
    batches: Iterable[Batch],
    loss_fn: LossFunction,
    *,
    example_inputs: Any,
    method: Method | None = None,
    budget: Budget | None = None,
    optimizer: Optimizer | None = None,
    seed: int = 0,
    history: Sequence[GrowthStep] = (),
    inplace: bool = False,
    memory_limit: float | None = None,
    tie: Sequence[Sequence[str]] = (),
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> Growth:
    """Grow a copy of ``model`` once: by Firefly descent and by 30 % of its neurons, unless told
    otherwise.

    ``batches``: a few (input, target) pairs; ``loss(output, target)``: a scalar tensor. An input,
    and ``example_inputs``, is a tuple of arguments of the model, a tensor, or a dict of keyword
    arguments. ``history``: growth steps to put before this one in the spec (those of a loaded model
    are found by themselves). ``inplace``: grow the model and the optimiser themselves. ``memory``:
    bytes that a step over the candidates may keep; what does not fit together is searched in turn.
    ``tie``: names or patterns of widths that grow alike, neuron by neuron (``[["cell0.conv",
    "cell1.conv"], ["block*.hidden"]]``). ``only``, ``ignore``: patterns of module paths, as
    ``fxgrow.couple`` takes them; other widths stay as they are. See ``fxgrow.growth.grow_step`` for
    what holds on return and what is raised.
    """
    return grow_step(
        model,
        batches,
        loss_fn,
        example_inputs=example_inputs,
        method=method or Firefly(),
        budget=budget or Budget(neurons=0.3),
        optimizer=optimizer,
        seed=seed,
        history=history or _known_history(model),
        inplace=inplace,
        memory_limit=memory_limit,
        scope=Scope(only=tuple(only), ignore=tuple(ignore), tie=tuple(map(tuple, tie))),
    )


def _known_history(model: nn.Module) -> tuple[GrowthStep, ...]:
    """The growth steps of a model that was loaded from a spec directory."""
    found = model.meta.get(META_KEY) if isinstance(model, fx.GraphModule) else None
    return found.history if isinstance(found, ArchitectureSpec) else ()


def save(growth_or_model: Growth | fx.GraphModule, directory: str | Path) -> ArchitectureSpec:
    """Write a growth (with the weights that its module has now) or a loaded model to ``directory``.

    Gives its spec.
    """
    if isinstance(growth_or_model, Growth):
        return specs.save(growth_or_model.graph_module, directory, growth_or_model.spec)
    return specs.save(growth_or_model, directory)
