"""``fxgrow diff``: what changed between two saved architectures."""

from pathlib import Path
from typing import Annotated

import typer

from fxgrow.cli.arguments import AsJson, ForceFile
from fxgrow.cli.console import show, show_text
from fxgrow.placing import PAGE, placed, writing
from fxgrow.report import diff_page, diff_tables
from fxgrow.spec import ArchitectureSpec, diff, read_spec
from fxgrow.spec.ours import holds, no_file

First = Annotated[Path, typer.Argument(metavar="A", help="a run or spec directory", show_default=False)]
Second = Annotated[Path, typer.Argument(metavar="B", help="another one", show_default=False)]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="write both graphs side by side to one HTML file", show_default=False),
]
_STRANGER = no_file(holds(b"<title>fxgrow diff</title>"))


def diff_directories(a: First, b: Second, as_json: AsJson = False, html: Html = None, force: ForceFile = False) -> None:
    """Show what changed from A to B: widths, layers, nodes, modules, parameters, multiply-adds."""
    if html is None:
        _show(read_spec(a), read_spec(b), as_json)
        return
    with placed(html, PAGE, _STRANGER, force=force, parents=False) as staging:
        first, second = read_spec(a), read_spec(b)
        page = diff_page(first, second, (str(a), str(b)))
        with writing(html, PAGE):
            staging.write_text(page, encoding="utf-8")
    _show(first, second, as_json)


def _show(first: ArchitectureSpec, second: ArchitectureSpec, as_json: bool) -> None:
    difference = diff(first, second)
    if as_json:
        show_text(difference.model_dump_json(indent=2))
    else:
        show(*diff_tables(difference))
