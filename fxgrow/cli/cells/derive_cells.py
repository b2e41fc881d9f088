"""``fxgrow cells derive``: read the cells off a finished search by growth, once more or in another way."""

from pathlib import Path
from typing import Annotated

import typer

from fxgrow.cells import Derivation, FireflySearch, derive_again, genotype_text, read_search
from fxgrow.cli.arguments import ForceFile, build_settings
from fxgrow.cli.console import print_text
from fxgrow.documents import FILE_OUTPUT, atomic_path, foreign_file, is_genotype, os_errors_as
from fxgrow.training import SEARCHED

_DEFAULTS = FireflySearch().derivation
_STRANGER = foreign_file(is_genotype)


def derive_cells(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="what a search left", show_default=False)
    ],
    identity_threshold: Annotated[
        float,
        typer.Option(help="an edge that grew by no more than this share becomes the identity"),
    ] = _DEFAULTS.identity_threshold,
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="keep every incoming edge, not the two strongest")
    ] = False,
    normalize_by_operation: Annotated[
        bool,
        typer.Option(
            help="compare an operation with what the same one has elsewhere, not with what it began with"
        ),
    ] = _DEFAULTS.normalize_by_operation,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE_OUTPUT", help="write JSON there", show_default="print it"
        ),
    ] = None,
    force: ForceFile = False,
) -> None:
    """Derive a genotype from the channels that a search by growth ended with."""
    derivation = build_settings(
        Derivation,
        identity_threshold=identity_threshold,
        keep_all=keep_all,
        normalize_by_operation=normalize_by_operation,
    )
    if out is None:
        print_text(_derived(directory, derivation).rstrip("\n"))
        return
    with atomic_path(out, FILE_OUTPUT, _STRANGER, force=force, parents=False) as staging:
        text = _derived(directory, derivation)
        with os_errors_as(out, FILE_OUTPUT):
            staging.write_text(text, encoding="utf-8")
    print_text(str(out))


def _derived(directory: Path, derivation: Derivation) -> str:
    return genotype_text(derive_again(read_search(directory / SEARCHED), derivation))
