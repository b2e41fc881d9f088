"""What a model has more than before it got more words or classes."""

from collections.abc import Iterator

from rich.text import Text

from fxgrow.growth import Extended


def extension_lines(extended: Extended) -> Iterator[Text]:
    """The tensors that got rows, how far what was there moved, and what became of the config.

    Args:
        extended: what ``fxgrow.grow_vocabulary`` or ``grow_classes`` gave.
    """
    for name, rows in extended.rows.items():
        yield Text(f"{name}: {rows} rows")
    yield Text(f"the same for all old rows: off by {extended.preservation_error:.1e} of the output")
    if extended.config is None:
        return
    for name, value in extended.config.fields.items():
        yield Text(f"{name} = {value}")
    if extended.config.note:
        yield Text(extended.config.note)
