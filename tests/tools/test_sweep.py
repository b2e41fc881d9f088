"""The sweep tells a kept function from a changed one, and its table counts right."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.coupling.models import VECTOR
from tools import coverage, sweep
from tools.zoo import Row


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def row(factory: object, name: str = "net") -> Row:
    return Row(name, "test", factory, lambda dtype: (VECTOR.to(dtype),))


def test_a_kept_function_is_ok() -> None:
    found = sweep.run_one("test", row(small))
    assert (found.status, found.growable, found.widths, found.neurons, found.hidden) == (
        "ok",
        1,
        2,
        4,
        1,
    )
    assert set(found.errors) == {"split", "new"}
    assert found.refusals == {"output": 1}
    assert found.signal > sweep.BLIND


def test_a_model_that_raises_fails_with_its_message() -> None:
    found = sweep.run_one("test", row(lambda: nn.Linear(7, 2)))
    assert found.status == "fails"
    assert "shape" in found.message


CHANGES: list[tuple[Tensor, Tensor, float]] = [
    (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), 0.0),
    (torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]), 0.5),
    (torch.tensor([1.0]), torch.tensor([1.0, 2.0]), float("inf")),
    (torch.tensor([1]), torch.tensor([2]), float("inf")),
    (torch.tensor([float("nan")]), torch.tensor([1.0]), float("inf")),
]


@pytest.mark.parametrize(("found", "expected", "error"), CHANGES)
def test_relative_change(found: Tensor, expected: Tensor, error: float) -> None:
    assert sweep.change([found], [expected]) == error


def test_the_table_counts_the_rows(tmp_path: Path) -> None:
    results = [
        sweep.run_one("timm", row(small)),
        sweep.run_one("timm", row(lambda: nn.Linear(7, 2), "broken")),
    ]
    (tmp_path / "timm.jsonl").write_text("".join(json.dumps(asdict(one)) + "\n" for one in results))
    coverage.write(tmp_path, tmp_path)
    summary = json.loads((tmp_path / "coverage.json").read_text())["timm"]["summary"]
    assert (summary["models"], summary["ok"], summary["fails"], summary["growable"]) == (2, 1, 1, 1)
    text = (tmp_path / "coverage.md").read_text()
    assert "| net | test | ok | 1 of 2 | 4 | 1 of 1 | output 1 |" in text


def test_growths_have_a_table_of_their_own(tmp_path: Path) -> None:
    """What was not swept again stays as it is."""
    grown = sweep.Result("timm", "net", "test", status="ok", growable=3)
    late = sweep.Result("timm", "late", "test", growable=2, message="not | done\nyet")
    lines = "".join(json.dumps(asdict(one)) + "\n" for one in (grown, late))
    (tmp_path / "timm-grow.jsonl").write_text(lines)
    coverage.write(tmp_path, tmp_path)
    assert not (tmp_path / "coverage.json").exists()
    records = json.loads((tmp_path / "growth.json").read_text())["timm"]
    assert [(one["name"], one["status"]) for one in records] == [("net", "ok"), ("late", "fails")]
    text = (tmp_path / "growth.md").read_text()
    assert "1 of 2 models grow." in text and "| late | 2 | not / done |" in text
    assert "| net |" not in text


def test_models_that_were_not_run_again_keep_their_lines(tmp_path: Path) -> None:
    """A part of a zoo may be swept on a later commit; each line says on which one it was."""
    first = [sweep.Result("timm", name, "test", message="bad", state="abc") for name in ("a", "b")]
    other = sweep.Result("hf", "c", "test", status="ok", state="abc")
    for zoo, results in (("timm", first), ("hf", [other])):
        lines = "".join(json.dumps(asdict(one)) + "\n" for one in results)
        (tmp_path / f"{zoo}-grow.jsonl").write_text(lines)
    coverage.write(tmp_path, tmp_path)
    again = sweep.Result("timm", "b", "test", status="ok", state="def")
    (tmp_path / "hf-grow.jsonl").unlink()
    (tmp_path / "timm-grow.jsonl").write_text(json.dumps(asdict(again)) + "\n")
    coverage.write(tmp_path, tmp_path)
    records = json.loads((tmp_path / "growth.json").read_text())
    found = [(one["name"], one["status"], one["state"]) for one in records["timm"]]
    assert found == [("a", "fails", "abc"), ("b", "ok", "def")]
    assert [one["name"] for one in records["hf"]] == ["c"]
    assert "1 of 2 models grow. Run on abc (1), def (1)." in (tmp_path / "growth.md").read_text()
