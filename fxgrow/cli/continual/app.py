"""``fxgrow continual``: a network that learns task after task; one file per command beside this one."""

import typer

from fxgrow.cli.continual.run_tasks import run_tasks
from fxgrow.cli.continual.show_tasks import show_tasks

app = typer.Typer(
    no_args_is_help=True, help="A master network that learns task after task and never forgets."
)
app.command("run")(run_tasks)
app.command("show")(show_tasks)
