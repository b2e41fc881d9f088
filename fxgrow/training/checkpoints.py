"""The checkpoints of one run: the first one and the last two, each there as a whole or not at all.

A checkpoint is written beside its place and takes it by one rename, and each step waits until the
disk has it: a process may be killed, or the power may fail, at any moment. One that was damaged
afterwards is found by its hashes, and the one before it is taken.
"""

import re
import shutil
import warnings
from pathlib import Path

from fxgrow.argument_checks import checked
from fxgrow.documents import (
    CHECKPOINT_DIRECTORY,
    RUN_OUTPUT,
    first_foreign,
    os_errors_as,
    sync,
)
from fxgrow.errors import RecoveryWarning, RunError, SpecError
from fxgrow.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

KEPT = 2
"""Checkpoints that are kept beside the first one, whose weights are part of the result."""
_NAME = re.compile(r"checkpoint-(\d{1,9})")
_PARTIAL = "checkpoint.partial"


class Checkpoints:
    """The checkpoints of one run in a directory, which only one process writes to.

    Args:
        directory: made with the first checkpoint.

    Example:
        >>> kept = Checkpoints(Path("runs/checkpoints"))
        >>> train_and_grow(model, data, settings, **growth, checkpoints=kept)  # is killed
        >>> train_and_grow(model, data, settings, **growth, checkpoints=kept)  # goes on
    """

    @checked
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._last = -1

    @property
    def numbers(self) -> list[int]:
        """The numbers of the checkpoints that are there, damaged or not, in order."""
        if not self.directory.is_dir():
            return []
        numbers = []
        for path in self.directory.iterdir():
            match = _NAME.fullmatch(path.name)
            if match and path.is_dir() and not path.is_symlink():
                numbers.append(int(match.group(1)))
        return sorted(numbers)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and remove what is older than the last two.

        Raises:
            RunError: ``unwritable-run``; the checkpoints before are still there.
        """
        number = self._last + 1
        partial, place = self.directory / _PARTIAL, self._place(number)
        with os_errors_as(self.directory, RUN_OUTPUT):
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                # Left by a process that was killed; and damaged, if it was found to be that.
                for leftover in (partial, place):
                    shutil.rmtree(leftover, ignore_errors=True)
                partial.mkdir()
                write_checkpoint(partial, checkpoint)
                partial.rename(place)
                sync(self.directory)
            finally:  # on a full disk, to give the room back
                shutil.rmtree(partial, ignore_errors=True)
        self._last = number
        # The first one is not counted: its weights are part of the result.
        for old in self.numbers[1:]:
            if old <= number - KEPT:
                shutil.rmtree(self._place(old), ignore_errors=True)

    def last(self) -> Checkpoint | None:
        """The last checkpoint that is sound; None if there is none at all.

        Warns of every damaged one; the next ``save`` replaces it.

        Raises:
            RunError: ``damaged-checkpoint``: there are some, and none is sound;
                ``foreign-directory``: one is of another tool, which would be replaced in time.
        """
        self._require_ours()
        damaged = ""
        # From the newest back: mostly the first that is read is sound.
        for number in reversed(self.numbers):
            try:
                checkpoint = read_checkpoint(self._place(number))
            except SpecError as error:
                damaged = f"{self._place(number)} is damaged ({error})"
                message = f"{damaged}, so the one before it is taken"
                warnings.warn(message, RecoveryWarning, stacklevel=2)
                continue
            self._last = number
            return checkpoint
        if damaged:
            raise RunError(
                "damaged-checkpoint", f"{damaged}, and no other one is left; start the run anew"
            )
        return None

    @property
    def number(self) -> int:
        """That of the checkpoint which was saved or read last; -1 before there is one."""
        return self._last

    def read(self, number: int) -> Checkpoint:
        """One of the checkpoints, by its number.

        Raises:
            RunError: ``damaged-checkpoint``: it is damaged, or not there.
        """
        try:
            checkpoint = read_checkpoint(self._place(number))
        except SpecError as error:
            raise RunError(
                "damaged-checkpoint",
                f"{self._place(number)}, which the first process goes on from, cannot be read in "
                f"another one ({error}); give all processes the same directory",
            ) from error
        self._last = number
        return checkpoint

    def first(self) -> Checkpoint | None:
        """The one from before the first epoch; None, with a warning, if it is lost."""
        try:
            return read_checkpoint(self._place(0))
        except SpecError as error:
            warnings.warn(
                f"{self._place(0)} is damaged ({error}), so the network that the run started from "
                "is built again",
                RecoveryWarning,
                stacklevel=2,
            )
            return None

    def _require_ours(self) -> None:
        """Check that no directory of a checkpoint's name holds what no run has written."""
        for number in self.numbers:
            place = self._place(number)
            with os_errors_as(place, RUN_OUTPUT):
                foreign = first_foreign(place, CHECKPOINT_DIRECTORY) if place.is_dir() else None
            if foreign is not None:
                raise RunError(
                    "foreign-directory",
                    f"{place} holds {foreign.name!r}, which no run has written, so no checkpoint "
                    "is written there; choose another directory",
                )

    def _place(self, number: int) -> Path:
        return self.directory / f"checkpoint-{number}"
