"""The lines of ``log.jsonl`` as data: what is written of an event, and what is read back."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from fxgrow.argument_checks import checked
from fxgrow.documents import as_spec_error, parse_json, read_text
from fxgrow.errors import SpecError
from fxgrow.growth import GrowthReport
from fxgrow.spec import BlockInsertion, LayerInsertion, StrictModel, WidthChange
from fxgrow.training.events import (
    EpochDone,
    Event,
    GrowthDone,
    GrowthSkipped,
    RunEnded,
    RunStarted,
    StoppedEarly,
)
from fxgrow.training.network import Evaluations
from fxgrow.training.step_result import StepResult, step_result


class StartRow(StrictModel):
    """``RunStarted``; the settings as they were written, by whatever version."""

    event: Literal["run-started"] = "run-started"
    settings: dict[str, Any]
    batches_per_epoch: int
    parameters: int
    multiply_adds: int | None = None


class EpochRow(StrictModel):
    """``EpochDone``."""

    event: Literal["epoch"] = "epoch"
    epoch: int
    phase: int
    loss: float
    test_accuracy: float | None = None
    lr: float | None = None
    seconds: float | None = None
    average_accuracy: float | None = None
    optimizer_step: int = 0
    test_loss: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    average_loss: float | None = None


class BoughtRow(StrictModel):
    """What the budget bought of one width: neurons, their score, and the cost by unit."""

    width: str
    split: int
    new: int
    score: float
    cost: dict[str, float]


class SpendingRow(StrictModel):
    """One unit of the budget: what there was before, what was allowed, what was spent."""

    present: float
    limit: float
    spent: float


class GrowthRow(StepResult):
    """``GrowthDone``: the step in numbers, and what grew. Older logs hold less."""

    event: Literal["growth"] = "growth"
    step: int
    test_accuracy: float | None = None
    stale_loss: float | None = None
    batches: str = ""
    faithful_error: float
    preservation_error: float
    backtracks: int
    multiply_adds: int | None = None
    timings: dict[str, float]
    widths: tuple[WidthChange, ...]
    refusals: dict[str, str]
    optimizer_step: int = 0
    params_before: int | None = None
    multiply_adds_before: int | None = None
    layers: tuple[LayerInsertion, ...] = ()
    bought: tuple[BoughtRow, ...] = ()
    spending: dict[str, SpendingRow] = Field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    average_accuracy: float | None = None
    average_loss: float | None = None
    blocks: tuple[BlockInsertion, ...] = ()


class SkippedRow(StrictModel):
    """``GrowthSkipped``."""

    event: Literal["growth-skipped"] = "growth-skipped"
    step: int
    epoch: int
    reason: str


class StoppedRow(StrictModel):
    """``StoppedEarly``."""

    event: Literal["stopped-early"] = "stopped-early"
    epoch: int
    patience: int
    growth_steps_left: int = 0


class MomentRow(StrictModel):
    """The model at one moment: its size, losses and accuracies on both sets of images."""

    parameters: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float


class EndRow(StrictModel):
    """``RunEnded``."""

    event: Literal["run-ended"] = "run-ended"
    epoch: int
    before: MomentRow
    after: MomentRow


LogRow = StartRow | EpochRow | GrowthRow | SkippedRow | StoppedRow | EndRow
_ANY_ROW: TypeAdapter[LogRow] = TypeAdapter(Annotated[LogRow, Field(discriminator="event")])


def _started(event: Any) -> LogRow:
    settings = event.settings.model_dump(mode="json")
    return StartRow(
        settings=settings,
        batches_per_epoch=event.batches_per_epoch,
        parameters=event.parameters,
        multiply_adds=event.multiply_adds,
    )


def _epoch_done(event: Any) -> LogRow:
    # A loss on images that nothing is decided by may be infinite, and JSON has no such number.
    losses = ("test_loss", "validation_loss", "average_loss")
    measured = {name: _if_finite(getattr(event, name)) for name in losses}
    return EpochRow(**{**asdict(event), **measured})


def _if_finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


def _growth_done(event: Any) -> LogRow:
    report: GrowthReport = event.report
    # What ``fxgrow report`` shows; a reader of the log needs no other file.
    bought = []
    for row in report.plan.rows:
        bought.append(BoughtRow(**{**asdict(row), "cost": dict(row.cost)}))
    spending = {unit: SpendingRow(**asdict(one)) for unit, one in report.plan.spending.items()}
    remarks = (report.unspent, report.unchecked, report.costs_unknown)
    return GrowthRow(
        **step_result(report, event.control, event.epoch).model_dump(),
        step=event.step,
        test_accuracy=event.test_accuracy,
        stale_loss=_if_finite(report.stale_loss),
        batches=str(report.batches or ""),
        faithful_error=report.faithful_error,
        preservation_error=report.preservation_error,
        backtracks=report.backtracks,
        multiply_adds=report.multiply_adds_after,
        timings=report.timings,
        widths=report.widths,
        refusals={name: refusal.code for name, refusal in report.refusals.items()},
        optimizer_step=event.optimizer_step,
        params_before=report.params_before,
        multiply_adds_before=report.multiply_adds_before,
        layers=report.layers,
        bought=tuple(bought),
        spending=spending,
        remarks=tuple(remark for remark in remarks if remark),
        average_accuracy=event.average_accuracy,
        average_loss=_if_finite(event.average_loss),
        blocks=report.blocks,
    )


def _moment(evaluations: Evaluations) -> MomentRow:
    train, test = evaluations.train, evaluations.test
    return MomentRow(
        parameters=evaluations.parameters,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        test_loss=test.loss,
        test_accuracy=test.accuracy,
    )


def _ended(event: Any) -> LogRow:
    return EndRow(epoch=event.epoch, before=_moment(event.before), after=_moment(event.after))


# Events without a row are too many (batches, phases), or of no use when the run is over.
_ROW_MAKERS: Mapping[type[Event], Callable[[Any], LogRow]] = {
    RunStarted: _started,
    EpochDone: _epoch_done,
    GrowthDone: _growth_done,
    GrowthSkipped: lambda event: SkippedRow(**asdict(event)),
    StoppedEarly: lambda event: StoppedRow(**asdict(event)),
    RunEnded: _ended,
}


def row_of(event: Event) -> LogRow | None:
    """What is logged of an event; None for nothing."""
    make = _ROW_MAKERS.get(type(event))
    return None if make is None else make(event)


@checked
def read_log(path: Path) -> tuple[LogRow, ...]:
    """Read a log, of this version or an older one.

    A last line that was cut short, as by a failure of power, is left out.

    Args:
        path: the file.

    Returns:
        Its lines as data, in order.

    Raises:
        SpecError: a line is no event of a run, with its number; or the file cannot be read.

    Example:
        >>> rows = read_log(Path("runs/mine/log.jsonl"))
        >>> [row.loss for row in rows if row.event == "epoch"]
        [2.1, 1.4]
    """
    rows = []
    # A line is written in one piece but for a failure of power, and then it has no end.
    # Not by ``splitlines``: a name of the user's may hold what it takes for the end of a line.
    *lines, _half = read_text(path).split("\n")
    for number, line in enumerate(lines, start=1):
        rows.append(_read_row(line, f"{path.name}, line {number}"))
    return tuple(rows)


def _read_row(line: str, place: str) -> LogRow:
    try:
        # Looks for what deceives readers, and for more values than a reader should meet.
        parse_json(line)
        return _ANY_ROW.validate_json(line, strict=True)
    except SpecError as error:
        raise SpecError(error.code, str(error), place) from error
    except ValidationError as error:
        raise as_spec_error(error, "log", place) from error
