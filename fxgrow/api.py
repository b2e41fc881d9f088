"""Grow a model with the default method, and save what that gives."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from fxgrow import spec as specs
from fxgrow.argument_checks import checked
from fxgrow.argument_types import AboveZero, Seed
from fxgrow.deprecation import renamed_arguments
from fxgrow.growth import (
    Budget,
    Deepened,
    Extended,
    Growth,
    LossFunction,
    Method,
    Scope,
    StepOptions,
    Widened,
    block_patterns,
    described_model,
    grow_step,
)
from fxgrow.methods import default_method
from fxgrow.sharding import require_whole
from fxgrow.spec import ArchitectureSpec, GrowthStep, history_of
from fxgrow.surgery import (
    DEFAULT_STATE,
    GivenOptimizers,
    NewEntryRate,
    StateRuleName,
    StateTreatment,
    config_paths,
    listed_optimizers,
)


@renamed_arguments(loss="loss_fn", memory="memory_limit")
@checked
def grow(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: LossFunction,
    *,
    example_inputs: Any = None,
    examples: Sequence[Any] = (),
    method: Method | None = None,
    budget: Budget | None = None,
    optimizer: GivenOptimizers = None,
    state: StateRuleName = DEFAULT_STATE,
    new_entry_rate: NewEntryRate | None = None,
    seed: Seed = 0,
    history: Sequence[GrowthStep] = (),
    inplace: bool = False,
    memory_limit: AboveZero | None = None,
    tie: Sequence[Sequence[str]] = (),
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
    layers: str | Sequence[str] = (),
    expressible: bool = False,
    grow_frozen: bool = False,
    refresh_statistics: bool = True,
    accept_no_gain: bool = False,
) -> Growth:
    """Grow a model once; by default by 30 % of its neurons.

    Args:
        model: any PyTorch module that fxgrow can capture.
        batches: (input, target) pairs, or what a ``BatchLoss`` takes, from any iterable.
        loss_fn: ``loss_fn(output, target)`` gives the loss, one number or one per example.
        example_inputs, examples: those of the first batch if left out; what can grow in all grows.
        method: proposes and scores; ``Auto()`` if None, ``Firefly()`` with blocks.
        budget: how much may be added; ``Budget(neurons=0.3)`` if None.
        optimizer: one or a list; grow along, state included, and keep what is of other modules.
        state, new_entry_rate: its state, and how fast new entries learn (``docs/optimizers.md``).
        seed, history: of the first directions; earlier growth steps (a loaded model's are found).
        inplace, memory_limit: grow model and optimizers themselves; bytes a search step may keep.
        tie: groups of names or patterns of widths that grow alike, neuron by neuron.
        only, ignore: patterns of modules whose widths alone grow (streams by own name), or do not.
        layers: ``"block:model.layers"`` or a pattern: copies of its blocks compete with neurons.
        expressible: grow only what a Hugging Face config can describe, alike in all layers.
        refresh_statistics: first estimate batch norm statistics anew, but those of frozen ones.
        grow_frozen, accept_no_gain: grow widths of frozen parameters, too; and without a gain.

    Returns:
        The grown model, of its class (a graph module if layers were inserted), and its report.

    Raises:
        FxgrowError: nothing can grow, the budget buys nothing, a check fails; nothing is changed.

    Example:
        >>> grown = fxgrow.grow(model, batches, nn.functional.cross_entropy).module
    """
    scope, grown = _scope(only, ignore, tie, expressible, layers), listed_optimizers(optimizer)
    known, treatment = history or history_of(model), StateTreatment(state, new_entry_rate)
    step = StepOptions(grown, seed, known, inplace, memory_limit, scope, example_inputs)
    data = replace(step, examples=examples, grow_frozen=grow_frozen, treatment=treatment)
    options = replace(data, refresh_statistics=refresh_statistics, accept_no_gain=accept_no_gain)
    return _warned(model, batches, loss_fn, method or default_method(scope), budget, options)


def _scope(
    only: Sequence[str],
    ignore: Sequence[str],
    tie: Sequence[Sequence[str]],
    expressible: bool,
    layers: str | Sequence[str],
) -> Scope:
    return Scope(
        only=tuple(only),
        ignore=tuple(ignore),
        tie=tuple(map(tuple, tie)),
        expressible=expressible,
        blocks=block_patterns(layers),
    )


def _warned(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: LossFunction,
    method: Method,
    budget: Budget | None,
    options: StepOptions,
) -> Growth:
    """Grow, and warn of what the command line prints in its report."""
    options.treatment.require_used(options.optimizers, "grow()")
    level = 5  # two decorators, two checks
    if not options.scope.expressible and config_paths(model):
        # Before anything is spent.
        warnings.warn(
            f"{type(model).__name__} has a config, which cannot describe layers that grow "
            "unevenly: from_pretrained would not load what save_pretrained writes then; say "
            "expressible=True, or save by fxgrow.save",
            UserWarning,
            stacklevel=level,
        )
    budget = budget or Budget(neurons=0.3)
    growth = grow_step(model, batches, loss_fn, method=method, budget=budget, options=options)
    if growth.report.unspent:
        warnings.warn(growth.report.unspent, UserWarning, stacklevel=level)
    return growth


@checked
def save(
    growth_or_model: Growth | Widened | Deepened | Extended | nn.Module,
    directory: str | Path,
    example_inputs: Any = None,
) -> ArchitectureSpec:
    """Write a growth, a widened, deepened, loaded or any other model to a directory.

    Args:
        growth_or_model: what ``grow``, ``widen``, ``deepen`` or ``grow_classes`` gave (its module's
            weights as they are now), a model that ``fxgrow.load`` gave, or any other module.
        directory: gets ``config.json`` and ``model.safetensors``; an earlier model there is
            replaced, anything else is kept.
        example_inputs: of a module that fxgrow neither grew nor loaded.

    Returns:
        The specification as it was written.

    Raises:
        SpecError: the model can have no specification, or the directory cannot be written.
        ModelError: the model does not run on its example inputs.

    Example:
        >>> fxgrow.save(growth, "runs/grown")
        >>> model = fxgrow.load("runs/grown")
    """
    saved = growth_or_model
    require_whole(saved if isinstance(saved, nn.Module) else saved.module)
    if isinstance(growth_or_model, Growth):
        return specs.save(growth_or_model.graph_module, directory, growth_or_model.spec)
    described = described_model(growth_or_model, example_inputs)
    return specs.save(described.graph_module, directory, described.spec)
