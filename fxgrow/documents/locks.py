"""Locks of the operating system: held by a process, and by nobody once it is dead."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows, where nobody is kept out
    fcntl = None  # type: ignore[assignment]

CAN_LOCK = fcntl is not None
_ATTEMPTS = 100
"""How often a lock is opened again because its holder has just removed the file."""
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_HOLDER = re.compile(rb"(\d{1,20}\n)?")
"""What a lock holds: the number of a process, or nothing yet."""
_MOST_BYTES = 64
"""Bytes that are read of a lock: more than it ever holds."""


@contextmanager
def exclusive_lock(path: Path) -> Iterator[bool]:
    """Hold a lock, if nobody else does; nobody waits.

    Args:
        path: its file, which is made if there is none, with the directories above it, and then
            says which process holds the lock. The holder may remove it.

    Returns:
        A context manager that gives whether the lock is held.

    Raises:
        OSError: the file cannot be made, or there is another one of its name.

    Example:
        >>> with exclusive_lock(Path("runs/.mine.unfinished/lock")) as is_mine:
        ...     print("go" if is_mine else "somebody else is at it")
    """
    descriptor = _open_current(path)
    try:
        if not try_lock(descriptor):
            yield False
            return
        _require_lock(descriptor, path)
        os.truncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield True
    finally:
        os.close(descriptor)  # which gives the lock back


def _require_lock(descriptor: int, path: Path) -> None:
    """Check that an open file is a lock: what somebody else keeps under its name must stay.

    Raises:
        OSError: it is something else, a hard link to another file, say.
    """
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    if not is_file or not _HOLDER.fullmatch(os.read(descriptor, _MOST_BYTES)):
        raise OSError(f"{path} is no lock, and is kept")


def lock_holder(path: Path) -> str:
    """Which process has written its number into a lock, in words.

    Example:
        >>> lock_holder(Path("runs/.mine.unfinished/lock"))
        'process 1234'
    """
    try:
        with path.open("rb") as file:
            number = file.read(_MOST_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        number = ""
    return f"process {number}" if number.isdigit() else "another process"


def _open_current(path: Path) -> int:
    """Open the file that has this name now: another one may have been removed while it opened."""
    # A lock on a file that has lost its name keeps nobody out.
    for _ in range(_ATTEMPTS):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, _FLAGS, 0o644)
        except FileNotFoundError:
            continue
        try:
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
    raise OSError(f"{path} is removed again and again")


def try_lock(descriptor: int) -> bool:
    """Lock an open file or directory until it is closed; False if somebody else holds it.

    Raises:
        OSError: the file system has no locks.
    """
    if not CAN_LOCK:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
