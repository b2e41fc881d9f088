"""The numbers of a run, by the names under which all trackers get them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fxgrow.growth import GrowthReport
from fxgrow.training.events import BatchDone, EpochDone, Event, GrowthDone


@dataclass(frozen=True)
class Metrics:
    """What an event measured.

    Args:
        event: the kind of the event, as in ``log.jsonl``.
        epoch: epochs done.
        optimizer_step: steps of the optimizer done.
        values: by name.
        note: the event in words; "" if numbers say it all.
    """

    event: str
    epoch: int
    optimizer_step: int
    values: Mapping[str, float]
    note: str = ""

    @property
    def place(self) -> int:
        """Where the values lie on an axis: at a step of the optimizer, at an epoch without one."""
        return self.optimizer_step or self.epoch


# Names with a slash: trackers group their charts by what stands before it.
EPOCH_METRICS: Mapping[str, str] = {
    "loss/train": "loss",
    "loss/test": "test_loss",
    "loss/test_average": "average_loss",
    "loss/validation": "validation_loss",
    "accuracy/test": "test_accuracy",
    "accuracy/test_average": "average_accuracy",
    "accuracy/validation": "validation_accuracy",
    "lr": "lr",
    "seconds/epoch": "seconds",
}
"""Per metric the field of ``EpochDone``."""
GROWTH_METRICS: Mapping[str, Callable[[GrowthReport], float | None]] = {
    "growth/loss_before": lambda report: report.loss_before,
    "growth/loss_after": lambda report: report.loss_after,
    "growth/neurons": lambda report: sum(width.split + width.new for width in report.widths),
    "growth/layers": lambda report: len(report.layers),
    "growth/blocks": lambda report: report.num_blocks,
    "model/parameters": lambda report: report.params_after,
    "model/multiply_adds": lambda report: report.multiply_adds_after,
    "seconds/growth": lambda report: report.seconds,
}
"""Per metric what it is of a growth step."""


def _of_batch(event: Any) -> Metrics:
    values = {"loss/batch": event.loss}
    return Metrics("batch", event.epoch, event.optimizer_step, values)


def _of_epoch(event: Any) -> Metrics:
    values = {name: getattr(event, field) for name, field in EPOCH_METRICS.items()}
    return Metrics("epoch", event.epoch, event.optimizer_step, _measured(values))


def _of_growth(event: Any) -> Metrics:
    values = {name: of(event.report) for name, of in GROWTH_METRICS.items()}
    values["accuracy/test"] = event.test_accuracy
    values["accuracy/test_average"] = event.average_accuracy
    return Metrics(
        "growth", event.epoch, event.optimizer_step, _measured(values), growth_note(event)
    )


def _measured(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def growth_note(event: GrowthDone) -> str:
    """A growth step in a sentence: every width that grew, every layer and block that is new."""
    grown = [f"{one.width} {one.before} to {one.after}" for one in event.report.widths]
    grown += [f"{layer.name} (new, {layer.neurons} neurons)" for layer in event.report.layers]
    for record in event.report.blocks:
        grown += [f"{path} (new block)" for path in record.new_paths]
    return f"growth step {event.step}: {', '.join(grown) or 'nothing grew'}"


_MAKERS: Mapping[type[Event], Callable[[Any], Metrics]] = {
    BatchDone: _of_batch,
    EpochDone: _of_epoch,
    GrowthDone: _of_growth,
}


def metrics_of(event: Event) -> Metrics | None:
    """The numbers of an event; None if it has none."""
    make = _MAKERS.get(type(event))
    return None if make is None else make(event)
