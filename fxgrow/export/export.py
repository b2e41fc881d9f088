"""The front door of this room: one table of formats, and one function that writes any of them, all or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from fxgrow.documents import (
    EXPORT_OUTPUT,
    HUB_DIRECTORY,
    atomic_path,
    begins_with,
    foreign_file,
    foreign_in_directory,
    is_source,
)
from fxgrow.errors import ExportError
from fxgrow.export import hub, onnx, picture, pt2, python_source
from fxgrow.export.format import Check, Format, Options
from fxgrow.export.source_model import ExportableModel, export_source

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": Format(onnx.write_onnx, foreign_file(begins_with(b"\x08"))),
        "pt2": Format(pt2.write_pt2, foreign_file(begins_with(b"PK"))),
        "hub": Format(hub.write_hub, foreign_in_directory(HUB_DIRECTORY)),
        "python": Format(python_source.write_python, foreign_file(is_source)),
        "dot": Format(
            picture.picture_writer("dot", picture.is_dot),
            foreign_file(begins_with(b"digraph", b"strict digraph")),
        ),
        "svg": Format(
            picture.picture_writer("svg", picture.is_svg),
            foreign_file(begins_with(b"<?xml", b"<svg")),
        ),
        "png": Format(
            picture.picture_writer("png", picture.is_png), foreign_file(begins_with(b"\x89PNG"))
        ),
    }
)


@dataclass(frozen=True)
class Exported:
    """What was written where, its size in bytes, and how it was checked."""

    path: Path
    format: str
    size: int
    check: Check


def export(
    model: ExportableModel,
    to: str,
    path: str | Path,
    *,
    force: bool = False,
    options: Options | None = None,
    trust: frozenset[str] = frozenset(),
) -> Exported:
    """Write a model to ``path`` in the format ``to`` (a key of ``FORMATS``), load it back and compare.

    ``model``: a run or spec directory, what ``fxgrow.load`` gave, or a ``Growth``. ``force`` replaces an earlier
    export. Nothing is written unless the check is passed. Raises ``ExportError``, or ``SpecError`` for the model.
    """
    if to not in FORMATS:
        closest = ", ".join(get_close_matches(to, FORMATS, n=3, cutoff=0.0))
        raise ExportError(
            "unknown-format",
            f"there is no format {to!r}; choose one of {closest or ', '.join(FORMATS)}",
        )
    target, found = Path(path), FORMATS[to]
    with atomic_path(target, EXPORT_OUTPUT, found.stranger, force=force) as staging:
        check = found.write(export_source(model, trust), staging, options or Options())
    return Exported(target, to, _size(target), check)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else (path,)))
