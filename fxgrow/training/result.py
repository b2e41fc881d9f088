"""``result.json``: a run in numbers."""

import platform
from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from fxgrow.growth import Growth, GrowthReport
from fxgrow.spec import Document, StrictModel
from fxgrow.training.run import Run
from fxgrow.training.settings import RunSettings

RESULT_VERSION: Literal[1] = 1


class StepResult(StrictModel):
    """One growth step: losses on the growth batches, parameters after it, neurons split and new, seconds it took."""

    loss_before: float
    loss_after: float
    params: int
    split: int
    new: int
    seconds: float


class RunResult(StrictModel):
    """A run in numbers.

    ``_before`` is just before the first growth step, ``_after`` the end of the run. ``loss_``: mean over the training
    images in evaluation mode. ``faithful_error``: the largest of all steps; ``backtracks``: their sum;
    ``growth_seconds``: of all steps; ``epoch_seconds``: of one epoch of training, the mean.
    """

    schema_version: Literal[1]
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


RUN_RESULT_DOCUMENT = Document("run result", RunResult, RESULT_VERSION)


def run_result(run: Run, settings: RunSettings, *, model: str, data: str) -> RunResult:
    """The numbers of a finished run; ``model`` and ``data`` say what was trained on what."""
    reports = [growth.report for growth in run.growths]
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
        faithful_error=max((report.faithful_error for report in reports), default=0.0),
        backtracks=sum(report.backtracks for report in reports),
        growth_seconds=sum(report.seconds for report in reports),
        epoch_seconds=sum(run.epoch_seconds) / len(run.epoch_seconds),
        steps=_steps(run.growths),
    )


def _steps(growths: Sequence[Growth]) -> tuple[StepResult, ...]:
    return tuple(step_result(growth.report) for growth in growths)


def step_result(report: GrowthReport) -> StepResult:
    """One growth step in numbers."""
    return StepResult(
        loss_before=report.loss_before,
        loss_after=report.loss_after,
        params=report.params_after,
        split=sum(change.split for change in report.widths),
        new=sum(change.new for change in report.widths),
        seconds=report.seconds,
    )


def _versions(known: Mapping[str, str]) -> dict[str, str]:
    return {"python": platform.python_version(), "torch": str(torch.__version__), **known}
