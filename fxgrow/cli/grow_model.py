"""``fxgrow grow``: train a model and grow it on the way."""

from typing import Annotated

import typer

from fxgrow.cli.arguments import AsJson, DataRoot, Device, DumpGraphs, Force, Lower, ModelWords, Out, budget, settings
from fxgrow.cli.run_recipe import Outlet, run_recipe
from fxgrow.data import SOURCES
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
    data: Annotated[str, typer.Option(metavar="NAME", help=", ".join(SOURCES))] = "digits",
    data_root: DataRoot = None,
    epochs: Annotated[int, typer.Option(help="epochs of training in all")] = DEFAULTS.epochs,
    grow_steps: Annotated[
        int, typer.Option(help="growth steps between them, at equal distances")
    ] = DEFAULTS.grow_steps,
    neurons: Annotated[
        str | None,
        typer.Option(
            help="neurons that a growth step may add: a count (64) or a fraction (0.3)",
            show_default="0.3 if nothing else is limited",
        ),
    ] = None,
    parameters: Annotated[str | None, typer.Option(help="parameters that it may add")] = None,
    multiply_adds: Annotated[str | None, typer.Option(help="multiply-adds per image that it may add")] = None,
    activation_memory: Annotated[
        str | None, typer.Option(help="bytes per image kept for the backward pass that it may add")
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(help="time per image that it may add, measured: microseconds or a fraction"),
    ] = None,
    per_width: Annotated[str | None, typer.Option(help="neurons that it may add to every single width")] = None,
    round_to: Annotated[int, typer.Option(help="every width that grows ends at a multiple of it")] = 1,
    seed: Annotated[int, typer.Option(help="of the weights, the order of images and the candidates")] = DEFAULTS.seed,
    lr: Annotated[float, typer.Option(help="learning rate at the start; it falls to 0")] = DEFAULTS.lr,
    batch_size: Annotated[int, typer.Option(help="images per step of training")] = DEFAULTS.batch_size,
    new: Annotated[
        int | None, typer.Option(help="candidates for new neurons per width", show_default="the method's")
    ] = None,
    layers: Annotated[
        int, typer.Option(help="residual layers that a growth step may insert, where they lower the loss most")
    ] = 0,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="where layers may go: modules or nodes (layer*.relu)", show_default="all"),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="modules whose widths alone may grow (layer1.*)", show_default="all"),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="modules that keep their shapes", show_default="none")
    ] = None,
    tie: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="widths that grow alike (layer1.*.conv1)", show_default="none"),
    ] = None,
    eps: Annotated[
        float | None, typer.Option(help="radius of the neighbourhood searched", show_default="the method's")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            help="bytes that a step over the candidates may keep (2e9); more are searched in groups of widths"
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="use that many training images", show_default="all")] = None,
    classes: Annotated[int | None, typer.Option(help="classes of shapes: 10, 20, 100", show_default="10")] = None,
    size: Annotated[int | None, typer.Option(help="side of the images", show_default="the model's or 32")] = None,
    dump_graphs: DumpGraphs = None,
    device: Device = "cpu",
    force: Force = False,
    lower: Lower = False,
    as_json: AsJson = False,
) -> None:
    """Train MODEL on data, grow it between the epochs, and leave a run directory: all of it or nothing."""
    schedule = {"epochs": epochs, "grow_steps": grow_steps, "lr": lr, "batch_size": batch_size, "seed": seed}
    plan = settings(RunSettings, **schedule, memory=memory)
    depth = {"layers": LAYER_NEURONS, "at": tuple(at or ())} if layers else {}
    method = settings(Firefly, new=new, eps=eps, **depth)
    money = budget(
        round_to,
        layers,
        neurons=neurons,
        parameters=parameters,
        multiply_adds=multiply_adds,
        activation_memory=activation_memory,
        latency=latency,
        per_width=per_width,
    )
    images = DataChoice(name=data, root=data_root, limit=limit, classes=classes, size=size)
    recipe = Recipe(
        schema_version=RECIPE_VERSION,
        model=model,
        data=images,
        settings=plan,
        method=FireflyMethod(settings=method),
        budget=money,
        scope=Scope(only=tuple(only or ()), ignore=tuple(ignore or ()), tie=tuple((one,) for one in tie or ())),
        lower=lower,
    )
    run_recipe(recipe, Outlet(out, force, dump_graphs, as_json), device=device)
