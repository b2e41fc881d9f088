"""Read files of bounded size, and write the two files of a spec directory.

Every failure of the file system is a ``SpecError``.
"""

import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from fxgrow.documents import atomic, limits, recognition
from fxgrow.documents.atomic import recover_directory
from fxgrow.errors import SpecError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PIECE = 2**20
"""Bytes that are read at once."""


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Turn failures of the operating system while reading ``path`` into a SpecError.

    Raises:
        SpecError: ``missing-file`` or ``unreadable``.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise SpecError(
            "missing-file",
            "there is no such file; save the model again or correct the path",
            str(path),
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise SpecError(
            "unreadable", f"it cannot be read ({error}); check its permissions", str(path)
        ) from error


@contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """Turn failures of the operating system while writing ``path`` into a SpecError.

    Raises:
        SpecError: ``unwritable``.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise SpecError(
            "unwritable", f"it cannot be written ({error}); nothing was changed", str(path)
        ) from error


def check_kind(path: Path, directory: bool) -> os.stat_result:
    """Check that ``path`` is a directory or a regular file, and not a link.

    Every read comes through here, so this is where a directory that a killed process has left
    aside is moved back.

    Args:
        path: the path.
        directory: a directory is expected; otherwise a regular file.

    Returns:
        The status of ``path``.

    Raises:
        SpecError: ``missing-file``, ``unreadable``, ``symlink`` or ``not-a-file``.
    """
    with reading_errors(path):
        try:
            status = path.lstat()
        except FileNotFoundError:
            if not _recover_one_of(path, *path.parents):
                raise
            status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise SpecError(
            "symlink",
            "it is a symbolic link, which is not followed; put the real thing there",
            str(path),
        )
    is_expected = stat.S_ISDIR if directory else stat.S_ISREG
    if not is_expected(status.st_mode):
        expected = "directory" if directory else "regular file"
        raise SpecError(
            "not-a-file",
            f"it is no {expected}; give the directory that a model was saved to",
            str(path),
        )
    return status


def _recover_one_of(*paths: Path) -> bool:
    """Move the first of these back that was left aside; whether there was one."""
    return any(map(recover_directory, paths))


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes, whatever size it claims or grows to.

    Args:
        path: the file.
        limit: largest size in bytes.

    Raises:
        SpecError: ``too-large``, or the errors of ``check_kind``.
    """
    size = check_kind(path, directory=False).st_size
    pieces: list[bytes] = []
    with reading_errors(path), _open_binary(path) as file:
        # Piece by piece: read(limit) would allocate the whole limit at once.
        while size <= limit:
            piece = file.read(PIECE)
            if not piece:
                break
            pieces.append(piece)
            # All pieces but the last have PIECE bytes.
            size = max(size, PIECE * (len(pieces) - 1) + len(piece))
    if size > limit:
        raise SpecError("too-large", f"it has more than {limit} bytes; write it again", str(path))
    return b"".join(pieces)


def read_text(path: Path, limit: int = limits.CONFIG_BYTES) -> str:
    """Read a UTF-8 file of at most ``limit`` bytes.

    Args:
        path: the file.
        limit: largest size in bytes.

    Raises:
        SpecError: ``bad-json`` if it is not UTF-8, or the errors of ``read_bytes``.
    """
    data = read_bytes(path, limit)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SpecError("bad-json", "it is not UTF-8; save the model again", str(path)) from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with reading_errors(path), _open_binary(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open_binary(path: Path) -> BufferedReader:
    """Open for reading; a link or pipe in the file's place is neither followed nor waited for."""
    # Between the check and the opening the file may have been replaced.
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.fdopen(os.open(path, os.O_RDONLY | flags), "rb")


def check_replaceable(target: Path) -> None:
    """Check that a spec may be written to ``target``; other files in it will be kept.

    ``target`` has to be new, an empty directory, or a directory with a spec of fxgrow.

    Raises:
        SpecError: ``unsafe-path``, ``symlink``, ``not-a-file`` or ``foreign-directory``.
    """
    recover_directory(atomic.resolve_target(target, atomic.SPEC_OUTPUT))
    if not os.path.lexists(target):
        return
    check_kind(target, directory=True)
    with reading_errors(target):
        is_empty = not any(target.iterdir())
    if is_empty:
        return
    for name in (CONFIG, WEIGHTS):
        if os.path.lexists(target / name):
            check_kind(target / name, directory=False)
    foreign_check = recognition.foreign_in_directory(recognition.SPEC_DIRECTORY, keep_foreign=True)
    with reading_errors(target):
        reason = foreign_check(target)
    if reason is not None:
        raise SpecError(
            "foreign-directory",
            f"{reason}, so nothing is written there; choose another directory",
            str(target),
        )


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """Yield a new directory beside ``target``; on success the files in it move to ``target``.

    A new target appears by one rename. In an existing one the files are replaced one by one, the
    weights first: if that is interrupted, the old config.json finds weights that are not its own
    and refuses to load.

    Raises:
        SpecError: ``unwritable``.
    """
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    with writing_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        try:
            yield staging
            _publish(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, target: Path) -> None:
    names = [name for name in (WEIGHTS, CONFIG) if (staging / name).exists()]
    # The content has to be on the disk before its name is, or a power failure leaves empty files.
    for name in names:
        atomic.sync(staging / name)
    atomic.sync(staging)
    if target.exists():
        for name in names:
            (staging / name).replace(target / name)
        atomic.sync(target)
    else:
        staging.rename(target)
    atomic.sync(target.parent)
