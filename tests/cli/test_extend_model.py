"""``fxgrow extend``: more words or classes, from the command line."""

import json
from pathlib import Path

import pytest
import torch

from fxgrow.spec import load
from tests.cli.conftest import Fxgrow

MODEL = "tests.cli.models:tiny"
GPT2 = "hf:GPT2LMHeadModel?vocab_size=40&n_embd=8&n_head=2&n_layer=1&n_positions=16"


def test_more_classes(fxgrow: Fxgrow, tmp_path: Path) -> None:
    small, more = tmp_path / "small", tmp_path / "more"
    assert fxgrow("extend", MODEL, "--classes", "1", "--out", small).exit_code == 0
    # The weights of that one, with yet another class.
    words = ("extend", "tests.cli.models:tiny?num_classes=11", "--weights", small, "--classes", "2")
    done = fxgrow(*words, "--out", more, "--how", "new")
    assert done.exit_code == 0, done.output
    assert "8.weight: 13 rows" in done.stdout and "the same for all old rows" in done.stdout
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(load(more)(images)[:, :11], load(small)(images))
    assert fxgrow(*words, "--out", more).exit_code == 2
    record = json.loads(fxgrow(*words, "--out", more, "--force", "--json").stdout)
    assert record["rows"] == {"8.weight": 13, "8.bias": 13} and record["config"] == {}


def test_more_words(fxgrow: Fxgrow, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    done = fxgrow("extend", GPT2, "--words", "3", "--out", tmp_path / "more", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["config"] == {"config.vocab_size": 43}
    loaded = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "more")
    assert loaded.config.vocab_size == loaded.lm_head.out_features == 43


def test_more_experts(fxgrow: Fxgrow, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = "vocab_size=40&hidden_size=16&intermediate_size=16&num_hidden_layers=1"
    mixtral = f"hf:MixtralForCausalLM?{sizes}&num_attention_heads=2&num_key_value_heads=2"
    done = fxgrow("extend", mixtral, "--experts", "2", "--out", tmp_path / "more")
    assert done.exit_code == 0, done.output
    assert "config.num_experts_per_tok = 4" in done.stdout
    loaded = transformers.MixtralForCausalLM.from_pretrained(tmp_path / "more")
    assert loaded.config.num_local_experts == 16
    done = fxgrow("extend", mixtral, "--experts", "2", "--how", "new", "--out", tmp_path / "other")
    assert done.exit_code == 2 and "--how has no effect" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "was given 0 of --words, --classes and --experts"),
        (("--words", "1", "--classes", "1"), "was given 2 of"),
        (("--words", "1"), "its embeddings are none"),
        (("--experts", "2"), "has no config that tells of experts"),
        (("--classes", "1", "--at", "0.7"), "name another one"),
        (("--classes", "1", "--how", "zero"), "zero"),
    ],
)
def test_wrong_words(fxgrow: Fxgrow, tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    done = fxgrow("extend", MODEL, *words, "--out", tmp_path / "more")
    assert done.exit_code == 2 and sentence in " ".join(done.stderr.split())
    assert not (tmp_path / "more").exists()
