"""How fxgrow writes: a file or directory takes its place by one rename when it is done, or nothing is written.

What is made lies in a hidden directory beside its target until then (``.NAME.HEX.tmp``). A directory that is replaced
is moved aside first (``.NAME.HEX.old``); should the process be killed before the new one has taken its place, the next
command that looks for the old one brings it back (``recover``). What may be replaced is for the caller to say, with a
``Stranger``; what stands above everything is never a target (``settled``).
"""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fxgrow.errors import ExportError, FxgrowError, RunError, SpecError

STAGING, ASIDE = ".tmp", ".old"
_ATTEMPTS = 8

ErrorFactory = Callable[[str], FxgrowError]
ForeignCheck = Callable[[Path], str | None]
"""What keeps a path that exists from being replaced, in words that follow "because"; None: it may go."""


@dataclass(frozen=True)
class OutputKind:
    """How a kind of output refuses. ``other``: what a path is that cannot be replaced, "no earlier export" say."""

    exists: ErrorFactory
    foreign: ErrorFactory
    unsafe: ErrorFactory
    unwritable: ErrorFactory
    other: str = "no earlier output of this kind"


RUN_OUTPUT = OutputKind(
    exists=lambda words: RunError("directory-exists", words),
    foreign=lambda words: RunError("foreign-directory", words),
    unsafe=lambda words: RunError("unsafe-path", words),
    unwritable=lambda words: RunError("unwritable-run", words),
    other="neither empty nor a run",
)
FILE_OUTPUT = OutputKind(
    exists=lambda words: RunError("path-exists", words),
    foreign=lambda words: RunError("foreign-path", words),
    unsafe=lambda words: RunError("unsafe-path", words),
    unwritable=lambda words: RunError("unwritable-run", words),
)
PAGE_OUTPUT = OutputKind(
    exists=lambda words: SpecError("path-exists", words),
    foreign=lambda words: SpecError("foreign-path", words),
    unsafe=lambda words: SpecError("unsafe-path", words),
    unwritable=lambda words: SpecError("unwritable", words),
)
SPEC_OUTPUT = OutputKind(
    exists=lambda words: SpecError("path-exists", words),
    foreign=lambda words: SpecError("foreign-directory", words),
    unsafe=lambda words: SpecError("unsafe-path", words),
    unwritable=lambda words: SpecError("unwritable", words),
    other="no earlier architecture",
)
EXPORT_OUTPUT = OutputKind(
    exists=lambda words: ExportError("path-exists", words),
    foreign=lambda words: ExportError("foreign-path", words),
    unsafe=lambda words: ExportError("unsafe-path", words),
    unwritable=lambda words: ExportError("unwritable-export", words),
    other="no earlier export of this format",
)


@contextmanager
def os_errors_as(path: Path, kind: OutputKind) -> Iterator[None]:
    """Failures of the operating system while writing ``path`` become the user's errors."""
    try:
        yield
    except OSError as error:
        raise kind.unwritable(
            f"{path} cannot be written ({error}); choose a place that can"
        ) from error


def resolve_target(target: str | Path, kind: OutputKind) -> Path:
    """``target`` from the root on, links above it followed. Raises ``unsafe`` for places that no output may take.

    Those are the current directory (and the empty path), the home directory, whatever holds one of them, the root, a
    mount point, and ``~`` that no shell has made a home of.
    """
    path = Path(target)
    try:
        place = path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
        here, home = Path.cwd().resolve(), Path("~").expanduser().resolve()
        mounted = place.is_mount()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte, a loop of links, no home
        raise kind.unwritable(
            f"{str(target)!r} cannot be written ({error}); choose a place that can"
        ) from error
    reasons = {
        "is a home directory that no shell has filled in": path.parts[:1] == ("~",),
        "is the current directory or holds it": place in (here, *here.parents),
        "is the home directory or holds it": place in (home, *home.parents),
        "is a mount point": mounted,
    }
    reason = next((words for words, true in reasons.items() if true), None)
    if reason is not None:
        raise kind.unsafe(
            f"{str(target)!r} {reason}, so nothing is written or replaced there; name a path below it"
        )
    return place


def check_target(target: Path, kind: OutputKind, stranger: ForeignCheck, *, force: bool) -> None:
    """Raises ``exists`` or ``foreign`` unless the settled ``target`` is new, or ``force`` may replace it."""
    if not os.path.lexists(target):
        return
    if not force:
        raise kind.exists(
            f"{target} exists already and is kept; choose another path or say --force"
        )
    with os_errors_as(target, kind):
        reason = "it is a symbolic link" if target.is_symlink() else stranger(target)
    if reason is not None:
        raise kind.foreign(
            f"{target} is {kind.other}, so it is kept in spite of --force, because {reason}; choose another path"
        )


@contextmanager
def atomic_path(
    target: str | Path,
    kind: OutputKind,
    stranger: ForeignCheck,
    *,
    force: bool = False,
    parents: bool = True,
) -> Iterator[Path]:
    """A path to write a file or a directory to, which becomes ``target`` at the end if nothing went wrong.

    ``force``: replace what is there if it is no ``stranger``; ``parents``: make the directories above. Raises the
    errors of ``kind`` before anything is written.
    """
    with _staged(target, kind, stranger, force=force, parents=parents) as staging:
        yield staging.path / staging.target.name
        staging.publish(staging.path / staging.target.name)


@contextmanager
def atomic_directory(
    target: str | Path,
    kind: OutputKind,
    stranger: ForeignCheck,
    *,
    force: bool = False,
    strangers_stay: bool = False,
) -> Iterator[Path]:
    """A new directory to write to, which becomes ``target`` at the end if nothing went wrong.

    ``strangers_stay``: what the old directory holds and the new one lacks is moved over. The rest as ``placed``.
    """
    with _staged(target, kind, stranger, force=force) as staging:
        yield staging.path
        staging.publish(staging.path, strangers_stay=strangers_stay)


@dataclass(frozen=True)
class _Staging:
    """A hidden directory beside ``target``, and what may be replaced by what is made in it."""

    path: Path
    target: Path
    kind: OutputKind
    stranger: ForeignCheck
    force: bool

    def publish(self, made: Path, *, strangers_stay: bool = False) -> None:
        """Put ``made`` in the place of the target, which may have appeared or changed meanwhile."""
        with os_errors_as(self.target, self.kind):
            check_target(self.target, self.kind, self.stranger, force=self.force)
            if made.is_dir() and os.path.lexists(self.target):
                self._swap(made, strangers_stay)
            else:
                made.replace(self.target)

    def _swap(self, made: Path, strangers_stay: bool) -> None:
        aside = self.path.with_suffix(ASIDE)
        for _ in range(_ATTEMPTS):
            self.target.rename(aside)
            try:
                made.rename(self.target)
                break
            except OSError:
                if aside.exists():
                    aside.rename(self.target)
                    raise
                # Somebody who looked for the target between the renames has brought it back: once more.
        else:
            raise OSError("others keep bringing the old one back")
        if strangers_stay:
            _move_over(aside, self.target)
        # From here on it must not come back, for parts of it will be missing.
        rubbish = aside.with_suffix(f".gone{STAGING}")
        aside.rename(rubbish)
        shutil.rmtree(rubbish, ignore_errors=True)


@contextmanager
def _staged(
    target: str | Path,
    kind: OutputKind,
    stranger: ForeignCheck,
    *,
    force: bool,
    parents: bool = True,
) -> Iterator[_Staging]:
    place = resolve_target(target, kind)
    recover_directory(place)
    check_target(place, kind, stranger, force=force)
    staging = _Staging(
        place.parent / f".{place.name}.{uuid.uuid4().hex}{STAGING}", place, kind, stranger, force
    )
    with os_errors_as(place, kind):
        if parents:
            place.parent.mkdir(parents=True, exist_ok=True)
        staging.path.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging.path, ignore_errors=True)


def _move_over(old: Path, new: Path) -> None:
    """What ``old`` holds and ``new`` does not."""
    for path in sorted(old.iterdir()):
        if not os.path.lexists(new / path.name):
            path.rename(new / path.name)


def recover_directory(target: Path) -> bool:
    """Bring ``target`` back if a process was killed while it replaced it; whether it did."""
    target = target.absolute()
    if os.path.lexists(target):
        return False
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}{re.escape(ASIDE)}")
    try:
        found = [
            path
            for path in target.parent.iterdir()
            if name.fullmatch(path.name) and _is_real_directory(path)
        ]
        if not found:
            return False
        max(found, key=lambda path: path.stat().st_ctime_ns).rename(
            target
        )  # the last that was moved aside
    except OSError:  # no directory, none that may be changed, or another process was faster
        return os.path.lexists(target)
    return True


def _is_real_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
