"""``fxgrow continual``: the group of its commands."""

import typer

from fxgrow.cli.continual.run_tasks import run_tasks
from fxgrow.cli.continual.show_tasks import show_tasks

continual_app = typer.Typer(
    no_args_is_help=True, help="A master network that learns task after task and never forgets."
)
continual_app.command("run")(run_tasks)
continual_app.command("show")(show_tasks)
