"""The options that a caller may pass to a data source; ``None`` leaves the choice to the source."""

from dataclasses import dataclass, fields
from pathlib import Path

from fxgrow.errors import DataError

NOT_COUNTS = {"root", "seed"}
"""The fields that are not numbers of something, so they may be zero or a path."""


@dataclass(frozen=True)
class Request:
    """The options of one call of ``load_data``, which documents them.

    Raises:
        DataError: ``option`` if a count (channels, size, classes, images) is below 1.
    """

    root: Path | None = None
    seed: int = 0
    channels: int | None = None
    size: int | None = None
    classes: int | None = None
    train_size: int | None = None
    test_size: int | None = None

    def __post_init__(self) -> None:
        names = {field.name for field in fields(self)}
        for name in sorted(names - NOT_COUNTS):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(
                    "option", f"{name}={value} leaves no data; give 1 or more, or leave it out"
                )
