"""What a format is: a function that writes and checks, and what it must not replace."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fxgrow.argument_checks import checked_class
from fxgrow.documents import ForeignCheck
from fxgrow.export.source_model import ExportSource


@checked_class
@dataclass(frozen=True)
class Options:
    """What a caller may choose.

    Args:
        dynamic_batch: True demands a batch axis of any size, False keeps the one of the example
            inputs, None takes any size if the graph allows it (the check says which).
        license: for the model card, as the hubs abbreviate it.
    """

    dynamic_batch: bool | None = None
    license: str = "unknown"


@dataclass(frozen=True)
class Check:
    """How an export was checked.

    Args:
        words: the check in words.
        error: the largest relative difference of its output; None for a picture.
    """

    words: str
    error: float | None = None


# (what to export, the path to write to, options) -> how it was checked; raises ExportError.
Write = Callable[[ExportSource, Path, Options], Check]


@dataclass(frozen=True)
class Format:
    """One format of ``FORMATS``.

    Args:
        write: makes the file or directory, loads it back and compares it with the model.
        foreign: why an existing path is not an earlier export of this format and must be kept;
            None if it may be replaced.
        options: names of the ``Options`` that it looks at.
    """

    write: Write
    foreign: ForeignCheck
    options: frozenset[str] = frozenset()
