"""``fxgrow cells``: what is done with the genotypes of cells; one file per command beside this one."""

import typer

from fxgrow.cli.cells.derive_cells import derive_cells
from fxgrow.cli.cells.draw_cells import draw_cells
from fxgrow.cli.cells.search_cells import search_cells
from fxgrow.cli.cells.train_cells import train_cells

app = typer.Typer(no_args_is_help=True, help="Networks that are made of repeated cells.")
app.command("search")(search_cells)
app.command("derive")(derive_cells)
app.command("draw")(draw_cells)
app.command("train")(train_cells)
