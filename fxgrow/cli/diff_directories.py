"""``fxgrow diff``: what changed between two saved architectures."""

from pathlib import Path
from typing import Annotated

import typer

from fxgrow.cli.arguments import AsJsonOption, ForceFile, require_used
from fxgrow.cli.console import print_parts, print_text
from fxgrow.documents import PAGE_OUTPUT, atomic_path, contains_bytes, foreign_file, os_errors_as
from fxgrow.report import diff_page, diff_tables
from fxgrow.spec import ArchitectureSpec, diff, read_spec

FirstDirectory = Annotated[
    Path, typer.Argument(metavar="A", help="a run or spec directory", show_default=False)
]
SecondDirectory = Annotated[
    Path, typer.Argument(metavar="B", help="another one", show_default=False)
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="also write both graphs, side by side, to one HTML file",
        show_default=False,
    ),
]
# Pages without this title are not replaced, even with --force.
_IS_FOREIGN = foreign_file(contains_bytes(b"<title>fxgrow diff</title>"))


def diff_directories(
    ctx: typer.Context,
    a: FirstDirectory,
    b: SecondDirectory,
    as_json: AsJsonOption = False,
    html: HtmlOption = None,
    force: ForceFile = False,
) -> None:
    """Show what changed from A to B: widths, layers, nodes, modules, parameters, multiply-adds."""
    require_used(ctx, ("force",), html is not None, "--html")
    if html is None:
        _print_difference(read_spec(a), read_spec(b), as_json)
        return
    with atomic_path(html, PAGE_OUTPUT, _IS_FOREIGN, force=force, parents=False) as staging:
        first, second = read_spec(a), read_spec(b)
        page = diff_page(first, second, (str(a), str(b)))
        with os_errors_as(html, PAGE_OUTPUT):
            staging.write_text(page, encoding="utf-8")
    # Only now, so that nothing is printed if the page could not be written.
    _print_difference(first, second, as_json)


def _print_difference(first: ArchitectureSpec, second: ArchitectureSpec, as_json: bool) -> None:
    difference = diff(first, second)
    if as_json:
        print_text(difference.model_dump_json(indent=2))
    else:
        print_parts(*diff_tables(difference))
