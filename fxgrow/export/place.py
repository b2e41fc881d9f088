"""Where exports go: a file or directory appears by one rename when it is done and checked, or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fxgrow.errors import ExportError


@contextmanager
def placed(target: Path, names: frozenset[str], *, force: bool = False) -> Iterator[Path]:
    """A path beside ``target`` to write to, which becomes ``target`` at the end if nothing went wrong.

    ``force`` replaces a regular file, or a directory that holds nothing but files of ``names`` (none: no directory is
    replaced). Raises ``ExportError``: path-exists, foreign-path, unwritable-export, before anything is written.
    """
    target = target.absolute()
    _check(target, names, force)
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
    try:
        yield staging / target.name
        with _writing(target):
            _check(target, names, force)  # it may have appeared meanwhile
            _publish(staging / target.name, target, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check(target: Path, names: frozenset[str], force: bool) -> None:
    if not os.path.lexists(target):
        return
    if not force:
        raise ExportError("path-exists", f"{target} exists already and is kept; choose another path or say --force")
    if not (_is_export(target, names) if names else target.is_file() and not target.is_symlink()):
        raise ExportError(
            "foreign-path",
            f"{target} is no earlier export of this format, so it is kept in spite of --force; choose another",
        )


def _is_export(target: Path, names: frozenset[str]) -> bool:
    real = target.is_dir() and not target.is_symlink()
    return real and all(path.name in names and path.is_file() for path in target.iterdir())


def _publish(made: Path, target: Path, staging: Path) -> None:
    """A directory is moved aside first, and comes back if the new one cannot take its place."""
    if not target.is_dir():
        made.replace(target)
        return
    aside = staging / "aside"
    target.rename(aside)
    try:
        made.rename(target)
    except OSError:
        aside.rename(target)
        raise


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            "unwritable-export", f"{path} cannot be written ({error}); choose a place that can"
        ) from error
