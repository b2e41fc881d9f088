"""``fxgrow diff``: what changed between two saved architectures."""

from pathlib import Path
from typing import Annotated

import typer

from fxgrow.cli.arguments import AsJson
from fxgrow.cli.console import show, show_text
from fxgrow.errors import SpecError
from fxgrow.report import diff_page, diff_tables
from fxgrow.spec import diff, read_spec

First = Annotated[Path, typer.Argument(metavar="A", help="a run or spec directory", show_default=False)]
Second = Annotated[Path, typer.Argument(metavar="B", help="another one", show_default=False)]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="write both graphs side by side to one HTML file", show_default=False),
]


def diff_directories(a: First, b: Second, as_json: AsJson = False, html: Html = None) -> None:
    """Show what changed from A to B: widths, layers, nodes, modules, parameters, multiply-adds."""
    first, second = read_spec(a), read_spec(b)
    difference = diff(first, second)
    if as_json:
        show_text(difference.model_dump_json(indent=2))
    else:
        show(*diff_tables(difference))
    if html is not None:
        _write(html, diff_page(first, second, (str(a), str(b))))


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SpecError(
            "unwritable", f"{path} cannot be written ({reason}); give --html a file in a directory that exists"
        ) from error
