"""Everything that can go wrong, in two trees, and refusals, which are data and not errors.

``FxgrowError`` and its children are the *user's* tree: the message is one sentence that names the offender, the
consequence and the fix, and the error carries a ``code``. ``InternalError`` is ours: it means fxgrow broke one of
its own promises and the caller could not have prevented it.
"""

from dataclasses import dataclass


class FxgrowError(Exception):
    """Something that the caller can put right. ``code`` is stable and listed in ``docs/errors.md``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ModelError(FxgrowError):
    """A model reference or a model that cannot be used: unknown name, wrong options, does not run on its input."""


class DataError(FxgrowError):
    """A data set that is unknown, missing or does not fit the model."""


class BudgetError(FxgrowError):
    """A budget that buys nothing or cannot be met."""


class GrowthError(FxgrowError):
    """A growth that could not be carried out; the caller's model and optimiser are as they were."""


class TrainingError(FxgrowError):
    """A training run that cannot be made or went wrong: impossible settings, a loss that is not a number."""


class RunError(FxgrowError):
    """What a run or a command should write and cannot: not there, or not that."""


class ExportError(FxgrowError):
    """A model that cannot be written in the format asked for, or a place that it cannot be written to."""


class SpecError(FxgrowError):
    """A specification or spec directory that is wrong; ``path`` is the JSON path or the file that is to blame."""

    def __init__(self, code: str, message: str, path: str = "") -> None:
        super().__init__(code, f"{path}: {message}" if path else message)
        self.path = path


class InternalError(Exception):
    """fxgrow broke a promise of its own (a pass produced a wrong graph); please report it."""


@dataclass(frozen=True)
class Refusal:
    """Why something was not grown.

    ``code`` is stable (``docs/refusals.md``), ``reason`` one sentence, ``nodes`` the operators to blame, each as
    ``module.path: operator (file:line)``.
    """

    code: str
    reason: str
    nodes: tuple[str, ...] = ()
