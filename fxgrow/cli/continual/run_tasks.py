"""``fxgrow continual run``: learn the classes of a data set task by task; goes on where it was stopped."""

from typing import Annotated

import typer
from rich.text import Text

from fxgrow.cli import arguments
from fxgrow.cli.arguments import (
    AsJsonOption,
    ClassesOption,
    DataOption,
    DataRootOption,
    DeviceOption,
    ForceOption,
    LimitOption,
    OutOption,
    SizeOption,
    build_settings,
    parse_amount,
)
from fxgrow.cli.commands import INTERRUPTED
from fxgrow.cli.console import console
from fxgrow.cli.continual.show_tasks import show_result
from fxgrow.continual import (
    ContinualResult,
    MasterSettings,
    StreamPlan,
    TrainSettings,
    check_out,
    run_stream,
)
from fxgrow.growth import Budget
from fxgrow.report import task_line
from fxgrow.training import RESULT, DataChoice

_DEFAULTS = StreamPlan()
EPOCHS = 5


def run_tasks(
    out: OutOption,
    data: DataOption = _DEFAULTS.data.name,
    tasks: Annotated[
        int, typer.Option(help="that the classes are dealt out to, evenly and at random")
    ] = (_DEFAULTS.tasks),
    data_root: DataRootOption = None,
    limit: LimitOption = None,
    classes: ClassesOption = None,
    size: SizeOption = None,
    seed: Annotated[
        int, typer.Option(help="of the classes, the weights, the images' order, the candidates")
    ] = (_DEFAULTS.seed),
    width: Annotated[
        int, typer.Option(help="channels of the first network, a VGG, at its begin")
    ] = _DEFAULTS.width,
    epochs: Annotated[int, typer.Option(help="epochs of training per task")] = EPOCHS,
    neurons: Annotated[
        str,
        typer.Option(
            "--budget",
            metavar="N",
            help="neurons that a task may unlock and add: a count, or a fraction",
        ),
    ] = str(_DEFAULTS.budget.neurons),
    target: Annotated[
        float | None,
        typer.Option(
            help="validation accuracy, 0 to 1, that ends a task without growth", show_default="none"
        ),
    ] = None,
    try_epochs: Annotated[
        int, typer.Option(help="epochs of a new head and normalisation before growth")
    ] = (_DEFAULTS.settings.try_epochs),
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Learn task after task, writing --out after each; the same command goes on where it was stopped."""
    plan = build_settings(
        StreamPlan,
        data=build_settings(
            DataChoice, name=data, root=data_root, limit=limit, classes=classes, size=size
        ),
        tasks=tasks,
        seed=seed,
        width=width,
        settings=build_settings(
            MasterSettings,
            train=build_settings(TrainSettings, epochs=epochs),
            try_epochs=try_epochs,
        ),
        budget=Budget(neurons=parse_amount("budget", neurons)),
        target=target,
    )
    check_out(out, force=force)
    place = arguments.resolve_device(device)
    try:
        result = run_stream(plan.deal(place), plan, out, force=force, callback=_say)
    except KeyboardInterrupt as error:
        if not (out / RESULT).exists():
            raise
        typer.echo(
            f"fxgrow: interrupted; {out} holds the tasks before, say the same to go on", err=True
        )
        raise typer.Exit(INTERRUPTED) from error
    show_result(result, as_json=as_json)


def _say(result: ContinualResult) -> None:
    console(stderr=True).print(Text(task_line(result)))
