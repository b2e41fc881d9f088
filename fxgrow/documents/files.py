"""Reading and writing the two files of a spec directory, with every failure of the file system as a SpecError."""

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


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Failures of the operating system while reading ``path`` become SpecErrors."""
    try:
        yield
    except FileNotFoundError as error:
        raise SpecError(
            "missing-file",
            "there is no such file; save the model again or correct the path",
            str(path),
        ) from (error)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise SpecError(
            "unreadable", f"it cannot be read ({error}); check its permissions", str(path)
        ) from error


@contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """Failures of the operating system while writing ``path`` become SpecErrors."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise SpecError(
            "unwritable", f"it cannot be written ({error}); nothing was changed", str(path)
        ) from error


def check_kind(path: Path, directory: bool) -> os.stat_result:
    """The status of ``path``, which must be a directory or a regular file, and no link.

    Whatever is read comes through here, so a directory that a killed process has left aside is brought back here.
    """
    with reading_errors(path):
        try:
            status = path.lstat()
        except FileNotFoundError:
            if not any(recover_directory(place) for place in (path, *path.parents)):
                raise
            status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise SpecError(
            "symlink",
            "it is a symbolic link, which is not followed; put the real thing there",
            str(path),
        )
    if not (stat.S_ISDIR if directory else stat.S_ISREG)(status.st_mode):
        wanted = "directory" if directory else "regular file"
        raise SpecError(
            "not-a-file",
            f"it is no {wanted}; give the directory that a model was saved to",
            str(path),
        )
    return status


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes, however large it says it is or becomes."""
    held = check_kind(path, directory=False).st_size
    pieces: list[bytes] = []
    with reading_errors(path), _opened(path) as file:
        # Piece by piece, as room for all that is allowed would be taken at once.
        while held <= limit and (piece := file.read(PIECE)):
            pieces.append(piece)
            held = max(held, PIECE * (len(pieces) - 1) + len(piece))
    if held > limit:
        raise SpecError("too-large", f"it has more than {limit} bytes; write it again", str(path))
    return b"".join(pieces)


def read_text(path: Path, limit: int = limits.CONFIG_BYTES) -> str:
    """The text of a regular file of at most ``limit`` bytes, read as ``read_bytes`` does."""
    data = read_bytes(path, limit)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SpecError("bad-json", "it is not UTF-8; save the model again", str(path)) from error


def sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with reading_errors(path), _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(path: Path) -> BufferedReader:
    """The file for reading; a link or a pipe that took its place meanwhile is not followed or waited for."""
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.fdopen(os.open(path, os.O_RDONLY | flags), "rb")


def fsync_path(path: Path) -> None:
    """Waits until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_replaceable(target: Path) -> None:
    """``target`` is new, an empty directory, or holds a spec of ours; what else it holds will stay.

    Raises SpecError: unsafe-path, symlink, not-a-file, foreign-directory.
    """
    recover_directory(atomic.resolve_target(target, atomic.SPEC_OUTPUT))
    if not os.path.lexists(target):
        return
    check_kind(target, directory=True)
    with reading_errors(target):
        empty = not any(target.iterdir())
    if empty:
        return
    for name in (CONFIG, WEIGHTS):
        if os.path.lexists(target / name):
            check_kind(target / name, directory=False)
    with reading_errors(target):
        reason = recognition.foreign_in_directory(recognition.SPEC_DIRECTORY, strangers_stay=True)(
            target
        )
    if reason is not None:
        raise SpecError(
            "foreign-directory",
            f"{reason}, so nothing is written there; choose another directory",
            str(target),
        )


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """A new directory beside ``target``; what is in it goes to ``target`` at the end if nothing went wrong.

    A new target appears by one rename. In an existing one files are replaced one by one, the weights first: stopped in
    between, the old config.json finds weights that are not its own and refuses to load.
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
    for name in names:
        fsync_path(staging / name)
    fsync_path(staging)
    if target.exists():
        for name in names:
            (staging / name).replace(target / name)
        fsync_path(target)
    else:
        staging.rename(target)
    fsync_path(target.parent)
