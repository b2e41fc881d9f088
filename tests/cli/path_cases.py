"""Paths that are no place to write to, and paths that hold nothing to read: one table for all commands.

They end as a picture does, since some commands look at that first.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DEEP = "x/" * 300 + "y.png"
LONG = "x" * 300
PRECIOUS = "months of work"

Make = Callable[[Path], str]
"""Makes what lies at a path, in an empty directory, and gives the path."""


def _file(place: Path) -> str:
    (place / "file.png").write_text(PRECIOUS)
    return str(place / "file.png")


def _directory(place: Path) -> str:
    (place / "directory.png").mkdir()
    (place / "directory.png" / "notes.txt").write_text(PRECIOUS)
    return str(place / "directory.png")


def _empty(place: Path) -> str:
    (place / "empty").mkdir()
    return str(place / "empty")


def _pipe(place: Path) -> str:
    os.mkfifo(place / "pipe.png")
    return str(place / "pipe.png")


def _socket(place: Path) -> str:
    before = Path.cwd()
    os.chdir(place)  # the path of a socket may have a hundred letters
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket.png")
    finally:
        os.chdir(before)
    return str(place / "socket.png")


def _loop(place: Path) -> str:
    (place / "loop.png").symlink_to("loop.png")
    return str(place / "loop.png")


def _two_loops(place: Path) -> str:
    (place / "one.png").symlink_to("two.png")
    (place / "two.png").symlink_to("one.png")
    return str(place / "one.png")


def _dangling(place: Path) -> str:
    (place / "dangling.png").symlink_to("nothing")
    return str(place / "dangling.png")


def _linked_file(place: Path) -> str:
    _file(place)
    (place / "link.png").symlink_to("file.png")
    return str(place / "link.png")


def _linked_directory(place: Path) -> str:
    _directory(place)
    (place / "link.png").symlink_to("directory.png")
    return str(place / "link.png")


def _below(make: Make, rest: str = "new.png") -> Make:
    return lambda place: f"{make(place)}/{rest}"


def _text(text: str) -> Make:
    return lambda place: text


# What is there is no earlier output; and is kept, whether or not --force is said.
OCCUPIED: Mapping[str, Make] = {
    "a file": _file,
    "a directory": _directory,
    "a pipe": _pipe,
    "a socket": _socket,
    "a loop": _loop,
    "a loop of two": _two_loops,
    "a dangling link": _dangling,
    "a linked file": _linked_file,
    "a linked directory": _linked_directory,
    "a device": _text("/dev/null"),
}
# Nothing can be made there.
IMPOSSIBLE: Mapping[str, Make] = {
    "below a file": _below(_file),
    "far below a file": _below(_file, "a/b/c.png"),
    "below a pipe": _below(_pipe),
    "below a loop": _below(_loop),
    "below a device": _text("/dev/null/new.png"),
    "in the kernel's": _text("/proc/new.png"),
    "through what is missing": _text("missing/../new.png"),
    "through a file": _below(_file, "../new.png"),
    "a long name": _text(f"{LONG}.png"),
    "below a long name": _text(f"{LONG}/new.png"),
    "a deep one": _text(DEEP),
    "no text": _text("caf\udce9.png"),
    "nothing": _text(""),
    "here": _text("."),
    "above": _text(".."),
    "the root": _text("/"),
    "no home": _text("~/new.png"),
}
# What is there is nothing that a command reads.
UNREADABLE: Mapping[str, Make] = {
    **OCCUPIED,
    **{
        name: make for name, make in IMPOSSIBLE.items() if name not in ("here", "above", "the root")
    },
    "an empty directory": _empty,
    "missing": _text("missing"),
    "endless": _text("/dev/zero"),
}


def everything(place: Path) -> dict[str, object]:
    """What lies in a directory, without following a link or waiting for a pipe."""
    found: dict[str, object] = {}
    for folder, directories, files in os.walk(place):
        for name in (*directories, *files):
            path = Path(folder, name)
            is_file = path.is_file() and not path.is_symlink()
            found[str(path)] = path.read_bytes() if is_file else path.lstat().st_mode
    return found


@contextmanager
def no_waiting(seconds: int = 30) -> Iterator[None]:
    """Fail where the body waits, for a pipe that nobody writes to, say."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"it waits for more than {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
