"""The listeners that write files: what they write, and what is left of it when a run is resumed."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fxgrow.errors import SpecError
from fxgrow.training import (
    CsvLog,
    EpochDone,
    EpochRow,
    Event,
    GrowthDone,
    GrowthRow,
    JsonlLog,
    Listener,
    RunEnded,
    RunResumed,
    RunSettings,
    read_log,
)

Events = tuple[Event, ...]


def heard(listener: Listener, events: Events) -> None:
    for event in events:
        listener(event)


def of_kind(events: Events, kind: type[Any]) -> Any:
    """The first event of a kind."""
    return next(event for event in events if isinstance(event, kind))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_per_epoch_and_growth_step(events: Events, tmp_path: Path) -> None:
    heard(CsvLog(tmp_path / "made" / "metrics.csv"), events)
    first, growth, last = rows(tmp_path / "made" / "metrics.csv")
    epoch, grown = of_kind(events, EpochDone), of_kind(events, GrowthDone)
    assert [row["event"] for row in (first, growth, last)] == ["epoch", "growth", "epoch"]
    assert [row["optimizer_step"] for row in (first, growth, last)] == ["4", "4", "8"]
    assert float(first["loss/train"]) == epoch.loss
    assert float(first["accuracy/test"]) == epoch.test_accuracy
    assert float(first["loss/test"]) == epoch.test_loss
    assert int(growth["model/parameters"]) == grown.report.params_after
    assert growth["growth/neurons"] == "2" and growth["loss/train"] == ""
    assert first["model/parameters"] == "" and first["loss/validation"] == ""


@pytest.mark.parametrize("resumed", [False, True])
def test_a_table_that_an_earlier_version_began_keeps_its_columns(
    resumed: bool, events: Events, tmp_path: Path
) -> None:
    path, log = tmp_path / "metrics.csv", CsvLog(tmp_path / "metrics.csv")
    path.write_text("event,epoch,optimizer_step,accuracy/test,gone\nepoch,1,4,0.5,7\n")
    if resumed:
        log(RunResumed(RunSettings(epochs=2, grow_steps=1), 4, epochs=1, undecided=False))
    last = [event for event in events if isinstance(event, EpochDone)][-1]
    log(last)
    first, second = rows(path)
    assert (first["accuracy/test"], first["gone"]) == ("0.5", "7")
    assert second == {
        "event": "epoch", "epoch": "2", "optimizer_step": "8",
        "accuracy/test": str(last.test_accuracy), "gone": "",
    }  # fmt: skip


def test_the_average_stands_wherever_the_weights_do(events: Events, tmp_path: Path) -> None:
    """After every epoch and every growth step, in the table and in the log."""
    told = [event for event in events if isinstance(event, EpochDone | GrowthDone)]
    assert all(event.average_accuracy is not None for event in told)
    # By chance both are right equally often, so they are made unlike here.
    unlike = {"test_accuracy": 0.5, "average_accuracy": 0.25, "average_loss": 1.5}
    told = [replace(event, **unlike) for event in told]
    heard(CsvLog(tmp_path / "metrics.csv"), tuple(told))
    heard(JsonlLog(tmp_path / "log.jsonl"), tuple(told))
    table = rows(tmp_path / "metrics.csv")
    log = read_log(tmp_path / "log.jsonl")
    assert len(table) == len(log) == len(told) == 3
    for row, line in zip(table, log, strict=True):
        assert (row["accuracy/test"], row["accuracy/test_average"]) == ("0.5", "0.25")
        assert isinstance(line, EpochRow | GrowthRow)
        assert (line.average_accuracy, line.average_loss) == (0.25, 1.5)
    assert [row["loss/test_average"] for row in table] == ["1.5", "", "1.5"]


def test_the_log_reads_back(events: Events, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    heard(JsonlLog(path), events)
    start, _, growth, last, end = read_log(path)
    done: GrowthDone = of_kind(events, GrowthDone)
    assert start.event == "run-started" and start.batches_per_epoch == 4
    assert start.multiply_adds == done.report.multiply_adds_before
    assert growth.event == "growth" and growth.widths == done.report.widths
    assert growth.params_before == done.report.params_before < growth.params
    assert growth.spending["neurons"].spent == 2
    assert sum(row.split + row.new for row in growth.bought) == 2
    assert end.event == "run-ended"
    assert end.after.test_accuracy == of_kind(events, RunEnded).after.test.accuracy
    # A line that was cut short is no line yet.
    path.write_text(path.read_text() + '{"event": "epo')
    assert read_log(path)[-2:] == (last, end)


def test_a_log_of_an_earlier_version_reads_back(tmp_path: Path) -> None:
    lines = (
        '{"event": "epoch", "epoch": 1, "phase": 0, "loss": 1.5, "test_accuracy": 0.5, "lr": 0.1, "seconds": 2.0}',
        '{"event": "growth", "step": 1, "test_accuracy": 0.5, "loss_before": 1.0, "loss_after": 0.9, "params": 9, '
        '"split": 1, "new": 0, "seconds": 1.0, "stale_loss": null, "batches": "None", "faithful_error": 0.0, '
        '"preservation_error": 0.0, "backtracks": 0, "multiply_adds": 8, "timings": {"search": 1.0}, '
        '"widths": [{"width": "a", "before": 2, "after": 3, "split": 1}], "refusals": {"b": "output"}}',
    )
    (tmp_path / "log.jsonl").write_text("".join(f"{line}\n" for line in lines))
    epoch, growth = read_log(tmp_path / "log.jsonl")
    assert epoch.event == "epoch" and epoch.test_loss is None
    assert growth.event == "growth" and growth.layers == () and growth.refusals == {"b": "output"}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"event": "party"}', "bad-value"),
        ('{"event": "epoch", "epoch": "1", "phase": 0, "loss": 1.0}', "bad-value"),
        ('{"event": "epoch", "epoch": 1, "phase": 0, "loss": 1.0, "more": 1}', "unknown-key"),
        ('{"event": "epoch", "epoch": 1, "phase": 0}', "missing-key"),
        ("dear diary", "bad-json"),
        ('{"event": "growth-skipped", "step": 1, "epoch": 1, "reason": "\\u202e"}', "bad-text"),
    ],
)
def test_what_is_no_log_is_refused_with_its_place(line: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"event": "epoch", "epoch": 1, "phase": 0, "loss": 1.0}}\n{line}\n')
    with pytest.raises(SpecError) as caught:
        read_log(path)
    assert caught.value.code == code
    assert code == "missing-key" or "line 2" in str(caught.value) or "epoch" in str(caught.value)


def test_losses_that_are_no_numbers_are_left_out(events: Events, tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    diverged = EpochDone(1, 0, 1.0, test_loss=nan, validation_loss=inf, average_loss=nan)
    JsonlLog(tmp_path / "log.jsonl")(diverged)
    (row,) = read_log(tmp_path / "log.jsonl")
    assert row.event == "epoch" and row.test_loss is None and row.validation_loss is None
    assert row.average_loss is None


@pytest.mark.parametrize(("undecided", "kept"), [(True, ["epoch"]), (False, ["epoch", "growth"])])
@pytest.mark.parametrize(("kind", "name"), [(CsvLog, "metrics.csv"), (JsonlLog, "log.jsonl")])
def test_files_are_rewound_to_the_checkpoint(
    kind: Any, name: str, undecided: bool, kept: list[str], events: Events, tmp_path: Path
) -> None:
    path = tmp_path / name
    heard(kind(path), events)
    path.write_text(path.read_text() + "epo")  # torn by a failure of power
    whole = path.read_text()
    kind(path)(RunResumed(RunSettings(epochs=2, grow_steps=1), 4, epochs=1, undecided=undecided))
    lines = path.read_text().splitlines()[1:]  # without the head, or the start
    found = [line.split(",")[0] if kind is CsvLog else json.loads(line)["event"] for line in lines]
    assert found == kept
    # What follows the checkpoint happens again.
    place = events.index(of_kind(events, EpochDone if undecided else GrowthDone))
    heard(kind(path), events[place + 1 :])
    assert path.read_text() == whole.removesuffix("epo")


def test_a_table_that_was_not_begun_yet_gets_its_head(events: Events, tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "metrics.csv")
    log(RunResumed(RunSettings(epochs=2, grow_steps=1), 4, epochs=1, undecided=False))
    heard(log, events)
    assert rows(tmp_path / "metrics.csv")[0]["event"] == "epoch"
