"""``fxgrow cells train``: train the network of a genotype from scratch."""

from collections.abc import Mapping
from typing import Any

from torch import nn

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
from fxgrow.cli.cells import arguments as options
from fxgrow.cli.cells.arguments import GenotypeArgument
from fxgrow.cli.console import console
from fxgrow.cli.model_and_data import ModelAndData
from fxgrow.cli.reference_grammar import Reference, parse_reference
from fxgrow.cli.run_recipe import OutputOptions, run_recipe
from fxgrow.cli.trust import TRUST_TYPED
from fxgrow.errors import ModelError
from fxgrow.report import network_lines
from fxgrow.spec import multiply_adds
from fxgrow.training import RECIPE_VERSION, DataChoice, Recipe, RunSettings

NETWORK = "fxgrow.cells.evaluation:named_network"
_DEFAULTS = RunSettings()
# Liu et al. 2019 (DARTS), App. A.2. They also train for 600 epochs, with drop-path rising to 0.2.
LR, WEIGHT_DECAY, BATCH_SIZE = 0.025, 3e-4, 96


def train_cells(
    genotype: GenotypeArgument,
    out: OutOption,
    data: DataOption = "digits",
    data_root: DataRootOption = None,
    epochs: options.TrainEpochsOption = _DEFAULTS.epochs,
    channels: options.TrainChannelsOption = 36,
    layers: options.CellLayersOption = 20,
    auxiliary: options.AuxiliaryOption = False,
    drop_path: options.DropPathOption = 0.0,
    seed: options.TrainSeedOption = _DEFAULTS.seed,
    lr: LearningRateOption = LR,
    weight_decay: options.WeightDecayOption = WEIGHT_DECAY,
    batch_size: BatchSizeOption = BATCH_SIZE,
    limit: LimitOption = None,
    classes: ClassesOption = None,
    size: SizeOption = None,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Stack the cells of GENOTYPE, train the network; write a complete run directory or none."""
    # A wrong genotype is reported before any data is loaded.
    find_genotype(genotype)
    network = {"genotype": genotype, "channels": channels, "layers": layers}
    network |= {"auxiliary": auxiliary, "drop_path": drop_path}
    schedule = {"epochs": epochs, "grow_steps": 0, "seed": seed}
    sgd = {"lr": lr, "weight_decay": weight_decay, "batch_size": batch_size}
    recipe = Recipe(
        schema_version=RECIPE_VERSION,
        # In this order, because the first wrong option is the one that is reported.
        settings=build_settings(RunSettings, **schedule, **sgd),
        model=_network_reference(network),
        data=build_settings(
            DataChoice, name=data, root=data_root, limit=limit, classes=classes, size=size
        ),
        budget=build_budget(round_to=1, layers=0),
        notes={"budget": "unused, there is no growth step"},
    )
    output = OutputOptions(out, force, None, as_json)
    run_recipe(recipe, output, announce=_print_size, device=device, trust=TRUST_TYPED)


def _network_reference(options: Mapping[str, Any]) -> str:
    """A reference to the network, which a recipe can hold."""
    reference = Reference("python", NETWORK, options).label
    # Some file names would be read as a number, a constant or a tuple.
    read_back = parse_reference("python", reference.removeprefix("python:"))
    if read_back.options != options:
        raise ModelError(
            "bad-reference",
            f"the file name {options['genotype']!r} would be read as something else in a recipe; "
            "rename the file",
        )
    return reference


def _print_size(loaded: ModelAndData) -> None:
    """Print parameters and multiply-adds, before training begins."""
    network = loaded.model
    if not isinstance(network, EvaluationNetwork):
        return
    auxiliary = 0 if network.auxiliary is None else _count_parameters(network.auxiliary)
    # The second classifier only helps to train; it is no part of the network that is kept.
    parameters = _count_parameters(network) - auxiliary
    cost = multiply_adds(network, loaded.example_inputs)
    for line in network_lines(parameters, auxiliary, cost):
        console(stderr=True).print(line)


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
