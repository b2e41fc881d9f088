"""A stream of tasks in tables: accuracies, what every task took, and whose the neurons are."""

from rich.table import Table
from rich.text import Text

from fxgrow.continual import ContinualResult, TaskOutcome
from fxgrow.report.numbers import NO_VALUE, count_text, number_text, percent_text, seconds_text
from fxgrow.report.style import cell_texts, make_table


def task_line(result: ContinualResult) -> str:
    """The last task that was learned, in a line."""
    outcome, accuracy = result.outcomes[-1], result.accuracies[-1][-1]
    locked, unlocked, new = _neurons(outcome)
    return (
        f"task {outcome.task} of {result.plan.tasks}  accuracy {percent_text(accuracy)}  "
        f"neurons {locked} locked, {unlocked} unlocked, {new} new  "
        f"{count_text(outcome.parameters)} parameters  {seconds_text(outcome.seconds)}"
    )


def continual_tables(result: ContinualResult) -> tuple[Table, ...]:
    """Accuracies after every task, the tasks one by one, and the neurons per width and task."""
    return _accuracies(result), _tasks(result), _widths(result)


def continual_lines(result: ContinualResult) -> tuple[Text, ...]:
    """The summary of a stream: average accuracy and forgetting, then parameters and time."""
    learned, last = len(result.outcomes), result.outcomes[-1]
    progress = ""
    if learned < result.plan.tasks:
        progress = f" ({learned} of {result.plan.tasks} tasks so far)"
    average, forgetting = percent_text(result.average), percent_text(result.forgetting)
    seconds = sum(outcome.seconds for outcome in result.outcomes)
    return (
        Text(f"average accuracy {average}, forgetting {forgetting}{progress}"),
        Text(f"{last.parameters:,} parameters for {learned} tasks; {seconds_text(seconds)}"),
    )


def _accuracies(result: ContinualResult) -> Table:
    names = [outcome.task for outcome in result.outcomes]
    title = "Test accuracy in %, of every task after every task"
    table = make_table(title, "after task", *names, right=tuple(names))
    for name, accuracies in zip(names, result.accuracies, strict=True):
        percents = [f"{100 * accuracy:.2f}" for accuracy in accuracies]
        # After the first tasks, the later ones have no accuracy yet.
        missing = [""] * (len(names) - len(accuracies))
        table.add_row(*cell_texts(name, *percents, *missing))
    return table


_TASK_NUMBERS = (
    "tried",
    "valid",
    "test",
    "locked",
    "unlocked",
    "new",
    "parameters",
    "own network",
    "multiply-adds",
    "growing epochs",
    "took",
)


def _tasks(result: ContinualResult) -> Table:
    table = make_table("Tasks", "task", "classes", *_TASK_NUMBERS, right=_TASK_NUMBERS)
    # Labels are planned for the whole stream, so there may be more of them than outcomes.
    rows = zip(result.outcomes, result.labels, result.accuracies, strict=False)
    for outcome, labels, accuracies in rows:
        table.add_row(*cell_texts(*_task_cells(outcome, labels, accuracies[-1])))
    return table


def _task_cells(
    outcome: TaskOutcome, labels: tuple[int, ...], test_accuracy: float
) -> tuple[str, ...]:
    """A row of the table of tasks, in the order of its columns."""
    return (
        outcome.task,
        " ".join(map(str, labels)) or str(outcome.classes),
        NO_VALUE if outcome.tried is None else percent_text(outcome.tried),
        percent_text(outcome.accuracy),
        percent_text(test_accuracy),
        *map(str, _neurons(outcome)),
        f"{outcome.parameters:,}",
        f"{outcome.network_parameters:,}",
        count_text(outcome.multiply_adds),
        number_text(outcome.growing_epochs),
        seconds_text(outcome.seconds),
    )


def _widths(result: ContinualResult) -> Table:
    """A row per task and a column per width: streams are longer than networks are deep."""
    last = result.outcomes[-1].widths
    title = "Neurons of every task: shared (locked) + unlocked + new"
    table = make_table(title, "width", *last, right=tuple(last))
    for outcome in result.outcomes:
        cells = []
        for width in last:
            use = outcome.widths.get(width)
            cells.append(f"{use.locked}+{use.unlocked}+{use.new}" if use else NO_VALUE)
        table.add_row(*cell_texts(f"task {outcome.task}", *cells))
    master_sizes = [str(use.master) for use in last.values()]
    table.add_row(*cell_texts("master", *master_sizes))
    return table


def _neurons(outcome: TaskOutcome) -> tuple[int, int, int]:
    """Locked, unlocked and new neurons of a task, over all widths."""
    locked, unlocked, new = 0, 0, 0
    for use in outcome.widths.values():
        locked += use.locked
        unlocked += use.unlocked
        new += use.new
    return locked, unlocked, new
