"""``fxgrow grow``: train a model and grow it between the epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
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
    LoggersOption,
    LowerOption,
    ModelReference,
    OutOption,
    SeedOption,
    build_budget,
    build_method,
    build_settings,
    find_named,
    require_used,
    without_none,
)
from fxgrow.cli.run_recipe import OutputOptions, run_recipe
from fxgrow.cli.trust import TRUST_TYPED
from fxgrow.growth import Scope
from fxgrow.methods import MethodConfig, find_method
from fxgrow.training import (
    RECIPE_VERSION,
    RUN_OPTIMIZERS,
    SCHEDULES,
    DataChoice,
    Recipe,
    RunSettings,
)

# Candidates for the hidden neurons of each residual layer.
LAYER_NEURONS = 8

_DEFAULTS = RunSettings()
# What a budget limits, and all that only a growth step looks at.
_AMOUNTS = (
    "neurons", "parameters", "multiply_adds", "activation_memory", "latency", "per_width",
)  # fmt: skip
_GROWTH_OPTIONS = (
    *_AMOUNTS, "round_to", "method", "new", "layers", "at", "only", "ignore", "tie", "eps",
    "memory_limit", "accept_no_gain", "state", "dump_graphs",
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
    optimizer: options.OptimizerOption = _DEFAULTS.optimizer.name,
    schedule: options.ScheduleOption = _DEFAULTS.schedule.name,
    warmup: options.WarmupOption = _DEFAULTS.schedule.warmup,
    lr: LearningRateOption = _DEFAULTS.lr,
    label_smoothing: options.LabelSmoothingOption = _DEFAULTS.label_smoothing,
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
    log: LoggersOption = None,
    force: ForceOption = False,
    lower: LowerOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Train MODEL, grow it between the epochs, and write a complete run directory or none."""
    _require_growth_options_used(ctx, layers, grow_steps)
    amounts = (neurons, parameters, multiply_adds, activation_memory, latency, per_width)
    settings: dict[str, Any] = {"epochs": epochs, "grow_steps": grow_steps, "lr": lr, "seed": seed}
    settings |= {"batch_size": batch_size, "memory_limit": memory_limit, "state": state}
    recipe = Recipe(  # in this order, as the first wrong option is the one that is reported
        schema_version=RECIPE_VERSION,
        model=model,
        budget=build_budget(round_to, layers, **dict(zip(_AMOUNTS, amounts, strict=True))),
        data=_data_choice(data, data_root, limit, classes, size),
        settings=_settings(settings, accept_no_gain, optimizer, schedule, warmup, label_smoothing),
        method=_method_config(method, {"new": new, "eps": eps, **_depth_settings(layers, at)}),
        scope=_scope(only, ignore, tie),
        lower=lower,
    )
    files = OutputOptions(out, force, dump_graphs, as_json, tuple(log or ()))
    run_recipe(recipe, files, device=device, trust=TRUST_TYPED)


def _require_growth_options_used(ctx: typer.Context, layers: int, grow_steps: int) -> None:
    require_used(ctx, ("at",), bool(layers), "--layers")
    require_used(ctx, _GROWTH_OPTIONS, grow_steps != 0, "a growth step (--grow-steps)")


def _data_choice(
    name: str, root: Path | None, limit: int | None, classes: int | None, size: int | None
) -> DataChoice:
    return build_settings(DataChoice, name=name, root=root, limit=limit, classes=classes, size=size)


def _settings(
    settings: Mapping[str, Any],
    accept_no_gain: bool,
    optimizer: str,
    schedule: str,
    warmup: float,
    label_smoothing: float,
) -> RunSettings:
    """The settings of a run; its optimizer and its schedule by name."""
    return build_settings(
        RunSettings,
        **settings,
        accept_no_gain=accept_no_gain,
        label_smoothing=label_smoothing,
        optimizer=build_settings(
            find_named("optimizer", optimizer, RUN_OPTIMIZERS), name=optimizer
        ),
        schedule=build_settings(
            find_named("schedule", schedule, SCHEDULES), name=schedule, warmup=warmup
        ),
    )


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
