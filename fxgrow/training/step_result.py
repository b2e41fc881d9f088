"""One growth step of a run in numbers, and all that a run keeps of it."""

import math

from pydantic import ConfigDict

from fxgrow.growth import Growth, GrowthReport
from fxgrow.spec import StrictModel
from fxgrow.training.control import Control


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


class StepRecord(StrictModel):
    """What a run keeps of a growth step when the models before and after it are gone.

    Args:
        result: the step in numbers.
        control: what training would have done in its time.
        epoch: how many epochs were done before it.
        faithful_error: relative error against the over-grown graph.
        backtracks: how often eps was halved.
        graphs: the over-grown and the emitted graph as text.

    Example:
        >>> run.records[0].result.params
        385
    """

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    result: StepResult
    control: Control
    epoch: int
    faithful_error: float
    backtracks: int
    graphs: dict[str, str]


def step_record(growth: Growth, against: Control, epoch: int) -> StepRecord:
    """What a run keeps of a growth, and of training in its time."""
    report = growth.report
    return StepRecord(
        result=step_result(report, against, epoch),
        control=against,
        epoch=epoch,
        faithful_error=report.faithful_error,
        backtracks=report.backtracks,
        graphs=growth.graphs,
    )


def step_result(report: GrowthReport, against: Control | None, epoch: int) -> StepResult:
    """One growth step in numbers, and training in its time if that was tried."""
    losses = {}
    if against is not None:
        losses = {
            "test_loss_before": _if_finite(against.loss_before),
            "test_loss_after": _if_finite(against.loss_grown),
            "test_loss_trained": _if_finite(against.loss_trained),
        }
    return StepResult(
        loss_before=report.loss_before,
        loss_after=report.loss_after,
        params=report.params_after,
        split=sum(change.split for change in report.widths),
        new=sum(change.new for change in report.widths),
        seconds=report.seconds,
        held_out_before=report.held_out_before,
        held_out_after=report.held_out_after,
        trained_steps=0 if against is None else against.steps,
        epoch=epoch,
        picked=report.picked,
        **losses,
    )


def _if_finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None
