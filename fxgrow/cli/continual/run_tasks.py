"""``fxgrow continual run``: learn the classes of a data set task by task; goes on where it was stopped."""

from typing import Annotated

import typer
from rich.text import Text

from fxgrow.cli import arguments
from fxgrow.cli.arguments import AsJson, Classes, Data, DataRoot, Device, Force, Limit, Out, Size, amount, settings
from fxgrow.cli.commands import INTERRUPTED
from fxgrow.cli.console import console
from fxgrow.cli.continual.show_tasks import show_result
from fxgrow.continual import MasterSettings, TrainSettings
from fxgrow.continual.result import ContinualResult, Plan
from fxgrow.continual.run import check_out, run_stream
from fxgrow.growth import Budget
from fxgrow.report import task_line
from fxgrow.training import DataChoice
from fxgrow.training.directory import RESULT

DEFAULTS = Plan()
EPOCHS = 5


def run_tasks(
    out: Out,
    data: Data = DEFAULTS.data.name,
    tasks: Annotated[int, typer.Option(help="that the classes are dealt out to, evenly and at random")] = (
        DEFAULTS.tasks
    ),
    data_root: DataRoot = None,
    limit: Limit = None,
    classes: Classes = None,
    size: Size = None,
    seed: Annotated[int, typer.Option(help="of the classes, the weights, the images' order, the candidates")] = (
        DEFAULTS.seed
    ),
    width: Annotated[int, typer.Option(help="channels of the first network, a VGG, at its begin")] = DEFAULTS.width,
    epochs: Annotated[int, typer.Option(help="epochs of training per task")] = EPOCHS,
    neurons: Annotated[
        str,
        typer.Option("--budget", metavar="N", help="neurons that a task may unlock and add: a count, or a fraction"),
    ] = str(DEFAULTS.budget.neurons),
    target: Annotated[
        float | None,
        typer.Option(help="validation accuracy, 0 to 1, that ends a task without growth", show_default="none"),
    ] = None,
    try_epochs: Annotated[int, typer.Option(help="epochs of a new head and normalisation before growth")] = (
        DEFAULTS.settings.try_epochs
    ),
    device: Device = "cpu",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Learn task after task, writing --out after each; the same command goes on where it was stopped."""
    plan = settings(
        Plan,
        data=settings(DataChoice, name=data, root=data_root, limit=limit, classes=classes, size=size),
        tasks=tasks,
        seed=seed,
        width=width,
        settings=settings(MasterSettings, train=settings(TrainSettings, epochs=epochs), try_epochs=try_epochs),
        budget=Budget(neurons=amount("budget", neurons)),
        target=target,
    )
    check_out(out, force=force)
    place = arguments.device(device)
    try:
        result = run_stream(plan.deal(place), plan, out, force=force, listen=_say)
    except KeyboardInterrupt as error:
        if not (out / RESULT).exists():
            raise
        typer.echo(f"fxgrow: interrupted; {out} holds the tasks before, say the same to go on", err=True)
        raise typer.Exit(INTERRUPTED) from error
    show_result(result, as_json=as_json)


def _say(result: ContinualResult) -> None:
    console(stderr=True).print(Text(task_line(result)))
