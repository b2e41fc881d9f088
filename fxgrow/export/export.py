"""One table of formats, and one function that writes any of them, all or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fxgrow.argument_checks import checked
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

_BATCH, _LICENSE = frozenset({"dynamic_batch"}), frozenset({"license"})
# The first bytes of a file tell what it is: a protocol buffer's first field, a zip archive, a
# digraph, XML, the signature of PNG.
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": Format(onnx.write_onnx, foreign_file(begins_with(b"\x08")), _BATCH),
        "pt2": Format(pt2.write_pt2, foreign_file(begins_with(b"PK")), _BATCH),
        "hub": Format(hub.write_hub, foreign_in_directory(HUB_DIRECTORY), _LICENSE),
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
    """What was written.

    Args:
        path: the file or directory.
        format: the key of ``FORMATS``.
        size: bytes of the file, or of all files of the directory.
        check: how the export was compared with the model.
    """

    path: Path
    format: str
    size: int
    check: Check


@checked
def export(
    model: ExportableModel,
    to: str,
    path: str | Path,
    *,
    force: bool = False,
    options: Options | None = None,
    trust: frozenset[str] = frozenset(),
    example_inputs: Any = None,
) -> Exported:
    """Write a model in another format, load it back and compare; all or nothing.

    Args:
        model: a run or spec directory, the result of ``fxgrow.load``, ``fxgrow.grow`` or
            ``fxgrow.widen``, or any other module.
        to: the format, a key of ``FORMATS``.
        path: the file or directory to write. It appears at the end, only if the check is passed.
        force: replace an earlier export of the same format; anything else is kept.
        options: choices that only some formats have; None takes the defaults.
        trust: prefixes of names outside torch that a directory's specification may call.
        example_inputs: of a module that was neither grown, widened nor loaded by fxgrow.

    Returns:
        What was written, its size, and how it was checked.

    Raises:
        ExportError: ``unknown-format``, ``path-exists``, ``foreign-path``, ``unsafe-path``,
            ``unused-option``, ``unwritable-export``, ``does-not-run``, ``export-differs``,
            ``missing-extra``, and what the format itself refuses (``not-exportable``,
            ``no-source``, ``bad-license``, ``file-limit``).
        SpecError: the model has no specification, or no longer fits it.

    Example:
        >>> done = fxgrow.export(growth, "onnx", "net.onnx")
        >>> print(done.size, done.check.words)
    """
    if to not in FORMATS:
        closest = ", ".join(get_close_matches(to, FORMATS, n=3, cutoff=0.0))
        raise ExportError(
            "unknown-format",
            f"there is no format {to!r}; choose one of {closest or ', '.join(FORMATS)}",
        )
    options = Options() if options is None else options
    _require_used(to, options)
    target, chosen = Path(path), FORMATS[to]
    with atomic_path(target, EXPORT_OUTPUT, chosen.foreign, force=force) as staging:
        source = export_source(model, trust, example_inputs)
        check = chosen.write(source, staging, options)
    return Exported(target, to, _size(target), check)


def _require_used(to: str, options: Options) -> None:
    """Check that no option is given that the format does not look at."""
    for field in fields(options):
        is_given = getattr(options, field.name) != field.default
        if is_given and field.name not in FORMATS[to].options:
            used_by = [name for name, row in FORMATS.items() if field.name in row.options]
            raise ExportError(
                "unused-option",
                f"{field.name} means nothing to the format {to}, only to {' and '.join(used_by)}; "
                "leave it out",
            )


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files)
