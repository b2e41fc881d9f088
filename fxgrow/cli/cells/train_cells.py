"""``fxgrow cells train``: the network of a genotype, trained from scratch."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fxgrow.cells import EvaluationNetwork, find_genotype
from fxgrow.cli.arguments import (
    AsJsonOption,
    BatchSizeOption,
    ClassesOption,
    DataOption,
    DataRootOption,
    DeviceOption,
    ForceOption,
    LearningRateOption,
    LimitOption,
    OutOption,
    SizeOption,
    build_budget,
    build_settings,
)
from fxgrow.cli.cells.arguments import GenotypeArgument
from fxgrow.cli.console import console
from fxgrow.cli.model_and_data import ModelAndData
from fxgrow.cli.reference_grammar import Reference, parse_reference
from fxgrow.cli.run_recipe import OutputOptions, run_recipe
from fxgrow.errors import ModelError
from fxgrow.report import network_lines
from fxgrow.spec import multiply_adds
from fxgrow.training import RECIPE_VERSION, DataChoice, Recipe, RunSettings

NETWORK = "fxgrow.cells.evaluation:named_network"
_DEFAULTS = RunSettings()
# Liu et al. 2019, App. A.2; theirs are 600 epochs and drop-path that rises to 0.2, too.
LR, WEIGHT_DECAY, BATCH_SIZE = 0.025, 3e-4, 96


def train_cells(
    genotype: GenotypeArgument,
    out: OutOption,
    data: DataOption = "digits",
    data_root: DataRootOption = None,
    epochs: Annotated[
        int, typer.Option(help="epochs of training; the paper's are 600")
    ] = _DEFAULTS.epochs,
    channels: Annotated[int, typer.Option(help="of the nodes before the first reduction")] = 36,
    layers: Annotated[int, typer.Option(help="cells, two of them reduction cells")] = 20,
    auxiliary: Annotated[
        bool,
        typer.Option(
            "--auxiliary", help="a second classifier two thirds up, whose loss counts 0.4"
        ),
    ] = False,
    drop_path: Annotated[
        float, typer.Option(help="probability that an operation is left out of a step of training")
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(help="of the weights, the order of images and drop-path")
    ] = _DEFAULTS.seed,
    lr: LearningRateOption = LR,
    weight_decay: Annotated[float, typer.Option(help="of SGD")] = WEIGHT_DECAY,
    batch_size: BatchSizeOption = BATCH_SIZE,
    limit: LimitOption = None,
    classes: ClassesOption = None,
    size: SizeOption = None,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    as_json: AsJsonOption = False,
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
    plan = build_settings(
        RunSettings,
        epochs=epochs,
        grow_steps=0,
        lr=lr,
        weight_decay=weight_decay,
        batch_size=batch_size,
        seed=seed,
    )
    recipe = Recipe(
        schema_version=RECIPE_VERSION,
        model=_reference(options),
        data=build_settings(
            DataChoice, name=data, root=data_root, limit=limit, classes=classes, size=size
        ),
        settings=plan,
        budget=build_budget(round_to=1, layers=0),
        notes={"budget": "unused, there is no growth step"},
    )
    run_recipe(recipe, OutputOptions(out, force, None, as_json), announce=_say_size, device=device)


def _reference(options: Mapping[str, Any]) -> str:
    """The network in words that a recipe can repeat. Raises ``ModelError`` (``bad-reference``) if words cannot."""
    words = Reference("python", NETWORK, options).label
    if parse_reference("python", words.removeprefix("python:")).options != options:
        raise ModelError(
            "bad-reference",
            f"the file name {options['genotype']!r} would be read as something else in a recipe; rename the file",
        )
    return words


def _say_size(found: ModelAndData) -> None:
    """Parameters and multiply-adds, before training begins."""
    if isinstance(found.model, EvaluationNetwork):
        helper = found.model.auxiliary
        both = sum(parameter.numel() for parameter in found.model.parameters())
        extra = 0 if helper is None else sum(parameter.numel() for parameter in helper.parameters())
        for line in network_lines(
            both - extra, extra, multiply_adds(found.model, found.example_inputs)
        ):
            console(stderr=True).print(line)
