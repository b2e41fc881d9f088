"""``result.json``: a run in numbers."""

import math
import platform
from collections.abc import Mapping
from typing import Literal

import torch

from fxgrow.argument_checks import checked
from fxgrow.growth import GrowthReport
from fxgrow.spec import Document, StrictModel
from fxgrow.training.control import Control
from fxgrow.training.migrations import rename_memory
from fxgrow.training.run import Run
from fxgrow.training.settings import RunSettings

RESULT_VERSION: Literal[2] = 2


class StepResult(StrictModel):
    """One growth step in numbers.

    Args:
        loss_before: loss on the growth batches that scored, before the step.
        loss_after: loss on them after it.
        held_out_before: loss on growth batches that decided nothing, before the step; None in
            results of earlier versions of fxgrow.
        held_out_after: the same after it.
        test_loss_before: loss on the test images before it; None in results of earlier versions.
        test_loss_after: the same right after it.
        test_loss_trained: the same after training for as long instead; None also if that diverged.
        trained_steps: how many steps of training that is.
        epoch: how many epochs were done before it; None in results of earlier versions.
        picked: which method was picked and why; "" if the recipe names one.
        params: number of parameters after it.
        split: number of neurons that were split.
        new: number of new neurons.
        seconds: time that the step took.

    Example:
        >>> step = read_result(Path("runs/first")).steps[0]
        >>> step.held_out_before - step.held_out_after
        0.13
    """

    loss_before: float
    loss_after: float
    params: int
    split: int
    new: int
    seconds: float
    held_out_before: float | None = None
    held_out_after: float | None = None
    test_loss_before: float | None = None
    test_loss_after: float | None = None
    test_loss_trained: float | None = None
    trained_steps: int = 0
    epoch: int | None = None
    picked: str = ""


class RunResult(StrictModel):
    """A run in numbers: just before its first growth step and at its end.

    Losses are means over all training images, accuracies are those on the test images, both in
    evaluation mode.

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
        # Without growth steps there is no error.
        faithful_error=max((report.faithful_error for report in reports), default=0.0),
        backtracks=sum(report.backtracks for report in reports),
        growth_seconds=sum(report.seconds for report in reports),
        epoch_seconds=sum(run.epoch_seconds) / len(run.epoch_seconds),  # one epoch at least
        steps=tuple(map(step_result, reports, run.controls, run.growth_epochs)),
    )


def step_result(report: GrowthReport, against: Control, epoch: int) -> StepResult:
    """One growth step in numbers, and training in its time."""
    return StepResult(
        loss_before=report.loss_before,
        loss_after=report.loss_after,
        params=report.params_after,
        split=sum(change.split for change in report.widths),
        new=sum(change.new for change in report.widths),
        seconds=report.seconds,
        held_out_before=report.held_out_before,
        held_out_after=report.held_out_after,
        test_loss_before=_if_finite(against.loss_before),
        test_loss_after=_if_finite(against.loss_grown),
        test_loss_trained=_if_finite(against.loss_trained),
        trained_steps=against.steps,
        epoch=epoch,
        picked=report.picked,
    )


def _if_finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


def _versions(recorded: Mapping[str, str]) -> dict[str, str]:
    """Those of this process; what the spec has recorded counts where it names the same package."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), **recorded}
