"""Error classes, in two trees, and refusals, which are data and not errors.

``FxgrowError`` and its subclasses are *user* errors: the message is one sentence that names the
offender, the consequence and the fix, and the error carries a stable ``code``.
``InternalError`` is a bug of fxgrow: one of its own invariants does not hold, and the caller could
not have prevented it.

The codes of user errors are listed in ``docs/errors.md``, those of ``SpecError`` in
``docs/spec.md``, those of refusals in ``docs/refusals.md``.
"""

from dataclasses import dataclass


class FxgrowError(Exception):
    """Raised, as one of its subclasses, for everything that the caller can put right.

    Args:
        code: a stable identifier such as ``"empty-budget"``; programs should test this, not the
            message.
        message: one sentence that names the offender, the consequence and the fix.

    Example:
        >>> import fxgrow
        >>> try:
        ...     fxgrow.Budget(neurons=0)
        ... except fxgrow.FxgrowError as error:
        ...     print(type(error).__name__, error.code)
        BudgetError empty-budget
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ArgumentError(FxgrowError, TypeError, ValueError):
    """Raised when an argument of a call, or a setting, has a wrong type or is out of range.

    It is a ``TypeError`` and a ``ValueError`` too, which is what other libraries raise there.

    Example:
        >>> import fxgrow
        >>> try:
        ...     fxgrow.Firefly(new=-1)
        ... except fxgrow.ArgumentError as error:
        ...     print(error.code)
        bad-setting
    """


class ModelError(FxgrowError):
    """Raised when a model, or a reference to one, cannot be used.

    Examples are an unknown name, options that the constructor does not take, a model that does not
    run on its example inputs, or one whose structure depends on the values of its input.

    Example:
        >>> import fxgrow, torch
        >>> try:
        ...     fxgrow.capture(torch.nn.Linear(4, 2), torch.zeros(1, 5))
        ... except fxgrow.ModelError as error:
        ...     print(error.code)
        does-not-run
    """


class DataError(FxgrowError):
    """Raised when a data set is unknown, missing, damaged, or does not fit the model.

    Example:
        >>> import fxgrow
        >>> from fxgrow.data import load_data
        >>> try:
        ...     load_data("letters")
        ... except fxgrow.DataError as error:
        ...     print(error.code)
        unknown-data
    """


class BudgetError(FxgrowError):
    """Raised when a budget allows no growth at all, or cannot be met.

    Example:
        >>> import fxgrow
        >>> try:
        ...     fxgrow.Budget(neurons=0)
        ... except fxgrow.BudgetError as error:
        ...     print(error.code)
        empty-budget
    """


class GrowthError(FxgrowError):
    """Raised when a growth step cannot be carried out.

    The caller's model and optimizer are as they were before the call.

    Example:
        >>> import fxgrow, torch
        >>> try:
        ...     fxgrow.widen(torch.nn.Linear(4, 2), {"hidden": 2}, torch.zeros(1, 4))
        ... except fxgrow.GrowthError as error:
        ...     print(error.code)
        unknown-width
    """


class TrainingError(FxgrowError):
    """Raised when a training run has impossible settings, or goes wrong (a loss of NaN, say).

    Example:
        >>> from fxgrow.errors import TrainingError
        >>> from fxgrow.training import RunSettings
        >>> try:
        ...     RunSettings(epochs=0, grow_steps=0)
        ... except TrainingError as error:
        ...     print(error.code)
        no-epochs
    """


class RecoveryWarning(UserWarning):
    """Warns of what a process left that was killed, or of a file that was damaged since.

    The message says what is done about it.

    Example:
        >>> from fxgrow.errors import RecoveryWarning
        >>> issubclass(RecoveryWarning, UserWarning)
        True
    """


class RunError(FxgrowError):
    """Raised when a run or a command cannot write its output to the path that it was given.

    Nothing has been written or replaced there.

    Example:
        >>> from pathlib import Path
        >>> from fxgrow.errors import RunError
        >>> from fxgrow.training import run_directory
        >>> try:
        ...     with run_directory(Path("/")):
        ...         pass
        ... except RunError as error:
        ...     print(error.code)
        unsafe-path
    """


class ExportError(FxgrowError):
    """Raised when a model cannot be written in the format, or to the path, that was asked for.

    Example:
        >>> import fxgrow
        >>> try:
        ...     fxgrow.export("runs/mine", "tflite", "model.tflite")
        ... except fxgrow.ExportError as error:
        ...     print(error.code)
        unknown-format
    """


class SpecError(FxgrowError):
    """Raised when a specification, a spec directory or a recipe is missing or not valid.

    Args:
        code: as for ``FxgrowError``.
        message: as for ``FxgrowError``.
        path: the JSON path or the file that is to blame; it is put before the message.

    Example:
        >>> import fxgrow
        >>> try:
        ...     fxgrow.load("no/such/directory")
        ... except fxgrow.SpecError as error:
        ...     print(error.code, error.path)
        missing-file no/such/directory
    """

    def __init__(self, code: str, message: str, path: str = "") -> None:
        super().__init__(code, f"{path}: {message}" if path else message)
        self.path = path


class InternalError(Exception):
    """Raised when an invariant of fxgrow does not hold: a pass produced a wrong graph, say.

    This is a bug; please report it. It has no code, for there is nothing that a program can do
    about it, and it is not a ``FxgrowError``, so that handlers of user errors let it through.

    Example:
        >>> from fxgrow.errors import FxgrowError, InternalError
        >>> issubclass(InternalError, FxgrowError)
        False
    """


@dataclass(frozen=True)
class Refusal:
    """Why a width cannot grow, or was not grown: data for a report, not an error.

    Args:
        code: a stable identifier, listed in ``docs/refusals.md``.
        reason: one sentence.
        nodes: the operators to blame, each as ``module.path: operator (file:line)``.

    Example:
        >>> import fxgrow, torch
        >>> captured = fxgrow.capture(torch.nn.Linear(4, 2), torch.zeros(1, 4))
        >>> (width,) = fxgrow.couple(captured).widths
        >>> width.refusal.code
        'output'
    """

    code: str
    reason: str
    nodes: tuple[str, ...] = ()
