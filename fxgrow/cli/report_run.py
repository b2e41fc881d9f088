"""``fxgrow report``: how a run went, in the terminal or as a page."""

from pathlib import Path
from typing import Annotated

import typer

from fxgrow.cli.arguments import ForceFile, require_used
from fxgrow.cli.console import print_line, print_parts
from fxgrow.documents import PAGE_OUTPUT, atomic_path, contains_bytes, foreign_file, os_errors_as
from fxgrow.report import (
    REPORT_TITLE,
    RunStory,
    diff_page,
    read_story,
    report_page,
    run_sentence,
    run_table,
)
from fxgrow.spec import read_spec
from fxgrow.training import INITIAL

ReportedDirectory = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="a run, finished or not, or any directory with a log.jsonl",
        show_default=False,
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="also write charts and every growth step to one HTML file, and the diff beside it",
        show_default=False,
    ),
]
# Pages without these titles are not replaced, even with --force.
_NOT_A_REPORT = foreign_file(contains_bytes(REPORT_TITLE.encode()))
_NOT_A_DIFF = foreign_file(contains_bytes(b"<title>fxgrow diff</title>"))


def report_run(
    ctx: typer.Context,
    directory: ReportedDirectory,
    html: ReportOption = None,
    force: ForceFile = False,
) -> None:
    """Show how the run in DIR went: sizes, losses, accuracy, what growth was worth."""
    require_used(ctx, ("force",), html is not None, "--html")
    story = read_story(directory)
    if html is not None:
        _write_pages(directory, story, html, force)
    print_parts(run_table(story))
    print_line(run_sentence(story))


def _write_pages(directory: Path, story: RunStory, html: Path, force: bool) -> None:
    """Write the page, and the one that it links to if the networks are there to be compared."""
    name = directory.absolute().name
    with atomic_path(html, PAGE_OUTPUT, _NOT_A_REPORT, force=force, parents=False) as staging:
        # Only a finished run has both networks.
        address = ""
        if (directory / INITIAL).is_dir():
            beside = html.with_name(f"{html.stem}.diff.html")
            _write_diff(directory, beside, force)
            address = beside.name
        page = report_page(story, name, address)
        with os_errors_as(html, PAGE_OUTPUT):
            staging.write_text(page, encoding="utf-8", errors="backslashreplace")


def _write_diff(directory: Path, path: Path, force: bool) -> None:
    with atomic_path(path, PAGE_OUTPUT, _NOT_A_DIFF, force=force, parents=False) as staging:
        first, last = read_spec(directory / INITIAL), read_spec(directory)
        page = diff_page(first, last, (str(directory / INITIAL), str(directory)))
        with os_errors_as(path, PAGE_OUTPUT):
            staging.write_text(page, encoding="utf-8")
