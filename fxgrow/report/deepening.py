"""What a model has more than before it was deepened."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from fxgrow.growth import Deepened
from fxgrow.report.numbers import number_text, quantity_text
from fxgrow.report.style import cell_texts, make_table

_MAX_LISTED = 6


def deepening_table(deeper: Deepened) -> Table:
    """One row per new block.

    Args:
        deeper: what ``fxgrow.deepen`` gave.

    Returns:
        The table: its path, the block that it is a copy of, how much one step was expected to
        lower the loss (if they were placed by that), what of it is constant.
    """
    table = make_table(
        "New blocks", "block", "copy of", "gain", "is the identity by", right=("gain",)
    )
    for path, source in deeper.new_blocks.items():
        # Their names in the block, which are the same in every copy.
        names = []
        for name in deeper.zeroed:
            if name.startswith(f"{path}."):
                names.append(name.removeprefix(f"{path}."))
        start = ", ".join(names) if deeper.exact else "a whole copy"
        gain = number_text(deeper.gains.get(source))
        table.add_row(*cell_texts(path, source, gain, start))
    return table


def deepening_lines(deeper: Deepened) -> Iterator[Text]:
    """Whether the function is kept, what became of the config, and which blocks moved.

    Args:
        deeper: what ``fxgrow.deepen`` gave.
    """
    if deeper.preservation_error is None:
        yield Text(f"not compared: {deeper.unchecked}")
    else:
        function = "the same function" if deeper.exact else "another function"
        error = f"{deeper.preservation_error:.1e} of the largest output"
        yield Text(f"{function}: off by {error}")
    if deeper.gains:
        all_gains = [f"{path} {number_text(gain)}" for path, gain in deeper.gains.items()]
        yield Text(f"gain of one step behind each block: {', '.join(all_gains)}")
    if deeper.loss_before is not None:
        losses = f"{number_text(deeper.loss_before)} -> {number_text(deeper.loss_after)}"
        yield Text(f"loss {losses}")
    if deeper.renamed:
        moves = [f"{old} -> {new}" for old, new in deeper.renamed.items()]
        more = ", ..." if len(moves) > _MAX_LISTED else ""
        moved = quantity_text(len(moves), "old block")
        yield Text(f"{moved} moved: {', '.join(moves[:_MAX_LISTED])}{more}")
    if deeper.config is not None:
        fields = [f"{name} = {value}" for name, value in deeper.config.fields.items()]
        yield Text(deeper.config.note or f"config: {', '.join(fields)}")
