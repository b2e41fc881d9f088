"""``fxgrow continual run``: learn the classes of a data set task by task.

The same command resumes a run where it was stopped.
"""

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
from fxgrow.cli.continual import arguments as options
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
# Fewer than a paper's run needs, so that the command shows something within minutes.
EPOCHS = 5


def run_tasks(
    out: OutOption,
    data: DataOption = _DEFAULTS.data.name,
    tasks: options.TasksOption = _DEFAULTS.tasks,
    data_root: DataRootOption = None,
    limit: LimitOption = None,
    classes: ClassesOption = None,
    size: SizeOption = None,
    seed: options.TaskSeedOption = _DEFAULTS.seed,
    width: options.WidthOption = _DEFAULTS.width,
    epochs: options.TaskEpochsOption = EPOCHS,
    neurons: options.TaskBudgetOption = str(_DEFAULTS.budget.neurons),
    target: options.TargetOption = None,
    try_epochs: options.TryEpochsOption = _DEFAULTS.settings.try_epochs,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Learn task after task, writing --out after each; the same command resumes a stopped run."""
    # In this order, because the first wrong option is the one that is reported.
    choice = build_settings(
        DataChoice, name=data, root=data_root, limit=limit, classes=classes, size=size
    )
    train = build_settings(TrainSettings, epochs=epochs)
    plan = build_settings(
        StreamPlan,
        data=choice,
        tasks=tasks,
        seed=seed,
        width=width,
        settings=build_settings(MasterSettings, train=train, try_epochs=try_epochs),
        budget=Budget(neurons=parse_amount("budget", neurons)),
        target=target,
    )
    check_out(out, force=force)
    torch_device = arguments.resolve_device(device)
    try:
        stream = plan.deal(torch_device)
        result = run_stream(stream, plan, out, force=force, callback=_print_task)
    except KeyboardInterrupt as error:
        # Before the first task is done nothing is written, and the common message says so.
        if not (out / RESULT).exists():
            raise
        typer.echo(
            f"fxgrow: interrupted; {out} holds the tasks before, say the same to go on", err=True
        )
        raise typer.Exit(INTERRUPTED) from error
    show_result(result, as_json=as_json)


def _print_task(result: ContinualResult) -> None:
    console(stderr=True).print(Text(task_line(result)))
