"""Files and folders of a data set that may be hostile.

Links, pipes and devices are refused, and no read is unbounded. The root that the caller names may
be a link; nothing below it may, so that a data set cannot reach outside its own directory.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from fxgrow.documents import check_kind, read_bytes
from fxgrow.errors import DataError, SpecError

# Names listed in one error; a data set may have thousands of classes.
_MAX_NAMES = 5
# Characters of a path or name that an error repeats.
_MAX_NAME_LENGTH = 400


def shown_path(path: str | Path) -> str:
    """Return a path or name in a form that is safe to print.

    Bytes that are not text, and characters that steer a terminal, become escapes; a long name
    loses its middle.
    """
    text = str(path)
    if len(text) > _MAX_NAME_LENGTH:
        half = _MAX_NAME_LENGTH // 2
        text = f"{text[:half]}...{text[-half:]}"
    return "".join(map(_printable, text))


def _printable(letter: str) -> str:
    # ascii() puts quotes around its result.
    return letter if letter.isprintable() else ascii(letter)[1:-1]


def shown_names(names: list[str]) -> str:
    """Return the first few names as one text, and how many more there are."""
    shown = ", ".join(map(shown_path, names[:_MAX_NAMES]))
    rest = len(names) - _MAX_NAMES
    return f"{shown} and {rest} more" if rest > 0 else shown


def root_directory(path: Path, fix: str) -> Path:
    """Return ``path`` if it is a directory, or a link to one: the root is the caller's own choice.

    Args:
        path: the data root.
        fix: what the caller should do if it is missing; ends the error message.

    Raises:
        DataError: ``missing-directory``.
    """
    try:
        is_directory = path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or holds a null byte
        is_directory = False
    if not is_directory:
        raise _missing_directory(path, fix)
    return path


def data_directory(path: Path, fix: str) -> Path:
    """Return ``path`` if it is a directory and not a link.

    Args:
        path: a directory inside the data root.
        fix: what the caller should do if it is missing; ends the error message.

    Raises:
        DataError: ``missing-directory``, ``symlink`` or ``unreadable``.
    """
    try:
        check_kind(path, directory=True)
    except SpecError as error:
        if error.code == "symlink":
            raise _symlink(path) from error
        if error.code == "unreadable":
            raise _unreadable(path, error) from error
        raise _missing_directory(path, fix) from error
    return path


def directory_entries(path: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a directory, sorted by name, none of which is a link.

    Raises:
        DataError: ``symlink`` or ``unreadable``.
    """
    try:
        with os.scandir(path) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(path, error) from error
    for entry in entries:
        if entry.is_symlink():
            raise _symlink(entry.path)
    return entries


def files_below(path: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """Yield the regular files below a directory, at any depth, that have one of some suffixes.

    Args:
        path: the directory.
        suffixes: lower-case suffixes with their dot; files of other names are skipped.

    Raises:
        DataError: ``not-a-file`` for a pipe, socket or device of such a name, ``symlink`` for any
            link, ``unreadable``.
    """
    # A stack and not recursion: folders may be nested deeper than Python's stack.
    stack = [path]
    while stack:
        folders = []
        for entry in directory_entries(stack.pop()):
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif Path(entry.name).suffix.lower() in suffixes:
                if not entry.is_file(follow_symlinks=False):
                    raise _not_a_file(entry.path)
                yield Path(entry.path)
        # Reversed, so that the stack gives them back in alphabetical order.
        stack += reversed(folders)


def read_content(path: Path, limit: int, fix: str) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Args:
        path: the file.
        limit: largest size in bytes; not one byte more is kept in memory.
        fix: what the caller should do if the file is missing or too large; ends the message.

    Raises:
        DataError: ``missing-file``, ``symlink``, ``not-a-file``, ``too-large`` or ``unreadable``.
    """
    try:
        return read_bytes(path, limit)
    except SpecError as error:
        if error.code == "missing-file":
            raise DataError(
                "missing-file", f"{shown_path(path)} is missing from the data set; {fix}"
            ) from error
        if error.code == "symlink":
            raise _symlink(path) from error
        if error.code == "not-a-file":
            raise _not_a_file(path) from error
        if error.code == "too-large":
            raise DataError(
                "too-large",
                f"{shown_path(path)} has more than {limit} bytes, so it is not read; {fix}",
            ) from error
        raise _unreadable(path, error) from error


def _missing_directory(path: Path, fix: str) -> DataError:
    return DataError(
        "missing-directory",
        f"the directory {shown_path(path)} does not exist, so there is no data; {fix}",
    )


def _symlink(path: str | Path) -> DataError:
    return DataError(
        "symlink",
        f"{shown_path(path)} is a symbolic link, which is not followed; "
        "put the real thing there or remove it",
    )


def _not_a_file(path: str | Path) -> DataError:
    return DataError(
        "not-a-file", f"{shown_path(path)} is no regular file, so it is not opened; remove it"
    )


def _unreadable(path: str | Path, error: Exception) -> DataError:
    cause = error if isinstance(error, OSError) else error.__cause__
    # A name that the system does not allow (a null byte) is a ValueError without strerror.
    reason = getattr(cause, "strerror", None) or "the name is not allowed"
    return DataError(
        "unreadable",
        f"{shown_path(path)} cannot be read ({reason}); check its name and permissions",
    )
