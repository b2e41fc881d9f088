"""The ``fxgrow`` program: its commands, one file per command in this package."""

import typer

from fxgrow.cli.cells.app import cells_app
from fxgrow.cli.check_path import check_path
from fxgrow.cli.commands import ErrorHandlingGroup
from fxgrow.cli.continual.app import continual_app
from fxgrow.cli.diff_directories import diff_directories
from fxgrow.cli.expand_model import expand_model
from fxgrow.cli.export_model import export_model
from fxgrow.cli.grow_model import grow_model
from fxgrow.cli.inspect_model import inspect_model
from fxgrow.cli.list_methods import list_methods
from fxgrow.cli.print_schema import print_schema
from fxgrow.cli.replay_history import replay_history
from fxgrow.cli.report_run import report_run
from fxgrow.cli.resume_run import resume_run
from fxgrow.cli.run_recipe import run_recipe_file
from fxgrow.cli.show_log import show_log

app = typer.Typer(
    cls=ErrorHandlingGroup,
    no_args_is_help=True,
    add_completion=False,
    # A bug shows Python's own traceback, which can be copied into a report.
    pretty_exceptions_enable=False,
    help="Grow neural networks while keeping their function.",
)
# In the order in which the help lists them.
app.command("inspect")(inspect_model)
app.command("grow")(grow_model)
app.command("expand")(expand_model)
app.command("run")(run_recipe_file)
app.command("resume")(resume_run)
app.command("report")(report_run)
app.command("diff")(diff_directories)
app.command("log")(show_log)
app.command("replay")(replay_history)
app.command("check")(check_path)
app.command("export")(export_model)
app.command("methods")(list_methods)
app.command("schema")(print_schema)
app.add_typer(cells_app, name="cells")
app.add_typer(continual_app, name="continual")
