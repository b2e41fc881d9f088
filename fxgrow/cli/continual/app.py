"""``fxgrow continual``: the group of its commands."""

from fxgrow.cli.lazy_group import CommandRow, LazyGroup


class ContinualGroup(LazyGroup):
    """Learn the tasks, then look at what was learned."""

    table = (
        CommandRow(
            "run",
            "fxgrow.cli.continual.run_tasks:run_tasks",
            "Learn task after task, writing --out after each; the same command resumes a stopped "
            "run.",
        ),
        CommandRow(
            "show",
            "fxgrow.cli.continual.show_tasks:show_tasks",
            "Show the accuracies, parameters and neurons of every task in DIR.",
        ),
    )


continual_app = ContinualGroup(
    name="continual",
    no_args_is_help=True,
    help="A master network that learns task after task and never forgets.",
)
