"""``fxgrow cells``: the group of its commands."""

from fxgrow.cli.lazy_group import CommandRow, LazyGroup


class CellsGroup(LazyGroup):
    """In the order in which they are used: search, then read the cells off, draw and train them."""

    table = (
        CommandRow(
            "search",
            "fxgrow.cli.cells.search_cells:search_cells",
            "Search cells: weights learn from half of the training images, cells are judged on the "
            "rest.",
        ),
        CommandRow(
            "derive",
            "fxgrow.cli.cells.derive_cells:derive_cells",
            "Derive a genotype from the numbers of channels that a firefly search ended with.",
        ),
        CommandRow(
            "draw",
            "fxgrow.cli.cells.draw_cells:draw_cells",
            "Draw the normal and the reduction cell of GENOTYPE.",
        ),
        CommandRow(
            "train",
            "fxgrow.cli.cells.train_cells:train_cells",
            "Stack the cells of GENOTYPE, train the network; write a complete run directory or "
            "none.",
        ),
    )


cells_app = CellsGroup(
    name="cells", no_args_is_help=True, help="Networks that are made of repeated cells."
)
