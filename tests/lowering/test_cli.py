import json
from pathlib import Path

from typer.testing import CliRunner

from fxgrow.cli.main import app
from tests.lowering.models import HEADS

MODEL = "tests.lowering.models:patches"
SHORT = (
    "--limit",
    "64",
    "--epochs",
    "2",
    "--grow-steps",
    "1",
    "--new",
    "1",
    "--batch-size",
    "32",
    "--neurons",
    "1.0",
)


def fxgrow(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_inspect_shows_heads_that_grow() -> None:
    plain, lowered = (
        json.loads(fxgrow("inspect", MODEL, "--json", *more))["widths"]
        for more in ([], ["--lower"])
    )
    sizes = {width["name"]: width["size"] for width in lowered if width["growable"]}
    assert sizes == {"block.self_attn.q": HEADS, "block.linear1": 8}
    assert not any("self_attn" in width["name"] for width in plain if width["growable"])


def test_grow_grows_heads(tmp_path: Path) -> None:
    fxgrow("grow", MODEL, "--lower", "--out", tmp_path / "run", *SHORT)
    widths = json.loads(fxgrow("inspect", tmp_path / "run", "--json"))["widths"]
    assert {width["name"]: width["size"] for width in widths}["block.self_attn.q"] > HEADS
