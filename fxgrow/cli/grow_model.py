"""``fxgrow grow``: train a model and grow it between the epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from fxgrow.cli import growth_arguments as options
from fxgrow.cli import training_arguments as training
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
    SetOption,
    build_budget,
    build_method,
    build_settings,
    require_used,
    without_none,
)
from fxgrow.cli.layer_words import AddedLayers, added_layers
from fxgrow.cli.run_recipe import OutputOptions, run_recipe
from fxgrow.cli.training_arguments import training_settings
from fxgrow.cli.trust import TRUST_TYPED
from fxgrow.growth import Scope
from fxgrow.methods import MethodConfig, find_method
from fxgrow.training import (
    RECIPE_VERSION,
    DataChoice,
    Recipe,
    RunSettings,
    changed_recipe,
)

# Candidates for the hidden neurons of each residual layer.
LAYER_NEURONS = 8

_DEFAULTS = RunSettings()
# What a budget limits, and all that only a growth step looks at.
_AMOUNTS = (
    "neurons", "parameters", "multiply_adds", "activation_memory", "latency", "per_width",
)  # fmt: skip
_GROWTH_OPTIONS = (
    *_AMOUNTS, "round_to", "method", "new", "layers", "at", "only", "ignore", "tie",
    "expressible", "eps", "memory_limit", "accept_no_gain", "state", "dump_graphs", "grow_when",
)  # fmt: skip
# Settings of the run that an option of the same name gives.
_SETTINGS = (
    "epochs", "grow_steps", "lr", "seed", "batch_size", "memory_limit", "state", "label_smoothing",
    "precision", "validation", "accept_no_gain",
)  # fmt: skip


def grow_model(
    ctx: typer.Context,
    model: ModelReference,
    out: OutOption,
    data: DataOption = "digits",
    data_root: DataRootOption = None,
    epochs: options.EpochsOption = _DEFAULTS.epochs,
    grow_steps: options.GrowStepsOption = _DEFAULTS.grow_steps,
    grow_when: options.GrowWhenOption = _DEFAULTS.grow_when.name,
    neurons: options.NeuronsOption = None,
    parameters: options.ParametersOption = None,
    multiply_adds: options.MultiplyAddsOption = None,
    activation_memory: options.ActivationMemoryOption = None,
    latency: options.LatencyOption = None,
    per_width: options.PerWidthOption = None,
    round_to: options.RoundToOption = 1,
    seed: SeedOption = _DEFAULTS.seed,
    optimizer: training.OptimizerOption = _DEFAULTS.optimizer.name,
    schedule: training.ScheduleOption = _DEFAULTS.schedule.name,
    warmup: training.WarmupOption = _DEFAULTS.schedule.warmup,
    lr: LearningRateOption = _DEFAULTS.lr,
    label_smoothing: training.LabelSmoothingOption = _DEFAULTS.label_smoothing,
    batch_size: BatchSizeOption = _DEFAULTS.batch_size,
    augment: training.AugmentOption = None,
    precision: training.PrecisionOption = _DEFAULTS.precision,
    ema: training.EmaOption = None,
    validation: training.ValidationOption = _DEFAULTS.validation,
    early_stop: training.EarlyStopOption = None,
    compiled: training.CompileOption = False,
    method: options.MethodOption = None,
    new: options.NewCandidatesOption = None,
    layers: options.LayersOption = "0",
    at: options.AtOption = None,
    only: options.OnlyOption = None,
    ignore: options.IgnoreOption = None,
    tie: options.TieOption = None,
    expressible: options.ExpressibleOption = False,
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
    changes: SetOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Train MODEL, grow it between the epochs, and write a complete run directory or none."""
    # By name, as tables below say which option is which setting. --set may ask for growth, too.
    recipe = changed_recipe(_recipe(locals()), changes or ())
    grows = recipe.settings.grow_steps != 0
    require_used(ctx, ("at",), bool(added_layers(layers).residual), "--layers and a number")
    require_used(ctx, _GROWTH_OPTIONS, grows, "a growth step (--grow-steps)")
    files = OutputOptions(out, force, dump_graphs, as_json, tuple(log or ()))
    run_recipe(recipe, files, device=device, trust=TRUST_TYPED)


def _recipe(given: Mapping[str, Any]) -> Recipe:
    """The recipe that the options of the command ask for.

    Args:
        given: by the names of the parameters.
    """
    layers = added_layers(given["layers"])
    settings = {name: given[name] for name in _SETTINGS} | training_settings(given)
    candidates = {"new": given["new"], "eps": given["eps"]} | _depth_settings(layers, given["at"])
    amounts = {name: given[name] for name in _AMOUNTS}
    return Recipe(  # in this order, as the first wrong option is the one that is reported
        schema_version=RECIPE_VERSION,
        model=given["model"],
        budget=build_budget(given["round_to"], layers.most, **amounts),
        data=build_settings(
            DataChoice,
            name=given["data"],
            root=given["data_root"],
            limit=given["limit"],
            classes=given["classes"],
            size=given["size"],
        ),
        settings=build_settings(RunSettings, **settings),
        method=_method_config(given["method"], candidates, layers),
        scope=_scope(given, layers),
        lower=given["lower"],
    )


def _depth_settings(layers: AddedLayers, at: Sequence[str] | None) -> dict[str, Any]:
    """The settings of a method that inserts layers, if any may be inserted."""
    if not layers.residual:
        return {}
    return {"layers": LAYER_NEURONS, "at": tuple(at or ())}


def _method_config(
    name: str | None, values: Mapping[str, Any], layers: AddedLayers
) -> MethodConfig:
    """The method of a recipe, from its name and the values of options (None: not given)."""
    if name is None:
        # Each of these options is a setting of Firefly, and Auto has none; its scores are in no
        # units in which blocks could be compared.
        name = "Firefly" if without_none(values) or layers.blocks else "Auto"
    return MethodConfig(settings=build_method(name, find_method(name), values))


def _scope(given: Mapping[str, Any], layers: AddedLayers) -> Scope:
    # Each pattern of --tie is a group by itself: all widths that match it grow alike.
    groups = tuple((pattern,) for pattern in given["tie"] or ())
    return Scope(
        only=tuple(given["only"] or ()),
        ignore=tuple(given["ignore"] or ()),
        tie=groups,
        expressible=given["expressible"],
        blocks=layers.blocks,
    )
