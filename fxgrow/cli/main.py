"""The command line: ``fxgrow inspect | grow | diff | check | export | schema``; one file per command."""

import typer

from fxgrow.cli.check_directory import check_directory
from fxgrow.cli.commands import Commands
from fxgrow.cli.diff_directories import diff_directories
from fxgrow.cli.export_model import export_model
from fxgrow.cli.grow_model import grow_model
from fxgrow.cli.inspect_model import inspect_model
from fxgrow.cli.print_schema import print_schema

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Grow neural networks while keeping their function.",
)
app.command("inspect")(inspect_model)
app.command("grow")(grow_model)
app.command("diff")(diff_directories)
app.command("check")(check_directory)
app.command("export")(export_model)
app.command("schema")(print_schema)
