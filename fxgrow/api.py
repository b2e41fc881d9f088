"""Grow a model with the default method, and save what that gives."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import fx, nn
from torch.optim import Optimizer

from fxgrow import spec as specs
from fxgrow.deprecation import renamed_arguments
from fxgrow.growth import Batch, Budget, Growth, LossFunction, Method, Scope, grow_step
from fxgrow.methods import Firefly
from fxgrow.spec import META_KEY, ArchitectureSpec, GrowthStep


@renamed_arguments(loss="loss_fn", memory="memory_limit")
def grow(
    model: nn.Module,
    batches: Iterable[Batch],
    loss_fn: LossFunction,
    *,
    example_inputs: Any = None,
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
    """Grow a model once; by default by Firefly descent and by 30 % of its neurons.

    The grown model computes what the over-grown graph computes with the unselected candidates off;
    with every eps at 0 it equals the model before; and the loss on the growth batches does not
    rise. If a check fails, an error is raised and the caller's model is as it was.

    Args:
        model: any PyTorch module that fxgrow can capture.
        batches: a few (input, target) pairs. An input is a tensor, a tuple of arguments, or a dict
            of keyword arguments of the model.
        loss_fn: ``loss_fn(output, target)`` gives a scalar tensor.
        example_inputs: in one of the forms of an input; left out, those of the first batch.
        method: proposes and scores the candidates; ``Firefly()`` if None.
        budget: how much may be added; ``Budget(neurons=0.3)`` if None.
        optimizer: grows along, state included.
        seed: of the candidates' initial directions.
        history: growth steps to put before this one in the specification. Those of a model that
            was loaded by ``fxgrow.load`` are found by themselves.
        inplace: grow the model and the optimizer themselves; else copies.
        memory_limit: bytes that a step over the candidates may keep. What does not fit together is
            searched in turn.
        tie: groups of names or patterns of widths that grow alike, neuron by neuron, as in
            ``[["cell0.conv", "cell1.conv"], ["block*.hidden"]]``.
        only: patterns of module paths; widths that no such module writes stay as they are.
        ignore: patterns of module paths; widths that touch such a module stay as they are.

    Returns:
        The grown model of the caller's own class (``module``), its optimizer, graph, specification
        and report. A model that gains layers becomes a graph module.

    Raises:
        GrowthError: nothing can grow, or a check fails.
        BudgetError: the budget buys nothing, or ``memory_limit`` holds no width.
        ModelError: the model does not run on its example inputs.
        DataError: there is no batch.

    Example:
        >>> growth = fxgrow.grow(model, batches, nn.functional.cross_entropy, optimizer=optimizer)
        >>> model, optimizer = growth.module, growth.optimizer
        >>> print(growth.report.loss_before, "->", growth.report.loss_after)

    Source:
        Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Algorithm 1.
    """
    scope = Scope(only=tuple(only), ignore=tuple(ignore), tie=tuple(map(tuple, tie)))
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
        scope=scope,
    )


def _known_history(model: nn.Module) -> tuple[GrowthStep, ...]:
    """The growth steps of a model that was loaded from a spec directory."""
    spec = model.meta.get(META_KEY) if isinstance(model, fx.GraphModule) else None
    return spec.history if isinstance(spec, ArchitectureSpec) else ()


def save(growth_or_model: Growth | fx.GraphModule, directory: str | Path) -> ArchitectureSpec:
    """Write a growth or a loaded model to a directory.

    Args:
        growth_or_model: what ``fxgrow.grow`` gave (its module's weights as they are now), or a
        model
            that ``fxgrow.load`` gave.
        directory: gets ``config.json`` and ``model.safetensors``; an earlier model there is
            replaced, anything else is kept.

    Returns:
        The specification as it was written.

    Raises:
        SpecError: the model can have no specification, or the directory cannot be written.

    Example:
        >>> fxgrow.save(growth, "runs/grown")
        >>> model = fxgrow.load("runs/grown")
    """
    if isinstance(growth_or_model, Growth):
        return specs.save(growth_or_model.graph_module, directory, growth_or_model.spec)
    return specs.save(growth_or_model, directory)
