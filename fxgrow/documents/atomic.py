"""Atomic outputs: a file or directory takes its place by one rename when complete, or not at all.

Until then it lies in a hidden directory beside its target (``.NAME.HEX.tmp``). A directory that is
replaced is moved aside first (``.NAME.HEX.old``). If the process is killed before the new one has
taken its place, the next command that looks for the target moves the old one back
(``recover_directory``), and the next one that writes it removes hidden directories that nobody
writes to any more (``_clear_leftovers``): who writes holds a lock.

What may be replaced is decided by the caller's ``ForeignCheck``; the current directory, the home
directory and what contains them are never a target (``resolve_target``).
"""

import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fxgrow.argument_checks import shown
from fxgrow.documents.locks import CAN_LOCK, try_lock
from fxgrow.errors import ExportError, FxgrowError, RecoveryWarning, RunError, SpecError

STAGING, ASIDE = ".tmp", ".old"
# How often a directory is swapped again after another process has moved the old one back.
_MAX_ATTEMPTS = 8
# Parts of a path: pathlib makes the directories above a path by calling itself once for each.
_MAX_PARTS = 256

ErrorFactory = Callable[[str], FxgrowError]
"""Makes an error of a fixed class and code from a message."""
ForeignCheck = Callable[[Path], str | None]
"""Why an existing path must not be replaced, as words that follow "because"; None if it may be."""


@dataclass(frozen=True)
class OutputKind:
    """The errors of one kind of output.

    Args:
        exists: there is something at the path already, and no permission to replace it.
        foreign: what is there was not written by fxgrow.
        unsafe: the path may never be a target.
        unwritable: the operating system refused.
        other: what a path is that cannot be replaced; follows "PATH is" in the message.
    """

    exists: ErrorFactory
    foreign: ErrorFactory
    unsafe: ErrorFactory
    unwritable: ErrorFactory
    other: str = "no earlier output of this kind"


RUN_OUTPUT = OutputKind(
    exists=lambda message: RunError("directory-exists", message),
    foreign=lambda message: RunError("foreign-directory", message),
    unsafe=lambda message: RunError("unsafe-path", message),
    unwritable=lambda message: RunError("unwritable-run", message),
    other="neither empty nor a run",
)
FILE_OUTPUT = OutputKind(
    exists=lambda message: RunError("path-exists", message),
    foreign=lambda message: RunError("foreign-path", message),
    unsafe=lambda message: RunError("unsafe-path", message),
    unwritable=lambda message: RunError("unwritable-run", message),
)
PAGE_OUTPUT = OutputKind(
    exists=lambda message: SpecError("path-exists", message),
    foreign=lambda message: SpecError("foreign-path", message),
    unsafe=lambda message: SpecError("unsafe-path", message),
    unwritable=lambda message: SpecError("unwritable", message),
)
SPEC_OUTPUT = OutputKind(
    exists=lambda message: SpecError("path-exists", message),
    foreign=lambda message: SpecError("foreign-directory", message),
    unsafe=lambda message: SpecError("unsafe-path", message),
    unwritable=lambda message: SpecError("unwritable", message),
    other="no earlier architecture",
)
EXPORT_OUTPUT = OutputKind(
    exists=lambda message: ExportError("path-exists", message),
    foreign=lambda message: ExportError("foreign-path", message),
    unsafe=lambda message: ExportError("unsafe-path", message),
    unwritable=lambda message: ExportError("unwritable-export", message),
    other="no earlier export of this format",
)


@contextmanager
def os_errors_as(path: Path, kind: OutputKind) -> Iterator[None]:
    """Turn an ``OSError`` while writing ``path`` into the ``unwritable`` error of ``kind``.

    Args:
        path: what is being written; named in the message.
        kind: decides the error.
    """
    try:
        yield
    except OSError as error:
        raise kind.unwritable(
            f"{path} cannot be written ({error}); choose a place that can"
        ) from error


def resolve_target(target: str | Path, kind: OutputKind) -> Path:
    """Return ``target`` as an absolute path, with the links above it (not itself) followed.

    Args:
        target: where the output should go.
        kind: decides the errors.

    Raises:
        FxgrowError: ``kind.unsafe`` for the current directory (and the empty path), the home
            directory, whatever contains one of them, a mount point such as the root, and a ``~``
            that no shell has expanded; ``kind.unwritable`` for what is no path.
    """
    path = Path(target)
    _require_followable(path, kind)
    try:
        resolved = _with_resolved_parents(path)
        current = Path.cwd().resolve()
        home = Path("~").expanduser().resolve()
        is_mount_point = resolved.is_mount()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte, a loop of links, no home
        raise kind.unwritable(
            f"{str(target)!r} cannot be written ({error}); choose a place that can"
        ) from error
    reason = None
    if path.parts[:1] == ("~",):
        reason = "is a home directory that no shell has filled in"
    elif current.is_relative_to(resolved):
        reason = "is the current directory or holds it"
    elif home.is_relative_to(resolved):
        reason = "is the home directory or holds it"
    elif is_mount_point:
        reason = "is a mount point"
    if reason is not None:
        raise kind.unsafe(
            f"{str(target)!r} {reason}, so nothing is written or replaced there; "
            "name a path below it"
        )
    _require_directory_above(resolved, kind)
    return resolved


def _require_directory_above(path: Path, kind: OutputKind) -> None:
    """Check that the nearest thing above a path is a directory that may be written to.

    Making the directories in between would fail, but only when there is something to write.
    """
    with os_errors_as(path, kind):
        above = next(parent for parent in path.parents if os.path.lexists(parent))
        is_directory = above.is_dir()
        may_write = os.access(above, os.W_OK | os.X_OK)
    # What is there already may be all that is asked for, in a directory that is read only.
    if not is_directory or not (may_write or os.path.lexists(path)):
        reason = "may not be written to" if is_directory else "is no directory"
        raise kind.unwritable(
            f"{path} cannot be written, for {above} {reason}; choose a place that can"
        )


def _require_followable(path: Path, kind: OutputKind) -> None:
    """Check that the operating system finds the same place by a path as we do by its text.

    Whoever reads the output looks for it by the path that was given, and ``missing/..`` leads
    nowhere then, though it could be written.
    """
    if len(path.parts) > _MAX_PARTS:
        raise kind.unwritable(
            f"{shown(str(path))} has more than {_MAX_PARTS} parts, so nothing is written there; "
            "choose a shorter path"
        )
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        # Neither files of tensors nor JSON can hold or be opened by such a name.
        raise kind.unwritable(
            f"{shown(str(path))} is no UTF-8, so nothing is written there; choose another name"
        ) from error
    for place, part in enumerate(path.parts):
        before = Path(*path.parts[:place])
        if part != ".." or before.parts[-1:] in ((), ("..",)):
            continue
        with os_errors_as(path, kind):
            is_there = before.is_dir()
        if not is_there:
            raise kind.unwritable(
                f"{shown(str(path))} leads through {shown(str(before))}, which is no directory, so "
                "nothing is written there; leave that part out"
            )


def _with_resolved_parents(path: Path) -> Path:
    if path.name in ("", ".."):  # the last part is not a name, so it is resolved as well
        return path.resolve()
    return path.parent.resolve() / path.name


def check_target(
    target: Path, kind: OutputKind, foreign_check: ForeignCheck, *, force: bool
) -> None:
    """Check that ``target`` is new, or that ``force`` may replace what is there.

    Args:
        target: a path from ``resolve_target``.
        kind: decides the errors.
        foreign_check: tells why what is there must not be replaced.
        force: replace what is there, if ``foreign_check`` allows it.

    Raises:
        FxgrowError: ``kind.exists`` or ``kind.foreign``.
    """
    if not os.path.lexists(target):
        return
    if not force:
        raise kind.exists(
            f"{target} exists already and is kept; choose another path or say --force"
        )
    with os_errors_as(target, kind):
        if target.is_symlink():
            reason: str | None = "it is a symbolic link"
        else:
            reason = foreign_check(target)
    if reason is not None:
        raise kind.foreign(
            f"{target} is {kind.other}, so it is kept in spite of --force, because {reason}; "
            "choose another path"
        )


@contextmanager
def atomic_path(
    target: str | Path,
    kind: OutputKind,
    foreign_check: ForeignCheck,
    *,
    force: bool = False,
    parents: bool = True,
) -> Iterator[Path]:
    """Yield a path to write a file or a directory to, which becomes ``target`` on success.

    Args:
        target: where the output should go.
        kind: decides the errors.
        foreign_check: tells why what is there must not be replaced.
        force: replace what is there, if ``foreign_check`` allows it.
        parents: create the directories above the target.

    Raises:
        FxgrowError: the errors of ``kind``, before anything is written.

    Example:
        >>> with atomic_path("page.html", PAGE_OUTPUT, foreign_check, force=True) as staging:
        ...     staging.write_text(page)
    """
    with _staged(target, kind, foreign_check, force=force, parents=parents) as staging:
        path = staging.path / staging.target.name
        yield path
        staging.publish(path)


@contextmanager
def atomic_directory(
    target: str | Path,
    kind: OutputKind,
    foreign_check: ForeignCheck,
    *,
    force: bool = False,
    keep_foreign: bool = False,
) -> Iterator[Path]:
    """Yield a new directory to write to, which becomes ``target`` on success.

    Args:
        target: where the directory should go.
        kind: decides the errors.
        foreign_check: tells why what is there must not be replaced.
        force: replace what is there, if ``foreign_check`` allows it.
        keep_foreign: move entries that the old directory has and the new one lacks to the new one.

    Raises:
        FxgrowError: the errors of ``kind``, before anything is written.
    """
    with _staged(target, kind, foreign_check, force=force) as staging:
        yield staging.path
        staging.publish(staging.path, keep_foreign=keep_foreign)


@dataclass(frozen=True)
class _Staging:
    """A hidden directory beside ``target``, and the rules for replacing the target from it."""

    path: Path
    target: Path
    kind: OutputKind
    foreign_check: ForeignCheck
    force: bool

    def publish(self, output: Path, *, keep_foreign: bool = False) -> None:
        """Move ``output`` to the target, which may have appeared or changed in the meantime."""
        with os_errors_as(self.target, self.kind):
            check_target(self.target, self.kind, self.foreign_check, force=self.force)
            # The content has to be on the disk before its name is: power may fail.
            _sync_all(output)
            if output.is_dir() and os.path.lexists(self.target):
                self._swap(output, keep_foreign)
            else:
                output.replace(self.target)
            sync(self.target.parent)

    def _swap(self, output: Path, keep_foreign: bool) -> None:
        """Replace a directory. No single rename can, so the old one is moved aside first."""
        aside = self.path.with_suffix(ASIDE)
        for _ in range(_MAX_ATTEMPTS):
            self.target.rename(aside)
            try:
                output.rename(self.target)
                break
            except OSError:
                if aside.exists():
                    aside.rename(self.target)
                    raise
                # Another process looked for the target between the two renames and moved the old
                # directory back (``recover_directory``): try again.
        else:
            raise OSError("others keep bringing the old one back")
        if keep_foreign:
            _move_missing(aside, self.target)
        # From here on the old directory must not be recovered, for parts of it will be missing.
        trash = aside.with_suffix(f".gone{STAGING}")
        aside.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


@contextmanager
def _staged(
    target: str | Path,
    kind: OutputKind,
    foreign_check: ForeignCheck,
    *,
    force: bool,
    parents: bool = True,
) -> Iterator[_Staging]:
    """Check the target, create the hidden directory beside it, and remove that one at the end."""
    resolved = resolve_target(target, kind)
    recover_directory(resolved)
    check_target(resolved, kind, foreign_check, force=force)
    # Beside the target, and so on the same file system, as a rename needs.
    path = resolved.parent / f".{resolved.name}.{uuid.uuid4().hex}{STAGING}"
    with os_errors_as(resolved, kind):
        if parents:
            resolved.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(resolved, foreign_check)
        held = _make_locked(path)
    try:
        yield _Staging(path, resolved, kind, foreign_check, force)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def _make_locked(path: Path) -> int:
    """Make a directory, and hold a lock on it; gives what is to be closed."""
    # Locked before it gets its name: by that name it would be taken for one that nobody holds.
    unnamed = path.with_suffix(".new")
    unnamed.mkdir()
    descriptor = os.open(unnamed, os.O_RDONLY)
    with suppress(OSError):  # a file system without locks
        try_lock(descriptor)
    unnamed.rename(path)
    return descriptor


def _clear_leftovers(target: Path, foreign_check: ForeignCheck) -> None:
    """Remove what processes left beside a target that were killed while they wrote it."""
    # Whoever writes at this moment holds a lock on the directory, and keeps it.
    for path in _hidden_directories(target, STAGING):
        if not _is_held(path):
            _clear(path, "was left by a process that was killed")
    # Of a target that was replaced: without one, it is moved back instead.
    for path in _hidden_directories(target, ASIDE) if os.path.lexists(target) else ():
        # By then the new directory is in its place, and so is the lock on it.
        if not _is_held(target) and foreign_check(path) is None:
            _clear(path, "was left by a process that was killed after it had replaced it")


def _clear(path: Path, why: str) -> None:
    warnings.warn(f"{path} {why}, and is cleared away", RecoveryWarning, stacklevel=2)
    shutil.rmtree(path, ignore_errors=True)


def _is_held(path: Path) -> bool:
    """Whether a process holds a lock on a directory, or nobody can tell."""
    if not CAN_LOCK:
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return True
    try:
        return not try_lock(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _sync_all(output: Path) -> None:
    """Wait until a file, or a directory with all that is in it, is on the disk."""
    for path in (*output.rglob("*"), output):
        if path.is_symlink():
            continue
        if path.is_file() or path.is_dir():
            sync(path)


def sync(path: Path) -> None:
    """Wait until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_missing(old: Path, new: Path) -> None:
    """Move the entries of ``old`` that ``new`` does not have."""
    for path in sorted(old.iterdir()):
        if not os.path.lexists(new / path.name):
            path.rename(new / path.name)


def recover_directory(target: Path) -> bool:
    """Move ``target`` back if a process was killed while it replaced it.

    Args:
        target: a directory that a command looks for.

    Returns:
        Whether it was missing and is back.
    """
    target = target.absolute()
    if os.path.lexists(target):
        return False
    try:
        candidates = _hidden_directories(target, ASIDE)
        if not candidates:
            return False
        last_moved = max(candidates, key=_changed_at)
        last_moved.rename(target)
    except OSError:  # no directory, none that may be changed, or another process was faster
        return os.path.lexists(target)
    return True


def _hidden_directories(target: Path, suffix: str) -> list[Path]:
    """List what lies beside ``target`` under one of the names that fxgrow gives."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}{re.escape(suffix)}")
    directories = []
    for path in target.parent.iterdir():
        # Only what fxgrow made: a link of that name may lead anywhere.
        if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            directories.append(path)
    return directories


def _changed_at(path: Path) -> int:
    return path.stat().st_ctime_ns
