"""What a caller may ask of any source; ``None`` leaves the choice to the source."""

from dataclasses import dataclass, fields
from pathlib import Path

from fxgrow.errors import DataError

NOT_COUNTS = {"root", "seed"}


@dataclass(frozen=True)
class Request:
    """The arguments of ``load_data``: see there."""

    root: Path | None = None
    seed: int = 0
    channels: int | None = None
    size: int | None = None
    classes: int | None = None
    train_size: int | None = None
    test_size: int | None = None

    def __post_init__(self) -> None:
        for name in sorted({field.name for field in fields(self)} - NOT_COUNTS):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(
                    "option", f"{name}={value} leaves no data; give 1 or more, or leave it out"
                )
