"""``fxgrow expand``: a bigger model with the function of a smaller one, from references alone."""

import json
from pathlib import Path

import pytest
import torch

from fxgrow.spec import load
from tests.cli.conftest import Fxgrow
from tests.cli.models import IMAGE, residual, tiny

SMALL, BIG = "tests.cli.models:residual", "tests.cli.models:residual?layers=3&channels=6"


def test_wider_and_deeper(fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow("expand", SMALL, "--to", BIG, "--out", tmp_path / "big", "--seed", "3")
    assert done.exit_code == 0, done.output
    assert "1.2" in done.stdout and "starts as the identity beside 1.0" in done.stdout
    assert "the same function: off by" in done.stdout
    torch.manual_seed(3)
    small, _ = residual()
    x = torch.randn(4, *IMAGE)
    big = load(tmp_path / "big")
    assert big.get_parameter("0.weight").shape[0] == 6
    torch.testing.assert_close(big(x), small(x))


def test_as_json_and_an_earlier_directory(fxgrow: Fxgrow, tmp_path: Path) -> None:
    words = ("expand", SMALL, "--to", BIG, "--out", tmp_path / "big", "--json")
    record = json.loads(fxgrow(*words).stdout)
    assert record["widths"] == {"0": [4, 6]}
    assert record["new_blocks"] == {"1.1": "1.0", "1.2": "1.0"}
    assert record["preservation_error"] < 1e-5
    refused = fxgrow(*words)
    assert refused.exit_code == 2 and refused.stderr.rstrip().endswith("[directory-exists]")
    assert fxgrow(*words, "--force").exit_code == 0


def test_weights_of_a_saved_model(fxgrow: Fxgrow, tmp_path: Path) -> None:
    first = ("expand", SMALL, "--to", BIG, "--out", tmp_path / "one", "--seed", "5")
    assert fxgrow(*first).exit_code == 0
    bigger = "tests.cli.models:residual?layers=4&channels=7"
    again = (
        "expand",
        BIG,
        "--weights",
        tmp_path / "one",
        "--to",
        bigger,
        "--out",
        tmp_path / "two",
    )
    assert fxgrow(*again).exit_code == 0
    x = torch.randn(4, *IMAGE)
    torch.testing.assert_close(load(tmp_path / "two")(x), load(tmp_path / "one")(x))


def test_weights_of_another_model(fxgrow: Fxgrow, grown: Path, tmp_path: Path) -> None:
    words = ("expand", SMALL, "--weights", grown, "--to", BIG, "--out", tmp_path / "big")
    done = fxgrow(*words)
    assert done.exit_code == 2 and done.stderr.rstrip().endswith("[unlike-weights]")
    assert not (tmp_path / "big").exists()


def test_a_directory_grows_wider(fxgrow: Fxgrow, tmp_path: Path) -> None:
    small = "tests.cli.models:tiny"
    fxgrow("expand", small, "--to", f"{small}?channels=5", "--out", tmp_path / "one")
    words = ("expand", tmp_path / "one", "--to", f"{small}?channels=8", "--out", tmp_path / "two")
    done = fxgrow(*words)
    assert done.exit_code == 0, done.output
    x = torch.randn(4, *IMAGE)
    torch.testing.assert_close(load(tmp_path / "two")(x), load(tmp_path / "one")(x))


def test_a_smaller_model_is_refused(fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow("expand", BIG, "--to", SMALL, "--out", tmp_path / "out")
    assert done.exit_code == 2 and done.stderr.rstrip().endswith("[unlike-models]")
    assert not (tmp_path / "out").exists()


def test_a_model_of_transformers(fxgrow: Fxgrow, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    small = "hf:GPT2LMHeadModel?vocab_size=40&n_embd=8&n_head=2&n_layer=1&n_positions=16"
    big = "hf:GPT2LMHeadModel?vocab_size=40&n_embd=12&n_head=3&n_layer=2&n_positions=16"
    done = fxgrow("expand", small, "--to", big, "--out", tmp_path / "big")
    assert done.exit_code == 0, done.output
    loaded = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "big")
    assert (loaded.config.n_embd, loaded.config.n_layer) == (12, 2)


def test_the_factories_are_what_the_references_name() -> None:
    assert residual()[0](torch.zeros(1, *IMAGE)).shape == tiny()[0](torch.zeros(1, *IMAGE)).shape
