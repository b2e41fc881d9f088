"""``fxgrow grow``: train a model and grow it on the way."""

from typing import Annotated

import typer

from fxgrow.cli import growth_arguments as options
from fxgrow.cli.arguments import (
    AsJson,
    BatchSize,
    Classes,
    Data,
    DataRoot,
    Device,
    DumpGraphs,
    Force,
    LearningRate,
    Limit,
    Lower,
    ModelWords,
    Out,
    budget,
    settings,
)
from fxgrow.cli.run_recipe import Outlet, run_recipe
from fxgrow.growth import Scope
from fxgrow.methods import Firefly
from fxgrow.training import DataChoice, FireflyMethod, Recipe, RunSettings
from fxgrow.training.recipe import RECIPE_VERSION

LAYER_NEURONS = 8
"""Candidates for the hidden neurons of each residual layer."""

DEFAULTS = RunSettings()


def grow_model(
    model: ModelWords,
    out: Out,
    data: Data = "digits",
    data_root: DataRoot = None,
    epochs: Annotated[int, typer.Option(help="epochs of training in all")] = DEFAULTS.epochs,
    grow_steps: options.GrowSteps = DEFAULTS.grow_steps,
    neurons: options.Neurons = None,
    parameters: options.Parameters = None,
    multiply_adds: options.MultiplyAdds = None,
    activation_memory: options.ActivationMemory = None,
    latency: options.Latency = None,
    per_width: options.PerWidth = None,
    round_to: options.RoundTo = 1,
    seed: Annotated[int, typer.Option(help="of the weights, the order of images and the candidates")] = DEFAULTS.seed,
    lr: LearningRate = DEFAULTS.lr,
    batch_size: BatchSize = DEFAULTS.batch_size,
    new: options.NewCandidates = None,
    layers: options.Layers = 0,
    at: options.At = None,
    only: options.Only = None,
    ignore: options.Ignore = None,
    tie: options.Tie = None,
    eps: options.Radius = None,
    memory: options.StepMemory = None,
    limit: Limit = None,
    classes: Classes = None,
    size: Annotated[int | None, typer.Option(help="side of the images", show_default="the model's or 32")] = None,
    dump_graphs: DumpGraphs = None,
    device: Device = "cpu",
    force: Force = False,
    lower: Lower = False,
    as_json: AsJson = False,
) -> None:
    """Train MODEL on data, grow it between the epochs, and leave a run directory: all of it or nothing."""
    schedule = {"epochs": epochs, "grow_steps": grow_steps, "lr": lr, "batch_size": batch_size, "seed": seed}
    depth = {"layers": LAYER_NEURONS, "at": tuple(at or ())} if layers else {}
    limits = budget(
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
        data=settings(DataChoice, name=data, root=data_root, limit=limit, classes=classes, size=size),
        settings=settings(RunSettings, **schedule, memory=memory),
        method=FireflyMethod(settings=settings(Firefly, new=new, eps=eps, **depth)),
        budget=limits,
        scope=Scope(only=tuple(only or ()), ignore=tuple(ignore or ()), tie=tuple((one,) for one in tie or ())),
        lower=lower,
    )
    run_recipe(recipe, Outlet(out, force, dump_graphs, as_json), device=device)
