"""Arguments that the commands about cells share."""

from typing import Annotated

import typer

from fxgrow.cells import GENOTYPES

GenotypeArgument = Annotated[
    str,
    typer.Argument(
        metavar="GENOTYPE",
        help=f"{', '.join(GENOTYPES)}, or a file: JSON, or a text Genotype(normal=[...], ...) as searches print it",
        show_default=False,
    ),
]
