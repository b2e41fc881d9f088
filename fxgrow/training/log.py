"""``log.jsonl``: one JSON object per event, with its kind, written while the run goes on."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fxgrow.argument_checks import checked
from fxgrow.training.events import (
    BatchDone,
    EpochDone,
    Event,
    GrowthDone,
    GrowthSkipped,
    GrowthStarted,
    RunResumed,
    RunStarted,
    StoppedEarly,
)
from fxgrow.training.step_result import step_result


def _run_started(event: Any) -> dict[str, Any]:
    # ``asdict`` goes into dataclasses alone, and the settings are a pydantic model.
    return {**asdict(event), "settings": event.settings.model_dump(mode="json")}


def _growth_done(event: Any) -> dict[str, Any]:
    report = event.report
    refusal_codes = {name: refusal.code for name, refusal in report.refusals.items()}
    return {
        "step": event.step,
        "test_accuracy": event.test_accuracy,
        **step_result(report, event.control, event.epoch).model_dump(mode="json"),
        "stale_loss": report.stale_loss,
        "batches": str(report.batches),
        "faithful_error": report.faithful_error,
        "preservation_error": report.preservation_error,
        "backtracks": report.backtracks,
        "multiply_adds": report.multiply_adds_after,
        "timings": report.timings,
        "widths": [change.model_dump(mode="json") for change in report.widths],
        "refusals": refusal_codes,
    }


# The kind and the content of every event that is logged.
_EVENT_ROWS: Mapping[type[Event], tuple[str, Callable[[Any], dict[str, Any]]]] = {
    RunStarted: ("run-started", _run_started),
    EpochDone: ("epoch", asdict),
    GrowthDone: ("growth", _growth_done),
    GrowthSkipped: ("growth-skipped", asdict),
    StoppedEarly: ("stopped-early", asdict),
}
# Events without a row: there are too many batches, and a growth step is logged when it is done.
_UNLOGGED = (BatchDone, GrowthStarted)


class Log:
    """A listener that appends events to a file, one JSON object per line.

    The file is opened anew for every event, so a run that is interrupted leaves a complete log.
    When it goes on from a checkpoint, what was logged after that one is dropped: it happens again.

    Args:
        path: the file; created with the first event.

    Example:
        >>> train_and_grow(model, data, settings, callback=Log(Path("log.jsonl")), **growth)
    """

    @checked
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: Event) -> None:
        """Append one event, if its kind is logged."""
        if isinstance(event, RunResumed):
            self._rewind(event)
            return
        row = _EVENT_ROWS.get(type(event))
        if row is not None:
            kind, content = row
            with self.path.open("a", encoding="utf-8") as file:
                # NaN is no JSON, and a line that cannot be read back is worse than an error.
                file.write(json.dumps({"event": kind, **content(event)}, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())  # no checkpoint is on the disk before its log is

    def _rewind(self, event: RunResumed) -> None:
        """Keep what lies before a checkpoint; the last line may be half written."""
        lines = []
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        for line in text.splitlines(keepends=True):
            if line.endswith("\n") and _is_before(json.loads(line), event):
                lines.append(line)
        rewound = self.path.with_suffix(".partial")
        rewound.write_text("".join(lines), encoding="utf-8")
        # By one rename: a process that is killed here must not lose the log.
        rewound.replace(self.path)


def _is_before(row: Mapping[str, Any], event: RunResumed) -> bool:
    """Whether a line of the log lies before a checkpoint."""
    epoch = row.get("epoch", 0)
    # Before a decision, what follows from it has not happened yet.
    if row.get("event") in ("growth", "growth-skipped", "stopped-early") and event.undecided:
        return bool(epoch < event.epochs)
    return bool(epoch <= event.epochs)
