"""``fxgrow grow``: train a model and grow it on the way."""

from typing import Annotated

import typer

from fxgrow.cli import growth_arguments as of
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
    grow_steps: of.GrowSteps = DEFAULTS.grow_steps,
    neurons: of.Neurons = None,
    parameters: of.Parameters = None,
    multiply_adds: of.MultiplyAdds = None,
    activation_memory: of.ActivationMemory = None,
    latency: of.Latency = None,
    per_width: of.PerWidth = None,
    round_to: of.RoundTo = 1,
    seed: Annotated[int, typer.Option(help="of the weights, the order of images and the candidates")] = DEFAULTS.seed,
    lr: LearningRate = DEFAULTS.lr,
    batch_size: BatchSize = DEFAULTS.batch_size,
    new: of.NewCandidates = None,
    layers: of.Layers = 0,
    at: of.At = None,
    only: of.Only = None,
    ignore: of.Ignore = None,
    tie: of.Tie = None,
    eps: of.Radius = None,
    memory: of.StepMemory = None,
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
    limits = {"neurons": neurons, "parameters": parameters, "multiply_adds": multiply_adds, "per_width": per_width}
    resources = {"activation_memory": activation_memory, "latency": latency}
    recipe = Recipe(
        schema_version=RECIPE_VERSION,
        model=model,
        data=DataChoice(name=data, root=data_root, limit=limit, classes=classes, size=size),
        settings=settings(RunSettings, **schedule, memory=memory),
        method=FireflyMethod(settings=settings(Firefly, new=new, eps=eps, **depth)),
        budget=budget(round_to, layers, **limits, **resources),
        scope=Scope(only=tuple(only or ()), ignore=tuple(ignore or ()), tie=tuple((one,) for one in tie or ())),
        lower=lower,
    )
    run_recipe(recipe, Outlet(out, force, dump_graphs, as_json), device=device)
