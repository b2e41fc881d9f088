"""Options of ``fxgrow continual run``."""

from typing import Annotated

import typer

TasksOption = Annotated[
    int, typer.Option(help="number of tasks; the classes are split among them evenly, at random")
]
TaskSeedOption = Annotated[
    int,
    typer.Option(
        "--seed",
        help="random seed of the split of classes, the weights, the order of the images and the "
        "candidates",
    ),
]
WidthOption = Annotated[
    int, typer.Option(help="channels of the first block of the first network, a VGG")
]
TaskEpochsOption = Annotated[int, typer.Option("--epochs", help="epochs of training per task")]
TaskBudgetOption = Annotated[
    str,
    typer.Option(
        "--budget",
        metavar="N",
        help="neurons that each task may unlock and add: a count (64) or a fraction (0.3)",
    ),
]
TargetOption = Annotated[
    float | None,
    typer.Option(
        help="validation accuracy, 0 to 1, at which a task ends without growth",
        show_default="none",
    ),
]
TryEpochsOption = Annotated[
    int, typer.Option(help="epochs of training only a new head and normalization before growth")
]
