"""``fxgrow diff``: what changed between two saved architectures."""

from pathlib import Path
from typing import Annotated

import typer

from fxgrow.cli.arguments import AsJson
from fxgrow.cli.console import show, show_text
from fxgrow.report import diff_tables
from fxgrow.spec import diff, read_spec

First = Annotated[Path, typer.Argument(metavar="A", help="a run or spec directory", show_default=False)]
Second = Annotated[Path, typer.Argument(metavar="B", help="another one", show_default=False)]


def diff_directories(a: First, b: Second, as_json: AsJson = False) -> None:
    """Show what changed from A to B: widths, layers, parameters, multiply-adds."""
    difference = diff(read_spec(a), read_spec(b))
    if as_json:
        show_text(difference.model_dump_json(indent=2))
    else:
        show(*diff_tables(difference))
