"""``fxgrow grow``: train a model and grow it between the epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from fxgrow.cli import growth_arguments as options
from fxgrow.cli.arguments import (
    AsJsonOption,
    BatchSizeOption,
    ClassesOption,
    DataOption,
    DataRootOption,
    DeviceOption,
    DumpGraphsOption,
    ForceOption,
    LearningRateOption,
    LimitOption,
    LowerOption,
    ModelReference,
    OutOption,
    SeedOption,
    build_budget,
    build_method,
    build_settings,
    require_used,
    without_none,
)
from fxgrow.cli.run_recipe import OutputOptions, run_recipe
from fxgrow.cli.trust import TRUST_TYPED
from fxgrow.growth import Scope
from fxgrow.methods import MethodConfig, find_method
from fxgrow.training import RECIPE_VERSION, DataChoice, Recipe, RunSettings

# Candidates for the hidden neurons of each residual layer.
LAYER_NEURONS = 8

_DEFAULTS = RunSettings()
# What only a growth step looks at.
_GROWTH_OPTIONS = (
    "neurons", "parameters", "multiply_adds", "activation_memory", "latency", "per_width",
    "round_to", "method", "new", "layers", "at", "only", "ignore", "tie", "eps", "memory_limit",
    "accept_no_gain", "state", "dump_graphs",
)  # fmt: skip


def grow_model(
    ctx: typer.Context,
    model: ModelReference,
    out: OutOption,
    data: DataOption = "digits",
    data_root: DataRootOption = None,
    epochs: options.EpochsOption = _DEFAULTS.epochs,
    grow_steps: options.GrowStepsOption = _DEFAULTS.grow_steps,
    neurons: options.NeuronsOption = None,
    parameters: options.ParametersOption = None,
    multiply_adds: options.MultiplyAddsOption = None,
    activation_memory: options.ActivationMemoryOption = None,
    latency: options.LatencyOption = None,
    per_width: options.PerWidthOption = None,
    round_to: options.RoundToOption = 1,
    seed: SeedOption = _DEFAULTS.seed,
    lr: LearningRateOption = _DEFAULTS.lr,
    batch_size: BatchSizeOption = _DEFAULTS.batch_size,
    method: options.MethodOption = None,
    new: options.NewCandidatesOption = None,
    layers: options.LayersOption = 0,
    at: options.AtOption = None,
    only: options.OnlyOption = None,
    ignore: options.IgnoreOption = None,
    tie: options.TieOption = None,
    eps: options.RadiusOption = None,
    memory_limit: options.StepMemoryOption = None,
    accept_no_gain: options.AcceptNoGainOption = False,
    state: options.StateOption = _DEFAULTS.state,
    limit: LimitOption = None,
    classes: ClassesOption = None,
    size: options.ModelSizeOption = None,
    dump_graphs: DumpGraphsOption = None,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    lower: LowerOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Train MODEL, grow it between the epochs, and write a complete run directory or none."""
    require_used(ctx, ("at",), bool(layers), "--layers")
    require_used(ctx, _GROWTH_OPTIONS, grow_steps != 0, "a growth step (--grow-steps)")
    amounts = {"neurons": neurons, "parameters": parameters, "multiply_adds": multiply_adds}
    amounts |= {"activation_memory": activation_memory, "latency": latency, "per_width": per_width}
    schedule: dict[str, Any] = {"epochs": epochs, "grow_steps": grow_steps, "lr": lr}
    schedule |= {"batch_size": batch_size, "memory_limit": memory_limit, "state": state}
    recipe = Recipe(
        schema_version=RECIPE_VERSION,
        model=model,
        # The first wrong option is the one that is reported.
        budget=build_budget(round_to, layers, **amounts),
        data=build_settings(
            DataChoice, name=data, root=data_root, limit=limit, classes=classes, size=size
        ),
        settings=build_settings(RunSettings, **schedule, seed=seed, accept_no_gain=accept_no_gain),
        method=_method_config(method, {"new": new, "eps": eps, **_depth_settings(layers, at)}),
        scope=_scope(only, ignore, tie),
        lower=lower,
    )
    files = OutputOptions(out, force, dump_graphs, as_json)
    run_recipe(recipe, files, device=device, trust=TRUST_TYPED)


def _depth_settings(layers: int, at: Sequence[str] | None) -> dict[str, Any]:
    """The settings of a method that inserts layers, if any may be inserted."""
    if not layers:
        return {}
    return {"layers": LAYER_NEURONS, "at": tuple(at or ())}


def _method_config(name: str | None, values: Mapping[str, Any]) -> MethodConfig:
    """The method of a recipe, from its name and the values of options (None: not given)."""
    if name is None:
        # Each of these options is a setting of Firefly, and Auto has none.
        name = "Firefly" if without_none(values) else "Auto"
    return MethodConfig(settings=build_method(name, find_method(name), values))


def _scope(
    only: Sequence[str] | None, ignore: Sequence[str] | None, tie: Sequence[str] | None
) -> Scope:
    # Each pattern of --tie is a group by itself: all widths that match it grow alike.
    groups = tuple((pattern,) for pattern in tie or ())
    return Scope(only=tuple(only or ()), ignore=tuple(ignore or ()), tie=groups)
