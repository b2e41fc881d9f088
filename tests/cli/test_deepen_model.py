"""``fxgrow deepen``: more blocks of a model's own kind, from a reference alone."""

import json
from pathlib import Path

import pytest
import torch

from fxgrow.spec import load, read_spec
from tests.cli.conftest import Fxgrow
from tests.cli.models import IMAGE, residual

MODEL = "tests.cli.models:residual?layers=2"


def test_deeper(fxgrow: Fxgrow, tmp_path: Path) -> None:
    words = ("deepen", MODEL, "--blocks", "1=2", "--out", tmp_path / "deep", "--seed", "3")
    done = fxgrow(*words)
    assert done.exit_code == 0, done.output
    assert all(word in done.stdout for word in ("1.3", "down.weight", "down.bias"))
    assert "the same function: off by" in done.stdout
    torch.manual_seed(3)
    small, _ = residual(layers=2)
    x = torch.randn(4, *IMAGE)
    torch.testing.assert_close(load(tmp_path / "deep")(x), small(x))
    (step,) = read_spec(tmp_path / "deep").history
    assert (step.method.settings["how"], step.num_blocks) == ("copied", 2)
    refused = fxgrow(*words)
    assert refused.exit_code == 2 and refused.stderr.rstrip().endswith("[directory-exists]")
    assert fxgrow(*words, "--force").exit_code == 0


def test_weights_of_a_saved_model_bring_their_history(fxgrow: Fxgrow, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    fxgrow("deepen", MODEL, "--blocks", "1=1", "--out", first)
    bigger = "tests.cli.models:residual?layers=3"
    words = ("deepen", bigger, "--weights", first, "--blocks", "1=1", "--where", "spread")
    record = json.loads(fxgrow(*words, "--out", second, "--json").stdout)
    assert record["new_blocks"] == {"1.3": "1.2"} and record["exact"]
    assert record["preservation_error"] < 1e-5
    x = torch.randn(2, *IMAGE)
    torch.testing.assert_close(load(second)(x), load(first)(x))
    assert len(read_spec(second).history) == 2
    replayed = fxgrow("replay", second, "--from", first)
    assert replayed.exit_code == 0, replayed.output


def test_what_is_not_exact_is_said(fxgrow: Fxgrow, tmp_path: Path) -> None:
    words = ("deepen", MODEL, "--blocks", "1=2", "--how", "stack", "--out", tmp_path / "deep")
    done = fxgrow(*words)
    assert "another function: off by" in done.stdout and "a whole copy" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        (("--blocks", "1"), "names no list and number", "bad-blocks"),
        (("--blocks", "1=x"), "names no list and number", "bad-blocks"),
        (("--blocks", "9=1"), "there are '', '1', '2'", "unknown-blocks"),
        (("--blocks", "1=0"), "no list is to get a block", "empty-budget"),
        (("--blocks", "1=3", "--how", "middle"), "ask for 2 at most", "bad-blocks"),
        (("--blocks", "1=1", "--how", "twice"), "choose one of copied, new", "bad-setting"),
        (("--blocks", "1=1", "--where", "gain"), "name a data set", "unused-option"),
        (("--blocks", "1=1", "--limit", "9"), "--limit has no effect without", "unused-option"),
        (
            ("--blocks", "1=1", "--where", "gain", "--data", "digits", "--parameters", "2"),
            "the smallest adds 31 parameters",
            "empty-budget",
        ),
        (("--blocks", "2=1"), "is no block that zeros make the identity", "not-residual"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_refusals(
    words: tuple[str, ...], sentence: str, code: str, fxgrow: Fxgrow, tmp_path: Path
) -> None:
    done = fxgrow("deepen", MODEL, *words, "--out", tmp_path / "deep")
    assert done.exit_code == 2 and done.stderr.rstrip().endswith(f"[{code}]")
    assert sentence in " ".join(done.stderr.split())
    assert not (tmp_path / "deep").exists()


def test_places_by_gain_within_a_budget(fxgrow: Fxgrow, tmp_path: Path) -> None:
    words = ("deepen", MODEL, "--blocks", "1=2", "--where", "gain", "--data", "digits")
    more = ("--limit", "64", "--parameters", "40", "--out", tmp_path / "deep")
    record = json.loads(fxgrow(*words, *more, "--json").stdout)
    # A block has 31 parameters, so that one of two is bought.
    assert set(record["gains"]) == {"1.0", "1.1"} and len(record["new_blocks"]) == 1
    best = max(record["gains"], key=lambda path: record["gains"][path])
    assert list(record["new_blocks"].values()) == [best]
    (step,) = read_spec(tmp_path / "deep").history
    assert step.budget == {"parameters": 40} and step.blocks[0].scores == (record["gains"][best],)
    done = fxgrow(*words, *more, "--force")
    assert "gain of one step behind each block: 1.0" in done.stdout
    assert "loss 2.3" in done.stdout


def test_a_directory_has_no_lists(fxgrow: Fxgrow, tmp_path: Path) -> None:
    fxgrow("deepen", MODEL, "--blocks", "1=1", "--out", tmp_path / "one")
    done = fxgrow("deepen", tmp_path / "one", "--blocks", "1=1", "--out", tmp_path / "two")
    assert done.exit_code == 2 and "a graph has none" in " ".join(done.stderr.split())


def test_a_model_of_transformers(fxgrow: Fxgrow, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    small = "hf:GPT2LMHeadModel?vocab_size=40&n_embd=8&n_head=2&n_layer=1&n_positions=16"
    words = ("deepen", small, "--blocks", "transformer.h=2", "--out", tmp_path / "deep")
    done = fxgrow(*words)
    assert done.exit_code == 0, done.output
    assert "config.n_layer = 3" in done.stdout
    loaded = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "deep")
    assert len(loaded.transformer.h) == 3
