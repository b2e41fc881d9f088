"""``fxgrow cells derive``: read the cells off a finished search by growth, once more or in another way."""

from pathlib import Path
from typing import Annotated

import typer

from fxgrow.cells import genotype_text
from fxgrow.cells.derive import Derivation
from fxgrow.cells.firefly import FireflySearch
from fxgrow.cells.searches import derive_again, read_search
from fxgrow.cli.arguments import ForceFile, settings
from fxgrow.cli.console import show_text
from fxgrow.placing import FILE, placed, writing
from fxgrow.spec.ours import is_genotype, no_file
from fxgrow.training.directory import SEARCHED

DEFAULTS = FireflySearch().derivation
_STRANGER = no_file(is_genotype)


def derive_cells(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="what a search left", show_default=False)],
    little: Annotated[
        float, typer.Option(help="an edge that grew by no more than this share becomes the identity")
    ] = DEFAULTS.little,
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="keep every incoming edge, not the two strongest")
    ] = False,
    against_average: Annotated[
        bool,
        typer.Option(help="compare an operation with what the same one has elsewhere, not with what it began with"),
    ] = DEFAULTS.against_average,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="write JSON there", show_default="print it")
    ] = None,
    force: ForceFile = False,
) -> None:
    """Derive a genotype from the channels that a search by growth ended with."""
    derivation = settings(Derivation, little=little, keep_all=keep_all, against_average=against_average)
    if out is None:
        show_text(_derived(directory, derivation).rstrip("\n"))
        return
    with placed(out, FILE, _STRANGER, force=force, parents=False) as staging:
        text = _derived(directory, derivation)
        with writing(out, FILE):
            staging.write_text(text, encoding="utf-8")
    show_text(str(out))


def _derived(directory: Path, derivation: Derivation) -> str:
    return genotype_text(derive_again(read_search(directory / SEARCHED), derivation))
