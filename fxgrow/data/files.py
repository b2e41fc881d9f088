"""Files and folders of a data set, which may be anybody's: no links, pipes or devices, and nothing read without bound.

The root that the caller names may be a link; what lies below it may not, so that a data set cannot reach outside.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from fxgrow.documents import check_kind, read_bytes
from fxgrow.errors import DataError, SpecError

_MAX_NAMED = 5
"""So many names are listed in an error; a data set may have thousands of classes."""

_MAX_NAME = 400
"""Characters of a path or name that an error repeats."""


def shown_path(path: str | Path) -> str:
    """A path or name as it may be printed: bytes that are no text and what steers a terminal become escapes."""
    text = str(path)
    if len(text) > _MAX_NAME:
        text = f"{text[: _MAX_NAME // 2]}...{text[-_MAX_NAME // 2 :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def shown_names(names: list[str]) -> str:
    """The first few of some names, and how many more there are."""
    rest = len(names) - _MAX_NAMED
    return ", ".join(map(shown_path, names[:_MAX_NAMED])) + (
        f" and {rest} more" if rest > 0 else ""
    )


def root_directory(path: Path, fix: str) -> Path:
    """``path``, which must be a directory or a link to one: it is the caller's own choice."""
    try:
        found = path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or holds a null byte
        found = False
    if not found:
        raise _no_directory(path, fix)
    return path


def data_directory(path: Path, fix: str) -> Path:
    """``path``, which must be a directory and no link. Raises ``DataError``."""
    try:
        check_kind(path, directory=True)
    except SpecError as error:
        if error.code == "symlink":
            raise _link(path) from error
        if error.code == "unreadable":
            raise _unreadable(path, error) from error
        raise _no_directory(path, fix) from error
    return path


def directory_entries(path: Path) -> list[os.DirEntry[str]]:
    """What a directory holds, by name, none of it a link. Raises ``DataError``."""
    try:
        with os.scandir(path) as listing:
            found = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(path, error) from error
    link = next((entry for entry in found if entry.is_symlink()), None)
    if link is not None:
        raise _link(link.path)
    return found


def files_below(path: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """The regular files below a directory that end in one of ``suffixes``; other names are left out.

    Raises ``DataError`` for a pipe, socket or device of such a name, and for any link.
    """
    waiting = [path]
    while waiting:
        folders = []
        for entry in directory_entries(waiting.pop()):
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif Path(entry.name).suffix.lower() in suffixes:
                if not entry.is_file(follow_symlinks=False):
                    raise _no_file(entry.path)
                yield Path(entry.path)
        waiting += reversed(folders)


def read_content(path: Path, limit: int, fix: str) -> bytes:
    """The bytes of a regular file, at most ``limit`` of them. Raises ``DataError``; ``fix`` is said if it is wrong."""
    try:
        return read_bytes(path, limit)
    except SpecError as error:
        if error.code == "missing-file":
            raise DataError(
                "missing-file", f"{shown_path(path)} is missing from the data set; {fix}"
            ) from error
        if error.code == "symlink":
            raise _link(path) from error
        if error.code == "not-a-file":
            raise _no_file(path) from error
        if error.code == "too-large":
            raise DataError(
                "too-large",
                f"{shown_path(path)} has more than {limit} bytes, so it is not read; {fix}",
            ) from error
        raise _unreadable(path, error) from error


def _no_directory(path: Path, fix: str) -> DataError:
    return DataError(
        "missing-directory",
        f"the directory {shown_path(path)} does not exist, so there is no data; {fix}",
    )


def _link(path: str | Path) -> DataError:
    return DataError(
        "symlink",
        f"{shown_path(path)} is a symbolic link, which is not followed; put the real thing there or remove it",
    )


def _no_file(path: str | Path) -> DataError:
    return DataError(
        "not-a-file", f"{shown_path(path)} is no regular file, so it is not opened; remove it"
    )


def _unreadable(path: str | Path, error: Exception) -> DataError:
    cause = error if isinstance(error, OSError) else error.__cause__
    reason = getattr(cause, "strerror", None) or "the name is not allowed"
    return DataError(
        "unreadable",
        f"{shown_path(path)} cannot be read ({reason}); check its name and permissions",
    )
