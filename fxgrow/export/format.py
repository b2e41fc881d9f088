"""What a format is to the rest: one function that writes and checks, and what the file or directory may replace."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fxgrow.documents import ForeignCheck
from fxgrow.export.source_model import ExportSource


@dataclass(frozen=True)
class Options:
    """What a caller may choose. ``dynamic_batch``: None takes a batch of any size if the graph allows it, and says so.

    ``license``: for the model card, as the hubs abbreviate it.
    """

    dynamic_batch: bool | None = None
    license: str = "unknown"


@dataclass(frozen=True)
class Check:
    """How an export was checked: in words, and the largest relative difference of its output (None: a picture)."""

    words: str
    error: float | None = None


Write = Callable[[ExportSource, Path, Options], Check]


@dataclass(frozen=True)
class Format:
    """``write`` makes and checks the file or directory; ``stranger`` tells what it may not replace."""

    write: Write
    stranger: ForeignCheck
