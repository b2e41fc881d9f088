"""``fxgrow cells train``: the network of a genotype, trained from scratch."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fxgrow.cells import EvaluationNetwork, find_genotype
from fxgrow.cli.arguments import (
    AsJson,
    BatchSize,
    Classes,
    Data,
    DataRoot,
    Device,
    Force,
    LearningRate,
    Limit,
    Out,
    Size,
    budget,
    settings,
)
from fxgrow.cli.cells.arguments import GenotypeWords
from fxgrow.cli.console import console
from fxgrow.cli.reference import Reference, parse
from fxgrow.cli.run_recipe import Outlet, run_recipe
from fxgrow.cli.subject import Subject
from fxgrow.errors import ModelError
from fxgrow.report import network_lines
from fxgrow.spec import multiply_adds
from fxgrow.training import DataChoice, Recipe, RunSettings
from fxgrow.training.recipe import RECIPE_VERSION

NETWORK = "fxgrow.cells.evaluation:named_network"
DEFAULTS = RunSettings()
# Liu et al. 2019, App. A.2; theirs are 600 epochs and drop-path that rises to 0.2, too.
LR, WEIGHT_DECAY, BATCH_SIZE = 0.025, 3e-4, 96


def train_cells(
    genotype: GenotypeWords,
    out: Out,
    data: Data = "digits",
    data_root: DataRoot = None,
    epochs: Annotated[int, typer.Option(help="epochs of training; the paper's are 600")] = DEFAULTS.epochs,
    channels: Annotated[int, typer.Option(help="of the nodes before the first reduction")] = 36,
    layers: Annotated[int, typer.Option(help="cells, two of them reduction cells")] = 20,
    auxiliary: Annotated[
        bool, typer.Option("--auxiliary", help="a second classifier two thirds up, whose loss counts 0.4")
    ] = False,
    drop_path: Annotated[
        float, typer.Option(help="probability that an operation is left out of a step of training")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="of the weights, the order of images and drop-path")] = DEFAULTS.seed,
    lr: LearningRate = LR,
    weight_decay: Annotated[float, typer.Option(help="of SGD")] = WEIGHT_DECAY,
    batch_size: BatchSize = BATCH_SIZE,
    limit: Limit = None,
    classes: Classes = None,
    size: Size = None,
    device: Device = "cpu",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Stack the cells of GENOTYPE to a network, train it, and leave a run directory: all of it or nothing."""
    find_genotype(genotype)  # what is wrong with it is said before any data is loaded
    options = {
        "genotype": genotype,
        "channels": channels,
        "layers": layers,
        "auxiliary": auxiliary,
        "drop_path": drop_path,
    }
    plan = settings(
        RunSettings, epochs=epochs, grow_steps=0, lr=lr, weight_decay=weight_decay, batch_size=batch_size, seed=seed
    )
    recipe = Recipe(
        schema_version=RECIPE_VERSION,
        model=_reference(options),
        data=settings(DataChoice, name=data, root=data_root, limit=limit, classes=classes, size=size),
        settings=plan,
        budget=budget(round_to=1, layers=0),
        notes={"budget": "unused, there is no growth step"},
    )
    run_recipe(recipe, Outlet(out, force, None, as_json), announce=_say_size, device=device)


def _reference(options: Mapping[str, Any]) -> str:
    """The network in words that a recipe can repeat. Raises ``ModelError`` (``bad-reference``) if words cannot."""
    words = Reference("python", NETWORK, options).label
    if parse("python", words.removeprefix("python:")).options != options:
        raise ModelError(
            "bad-reference",
            f"the file name {options['genotype']!r} would be read as something else in a recipe; rename the file",
        )
    return words


def _say_size(found: Subject) -> None:
    """Parameters and multiply-adds, before training begins."""
    if isinstance(found.model, EvaluationNetwork):
        helper = found.model.auxiliary
        both = sum(parameter.numel() for parameter in found.model.parameters())
        extra = 0 if helper is None else sum(parameter.numel() for parameter in helper.parameters())
        for line in network_lines(both - extra, extra, multiply_adds(found.model, found.example_inputs)):
            console(stderr=True).print(line)
