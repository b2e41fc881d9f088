"""The command line: one file per command beside this one."""

import typer

from fxgrow.cli.cells.app import app as cells
from fxgrow.cli.check_path import check_path
from fxgrow.cli.commands import ErrorHandlingGroup
from fxgrow.cli.continual.app import app as continual
from fxgrow.cli.diff_directories import diff_directories
from fxgrow.cli.export_model import export_model
from fxgrow.cli.grow_model import grow_model
from fxgrow.cli.inspect_model import inspect_model
from fxgrow.cli.print_schema import print_schema
from fxgrow.cli.replay_history import replay_history
from fxgrow.cli.run_recipe import run_recipe_file
from fxgrow.cli.show_log import show_log

app = typer.Typer(
    cls=ErrorHandlingGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Grow neural networks while keeping their function.",
)
app.command("inspect")(inspect_model)
app.command("grow")(grow_model)
app.command("run")(run_recipe_file)
app.command("diff")(diff_directories)
app.command("log")(show_log)
app.command("replay")(replay_history)
app.command("check")(check_path)
app.command("export")(export_model)
app.command("schema")(print_schema)
app.add_typer(cells, name="cells")
app.add_typer(continual, name="continual")
