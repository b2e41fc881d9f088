"""``fxgrow cells draw``: draw a genotype."""

from pathlib import Path
from typing import Annotated

import typer

from fxgrow.cells import draw, find_genotype
from fxgrow.cli.arguments import ForceFile
from fxgrow.cli.cells.arguments import GenotypeArgument
from fxgrow.cli.console import print_text


def draw_cells(
    genotype: GenotypeArgument,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help=".svg, .png, .pdf or .dot", show_default=False),
    ],
    force: ForceFile = False,
) -> None:
    """Draw the normal and the reduction cell of GENOTYPE."""
    draw(find_genotype(genotype), out, force=force)
    print_text(str(out))
