"""``result.json``: a run in numbers."""

import platform
from collections.abc import Mapping
from typing import Literal

import torch

from fxgrow.argument_checks import checked
from fxgrow.spec import Document, StrictModel
from fxgrow.training.migrations import rename_memory
from fxgrow.training.run import Run
from fxgrow.training.settings import RunSettings
from fxgrow.training.step_result import StepResult

RESULT_VERSION: Literal[2] = 2


class RunResult(StrictModel):
    """A run in numbers: just before its first growth step and at its end.

    Losses are means over all training images, accuracies are those on the test images, both in
    evaluation mode, and of the averaged weights where these are published.

    Args:
        schema_version: version of the document.
        model: what was trained, in words.
        data: what it was trained on, in words.
        seed: seed of the run.
        settings: settings of the run.
        versions: versions of Python, torch and fxgrow.
        params_before: number of parameters before the first growth step.
        params_after: number of parameters at the end.
        loss_before: training loss before the first growth step.
        loss_after: training loss at the end.
        test_accuracy_before: test accuracy before the first growth step.
        test_accuracy_after: test accuracy at the end.
        faithful_error: the largest of all growth steps.
        backtracks: sum over all growth steps.
        growth_seconds: time of all growth steps.
        epoch_seconds: mean time of one epoch of training.
        steps: the growth steps, in order.
        epochs: how many were trained, which an early stop makes fewer than the settings say; None
            in results of earlier versions.

    Example:
        >>> result = run_result(run, settings, model="net", data="digits")
        >>> result.test_accuracy_after
        0.92
    """

    schema_version: Literal[2]
    model: str
    data: str
    seed: int
    settings: RunSettings
    versions: dict[str, str]
    params_before: int
    params_after: int
    loss_before: float
    loss_after: float
    test_accuracy_before: float
    test_accuracy_after: float
    faithful_error: float
    backtracks: int
    growth_seconds: float
    epoch_seconds: float
    steps: tuple[StepResult, ...]
    epochs: int | None = None

    @property
    def trained_epochs(self) -> int:
        """How many epochs were trained."""
        return self.settings.epochs if self.epochs is None else self.epochs


RUN_RESULT_DOCUMENT = Document("run result", RunResult, RESULT_VERSION, {1: rename_memory})


@checked
def run_result(run: Run, settings: RunSettings, *, model: str, data: str) -> RunResult:
    """The numbers of a finished run.

    Args:
        run: the finished run.
        settings: its settings.
        model: what was trained, in words.
        data: what it was trained on, in words.

    Returns:
        The numbers, as ``result.json`` holds them.

    Example:
        >>> run_result(run, settings, model="net", data="digits").params_after
        385
    """
    records = run.records
    return RunResult(
        schema_version=RESULT_VERSION,
        model=model,
        data=data,
        seed=settings.seed,
        settings=settings,
        versions=_versions(run.final.spec.versions),
        params_before=run.before.parameters,
        params_after=run.after.parameters,
        loss_before=run.before.train.loss,
        loss_after=run.after.train.loss,
        test_accuracy_before=run.before.test.accuracy,
        test_accuracy_after=run.after.test.accuracy,
        # Without growth steps there is no error.
        faithful_error=max((record.faithful_error for record in records), default=0.0),
        backtracks=sum(record.backtracks for record in records),
        growth_seconds=sum(record.result.seconds for record in records),
        epochs=len(run.epoch_seconds),
        epoch_seconds=sum(run.epoch_seconds) / len(run.epoch_seconds),  # one epoch at least
        steps=tuple(record.result for record in records),
    )


def _versions(recorded: Mapping[str, str]) -> dict[str, str]:
    """Those of this process; what the spec has recorded counts where it names the same package."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), **recorded}
