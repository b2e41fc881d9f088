"""``fxgrow grow``: train a model and grow it on the way."""

from typing import Annotated

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
    build_budget,
    build_settings,
)
from fxgrow.cli.run_recipe import OutputOptions, run_recipe
from fxgrow.growth import Scope
from fxgrow.methods import Firefly
from fxgrow.training import RECIPE_VERSION, DataChoice, FireflyMethod, Recipe, RunSettings

LAYER_NEURONS = 8
"""Candidates for the hidden neurons of each residual layer."""

_DEFAULTS = RunSettings()


def grow_model(
    model: ModelReference,
    out: OutOption,
    data: DataOption = "digits",
    data_root: DataRootOption = None,
    epochs: Annotated[int, typer.Option(help="epochs of training in all")] = _DEFAULTS.epochs,
    grow_steps: options.GrowStepsOption = _DEFAULTS.grow_steps,
    neurons: options.NeuronsOption = None,
    parameters: options.ParametersOption = None,
    multiply_adds: options.MultiplyAddsOption = None,
    activation_memory: options.ActivationMemoryOption = None,
    latency: options.LatencyOption = None,
    per_width: options.PerWidthOption = None,
    round_to: options.RoundToOption = 1,
    seed: Annotated[
        int, typer.Option(help="of the weights, the order of images and the candidates")
    ] = _DEFAULTS.seed,
    lr: LearningRateOption = _DEFAULTS.lr,
    batch_size: BatchSizeOption = _DEFAULTS.batch_size,
    new: options.NewCandidatesOption = None,
    layers: options.LayersOption = 0,
    at: options.AtOption = None,
    only: options.OnlyOption = None,
    ignore: options.IgnoreOption = None,
    tie: options.TieOption = None,
    eps: options.RadiusOption = None,
    memory_limit: options.StepMemoryOption = None,
    limit: LimitOption = None,
    classes: ClassesOption = None,
    size: Annotated[
        int | None, typer.Option(help="side of the images", show_default="the model's or 32")
    ] = None,
    dump_graphs: DumpGraphsOption = None,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    lower: LowerOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Train MODEL on data, grow it between the epochs, and leave a run directory: all of it or nothing."""
    schedule = {
        "epochs": epochs,
        "grow_steps": grow_steps,
        "lr": lr,
        "batch_size": batch_size,
        "seed": seed,
    }
    depth = {"layers": LAYER_NEURONS, "at": tuple(at or ())} if layers else {}
    limits = build_budget(
        round_to,
        layers,
        neurons=neurons,
        parameters=parameters,
        multiply_adds=multiply_adds,
        activation_memory=activation_memory,
        latency=latency,
        per_width=per_width,
    )
    recipe = Recipe(
        schema_version=RECIPE_VERSION,
        model=model,
        data=build_settings(
            DataChoice, name=data, root=data_root, limit=limit, classes=classes, size=size
        ),
        settings=build_settings(RunSettings, **schedule, memory_limit=memory_limit),
        method=FireflyMethod(settings=build_settings(Firefly, new=new, eps=eps, **depth)),
        budget=limits,
        scope=Scope(
            only=tuple(only or ()),
            ignore=tuple(ignore or ()),
            tie=tuple((one,) for one in tie or ()),
        ),
        lower=lower,
    )
    run_recipe(recipe, OutputOptions(out, force, dump_graphs, as_json), device=device)
