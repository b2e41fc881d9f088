"""The front door of this room: one table of formats, and one function that writes any of them, all or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from fxgrow.errors import ExportError
from fxgrow.export import hub, onnx, picture, plain, pt2
from fxgrow.export.format import Check, Format, Options
from fxgrow.export.subject import Model, subject_of
from fxgrow.placing import EXPORT, placed
from fxgrow.spec.ours import HUB, begins, is_source, no_file, no_folder

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": Format(onnx.write, no_file(begins(b"\x08"))),
        "pt2": Format(pt2.write, no_file(begins(b"PK"))),
        "hub": Format(hub.write, no_folder(HUB)),
        "python": Format(plain.write, no_file(is_source)),
        "dot": Format(picture.writer("dot", picture.is_dot), no_file(begins(b"digraph", b"strict digraph"))),
        "svg": Format(picture.writer("svg", picture.is_svg), no_file(begins(b"<?xml", b"<svg"))),
        "png": Format(picture.writer("png", picture.is_png), no_file(begins(b"\x89PNG"))),
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
    model: Model,
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
        raise ExportError("unknown-format", f"there is no format {to!r}; choose one of {closest or ', '.join(FORMATS)}")
    target, found = Path(path), FORMATS[to]
    with placed(target, EXPORT, found.stranger, force=force) as staging:
        check = found.write(subject_of(model, trust), staging, options or Options())
    return Exported(target, to, _size(target), check)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else (path,)))
