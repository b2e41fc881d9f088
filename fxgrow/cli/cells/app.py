"""``fxgrow cells``: the group of its commands."""

import typer

from fxgrow.cli.cells.derive_cells import derive_cells
from fxgrow.cli.cells.draw_cells import draw_cells
from fxgrow.cli.cells.search_cells import search_cells
from fxgrow.cli.cells.train_cells import train_cells

cells_app = typer.Typer(no_args_is_help=True, help="Networks that are made of repeated cells.")
# In the order in which they are used: search, then read the cells off, draw and train them.
cells_app.command("search")(search_cells)
cells_app.command("derive")(derive_cells)
cells_app.command("draw")(draw_cells)
cells_app.command("train")(train_cells)
