"""Arguments and options of the commands about cells."""

from typing import Annotated

import typer

from fxgrow.cells import GENOTYPES, SEARCHES
from fxgrow.surgery import DEFAULT_STATE, STATE_NAMES

GenotypeArgument = Annotated[
    str,
    typer.Argument(
        metavar="GENOTYPE",
        help=f"{', '.join(GENOTYPES)}, or a file: JSON, or text Genotype(normal=[...], ...) as "
        "searches print it",
        show_default=False,
    ),
]

# The options of ``fxgrow cells search``. None stands for the default of the search method.
SearchMethodOption = Annotated[
    str,
    typer.Option("--method", metavar="NAME", help=f"the search method: {', '.join(SEARCHES)}"),
]
SearchEpochsOption = Annotated[
    int | None, typer.Option("--epochs", help="epochs of training", show_default="the method's")
]
GrowEveryOption = Annotated[
    int | None, typer.Option(help="epochs between growth steps (firefly only)", show_default="10")
]
SearchStateOption = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="RULE",
        help="what becomes of SGD's momentum when the network grows (firefly only): "
        f"{', '.join(STATE_NAMES)}",
        show_default=DEFAULT_STATE,
    ),
]
NewEntryRateOption = Annotated[
    float | None,
    typer.Option(
        help="how many times as fast as the rest new entries learn at first (firefly only)",
        show_default="1",
    ),
]
SearchBatchSizeOption = Annotated[
    int | None,
    typer.Option("--batch-size", help="images per training step", show_default="the method's"),
]
SearchCellsOption = Annotated[
    int, typer.Option("--cells", help="number of cells of the network that is searched")
]
SearchChannelsOption = Annotated[
    int, typer.Option("--channels", help="channels of each node before the first reduction cell")
]
NodesOption = Annotated[int, typer.Option(help="number of nodes of a cell")]

# The options of ``fxgrow cells train``.
TrainEpochsOption = Annotated[
    int, typer.Option("--epochs", help="epochs of training; the paper uses 600")
]
TrainChannelsOption = Annotated[
    int, typer.Option("--channels", help="channels of each node before the first reduction cell")
]
CellLayersOption = Annotated[
    int, typer.Option("--layers", help="number of cells, two of which are reduction cells")
]
AuxiliaryOption = Annotated[
    bool,
    typer.Option(
        "--auxiliary",
        help="add a second classifier after two thirds of the cells, whose loss counts 0.4",
    ),
]
DropPathOption = Annotated[
    float, typer.Option(help="probability that an operation is left out of a training step")
]
TrainSeedOption = Annotated[
    int,
    typer.Option("--seed", help="random seed of the weights, the order of the images, drop-path"),
]
WeightDecayOption = Annotated[float, typer.Option(help="weight decay of SGD")]
