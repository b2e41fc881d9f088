"""A stream of tasks in tables: accuracies, what every task took, and whose the neurons are."""

from rich.table import Table
from rich.text import Text

from fxgrow.continual import ContinualResult, TaskOutcome
from fxgrow.report.numbers import NO_VALUE, count_text, number_text, percent_text, seconds_text
from fxgrow.report.style import cell_texts, make_table


def task_line(result: ContinualResult) -> str:
    """The last task that was learnt, in a line."""
    outcome, right = result.outcomes[-1], result.accuracies[-1][-1]
    locked, unlocked, new = _neurons(outcome)
    return (
        f"task {outcome.task} of {result.plan.tasks}  accuracy {percent_text(right)}  neurons {locked} locked, {unlocked} "
        f"unlocked, {new} new  {count_text(outcome.parameters)} parameters  {seconds_text(outcome.seconds)}"
    )


def continual_tables(result: ContinualResult) -> tuple[Table, ...]:
    """Accuracies after every task, the tasks one by one, and per width and task the neurons."""
    return _accuracies(result), _tasks(result), _widths(result)


def continual_lines(result: ContinualResult) -> tuple[Text, ...]:
    """What it comes to in the end."""
    done, last = len(result.outcomes), result.outcomes[-1]
    ahead = f" ({done} of {result.plan.tasks} tasks so far)" if done < result.plan.tasks else ""
    return (
        Text(
            f"average accuracy {percent_text(result.average)}, forgetting {percent_text(result.forgetting)}{ahead}"
        ),
        Text(
            f"{last.parameters:,} parameters for {done} tasks; {seconds_text(sum(o.seconds for o in result.outcomes))}"
        ),
    )


def _accuracies(result: ContinualResult) -> Table:
    names = [outcome.task for outcome in result.outcomes]
    made = make_table(
        "Test accuracy in %, of every task after every task",
        "after task",
        *names,
        right=tuple(names),
    )
    for name, row in zip(names, result.accuracies, strict=True):
        made.add_row(
            *cell_texts(
                name, *(f"{100 * right:.2f}" for right in row), *[""] * (len(names) - len(row))
            )
        )
    return made


def _tasks(result: ContinualResult) -> Table:
    right = (
        "tried", "valid", "test", "locked", "unlocked", "new", "parameters", "own network", "multiply-adds",
        "growing epochs", "took",
    )  # fmt: skip
    made = make_table("Tasks", "task", "classes", *right, right=right)
    for outcome, labels, row in zip(
        result.outcomes, result.labels, result.accuracies, strict=False
    ):
        made.add_row(
            *cell_texts(
                outcome.task,
                " ".join(map(str, labels)) or str(outcome.classes),
                NO_VALUE if outcome.tried is None else percent_text(outcome.tried),
                percent_text(outcome.accuracy),
                percent_text(row[-1]),
                *map(str, _neurons(outcome)),
                f"{outcome.parameters:,}",
                f"{outcome.network_parameters:,}",
                count_text(outcome.multiply_adds),
                number_text(outcome.growing_epochs),
                seconds_text(outcome.seconds),
            )
        )
    return made


def _widths(result: ContinualResult) -> Table:
    """A row per task: streams are longer than networks are deep."""
    last = result.outcomes[-1].widths
    made = make_table(
        "Neurons of every task: shared (locked) + unlocked + new", "width", *last, right=tuple(last)
    )
    for outcome in result.outcomes:
        uses = [outcome.widths.get(width) for width in last]
        words = [f"{use.locked}+{use.unlocked}+{use.new}" if use else NO_VALUE for use in uses]
        made.add_row(*cell_texts(f"task {outcome.task}", *words))
    made.add_row(*cell_texts("master", *(str(use.master) for use in last.values())))
    return made


def _neurons(outcome: TaskOutcome) -> tuple[int, int, int]:
    """Locked, unlocked and new ones, of all widths."""
    uses = outcome.widths.values()
    return (
        sum(use.locked for use in uses),
        sum(use.unlocked for use in uses),
        sum(use.new for use in uses),
    )
