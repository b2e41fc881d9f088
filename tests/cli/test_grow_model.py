import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fxgrow.cli.arguments import build_budget, build_trigger
from fxgrow.cli.layer_words import AddedLayers, added_layers
from fxgrow.errors import ArgumentError
from fxgrow.spec import load, read_spec, spec_of
from fxgrow.training import (
    AdamWSettings,
    AtEpochs,
    Augmentation,
    EarlyStop,
    EqualPhases,
    MovingAverage,
    OnPlateau,
    StepRate,
    read_recipe,
    read_result,
)
from tests.cli.conftest import SHORT, Fxgrow

TINY = "tests.cli.models:tiny"
ROOT = Path(__file__).parents[2]
KEYS = {
    "params_before", "params_after", "loss_before", "loss_after", "test_accuracy_before", "test_accuracy_after",
    "faithful_error", "backtracks", "growth_seconds", "epoch_seconds", "steps", "epochs",
}  # fmt: skip
STEP_KEYS = {
    "loss_before", "loss_after", "held_out_before", "held_out_after", "epoch", "params", "split", "new", "seconds",
    "test_loss_before", "test_loss_after", "test_loss_trained", "trained_steps", "picked",
}  # fmt: skip
TIMES_OF_A_STEP = {"seconds", "trained_steps", "test_loss_trained"}
TIMES = {"growth_seconds", "epoch_seconds"}


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_run_directory(grown: Path) -> None:
    assert left(grown) == [
        "config.json",
        "initial",
        "log.jsonl",
        "model.safetensors",
        "recipe.yaml",
        "result.json",
    ]
    assert left(grown / "initial") == ["config.json", "model.safetensors"]
    assert left(grown.parent) == ["grown"]
    result = json.loads((grown / "result.json").read_text())
    assert set(result) == KEYS | {"schema_version", "model", "data", "seed", "settings", "versions"}
    (step,) = result["steps"]
    assert set(step) == STEP_KEYS
    assert step["split"] + step["new"] == 6
    assert step["loss_after"] <= step["loss_before"]
    assert result["params_before"] < result["params_after"] == step["params"]
    spec = read_spec(grown)
    assert spec.cost.parameters == result["params_after"]
    assert [change.method.name for change in spec.history] == ["Firefly"]
    assert spec.history[0].parent == read_spec(grown / "initial").fingerprint


def test_the_log_holds_epochs_and_growth_steps(grown: Path) -> None:
    events = [json.loads(line) for line in (grown / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == [
        "run-started",
        "epoch",
        "growth",
        "epoch",
        "run-ended",
    ]
    assert set(events[2]) > STEP_KEYS


def test_the_same_seed_gives_the_same_model_and_result(
    grown: Path, fxgrow: Fxgrow, tmp_path: Path
) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    for seed, out in (0, again), (1, other):
        done = fxgrow("grow", TINY, "--neurons", 0.5, "--seed", seed, "--out", out, *SHORT)
        assert done.exit_code == 0, done.output
    assert (again / "model.safetensors").read_bytes() == (grown / "model.safetensors").read_bytes()
    assert (again / "config.json").read_bytes() == (grown / "config.json").read_bytes()
    assert (other / "model.safetensors").read_bytes() != (grown / "model.safetensors").read_bytes()
    first, second = (json.loads((out / "result.json").read_text()) for out in (grown, again))
    for name in TIMES:
        assert first.pop(name) > 0
        assert second.pop(name) > 0
    for result in (first, second):
        for step in result["steps"]:
            # How far training comes in the time that growth took depends on the machine.
            assert all(step.pop(name) > 0 for name in TIMES_OF_A_STEP)
    assert first == second


def test_what_is_shown(fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow("grow", TINY, "--neurons", 5, "--out", tmp_path / "run", *SHORT)
    assert done.exit_code == 0, done.output
    # One table, one sentence, and what to type next.
    assert done.stdout.count("─") > 20 and done.stdout.count("\n ─") == 1
    shown = " ".join(done.stdout.split())
    assert len(done.stdout.splitlines()[-1]) > 200, "what is copied from it is whole"
    assert "growth step 1" in shown and "points of test accuracy" in shown
    assert shown.endswith(f"next: fxgrow report {tmp_path / 'run'} --html report.html")
    for words in (
        "epoch 1/2",
        "epoch 2/2",
        "growth step 1 begins",
        "growth step 1: ",
        "loss on the growth batches",
    ):
        assert words in done.stderr


def test_budgets(fxgrow: Fxgrow, tmp_path: Path) -> None:
    limits = {
        "parameters": 0.5,
        "multiply_adds": 0.4,
        "activation_memory": 0.9,
        "per_width": 6,
        "round_to": 2,
    }
    words = [
        word for name, limit in limits.items() for word in (f"--{name.replace('_', '-')}", limit)
    ]
    done = fxgrow("grow", TINY, *words, "--out", tmp_path / "run", *SHORT)
    assert done.exit_code == 0, done.output
    for said in ("multiply-adds spent", "bytes of activations spent"):
        assert said in done.stderr
    (step,) = read_spec(tmp_path / "run").history
    assert step.budget == limits
    assert (
        step.cost_before.parameters
        < step.cost_after.parameters
        <= 1.5 * step.cost_before.parameters
    )
    assert step.cost_after.multiply_adds <= 1.4 * step.cost_before.multiply_adds
    assert all(
        change.after % 2 == 0 and change.after - change.before <= 6 for change in step.widths
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], {"neurons": 0.3}),
        (["--per-width", "1"], {"neurons": 0.3, "per_width": 1}),
        (["--parameters", "200"], {"parameters": 200}),
    ],
)
def test_the_default_budget_and_what_replaces_it(words: list[str], said: dict[str, float]) -> None:
    typed = {
        word.strip("-").replace("-", "_"): value
        for word, value in zip(words[::2], words[1::2], strict=True)
    }
    assert build_budget(1, 0, **typed).model_dump(exclude_defaults=True) == said


def test_layers_are_limited_by_their_number() -> None:
    assert build_budget(1, 2).model_dump(exclude_defaults=True) == {"neurons": 0.3, "layers": 2}


def test_json_and_graphs(fxgrow: Fxgrow, tmp_path: Path) -> None:
    graphs = tmp_path / "graphs"
    done = fxgrow(
        "grow", TINY, "--out", tmp_path / "run", "--json", "--dump-graphs", graphs, *SHORT
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((tmp_path / "run" / "result.json").read_text())
    assert left(graphs) == ["step1.emitted.txt", "step1.overgrown.txt"]
    assert (
        len((graphs / "step1.overgrown.txt").read_text())
        > len((graphs / "step1.emitted.txt").read_text())
        > 0
    )


def test_no_growth_step_is_plain_training(fxgrow: Fxgrow, tmp_path: Path) -> None:
    words = ("--limit", 64, "--epochs", 1, "--grow-steps", 0, "--json")
    done = fxgrow("grow", TINY, "--out", tmp_path / "run", *words)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["steps"] == []
    assert result["params_before"] == result["params_after"]
    assert read_spec(tmp_path / "run").history == ()


def test_a_grown_model_grows_further(grown: Path, fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow("grow", grown, "--neurons", 2, "--out", tmp_path / "run", *SHORT)
    assert done.exit_code == 0, done.output
    old, new = read_spec(grown), read_spec(tmp_path / "run")
    assert len(new.history) == 2
    assert new.history[:1] == old.history
    assert new.history[1].parent == old.fingerprint
    inputs = (torch.randn(3, 1, 8, 8),)
    assert torch.equal(load(tmp_path / "run" / "initial")(*inputs), load(grown)(*inputs))


def test_a_width_multiplier(fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow("grow", f"{TINY}?channels=8&width=0.5", "--out", tmp_path / "run", *SHORT)
    assert done.exit_code == 0, done.output
    assert [
        width.size for width in read_spec(tmp_path / "run" / "initial").widths if width.growable
    ] == [4, 8]
    assert "channels=8&num_classes=10&width=0.5" in (tmp_path / "run" / "result.json").read_text()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["tests.cli.models:tny"], "unknown-model", "has no model 'tny'"),
        (["nowhere"], "bad-reference", "'nowhere' is neither a directory"),
        ([TINY, "--data", "digit"], "unknown-data", "did you mean 'digits'"),
        ([TINY, "--data", "cifar10"], "no-root", "root"),
        ([TINY, "--limit", "0"], "option", "train_size=0 leaves no data"),
        ([TINY, "--neurons", "0"], "empty-budget", "buys nothing"),
        ([TINY, "--neurons", "-3"], "empty-budget", "buys nothing"),
        ([TINY, "--neurons", "nan"], "empty-budget", "buys nothing"),
        ([TINY, "--neurons", "many"], "bad-budget", "--neurons many is no number"),
        ([TINY, "--neurons", "0.001"], "empty-budget", "less than one"),
        (
            [TINY, "--parameters", "3"],
            "empty-budget",
            "3 parameters are less than one step of growth costs",
        ),
        ([TINY, "--latency", "soon"], "bad-budget", "--latency soon is no number"),
        ([TINY, "--multiply-adds", "-0.1"], "empty-budget", "-0.1 multiply-adds buys nothing"),
        ([TINY, "--round-to", "0"], "bad-budget", "round_to=0 cannot be met"),
        ([TINY, "--grow-steps", "0"], "unused-option", "--new has no effect without a growth"),
        ([TINY, "--epochs", "2", "--grow-steps", "2"], "too-few-epochs", "at least 3 epochs"),
        ([TINY, "--lr", "-1"], "bad-setting", "--lr -1.0 cannot be used"),
        ([TINY, "--eps", "0"], "bad-setting", "--eps 0.0 cannot be used"),
        ([TINY, "--seed", "-1"], "bad-setting", "--seed -1 cannot be used"),
        ([TINY, "--lr", "1e9"], "nan-loss", "lower the learning rate"),
        (["tests.cli.models:explodes"], "nan-loss", "training loss is nan"),
        (["tests.cli.models:nothing_grows"], "nothing-growable", "no width of the model can grow"),
        ([f"{TINY}?num_classes=4"], "classes", "tells 4 classes apart, but digits has 10"),
        (["tests.cli.models:words"], "no-images", "not one square image"),
        (["tests.cli.models:maps"], "no-logits", "holds no class scores"),
        ([f"{TINY}?input=3x8x8"], "does-not-run", "does not run on images of 3x8x8"),
    ],
)
def test_wrong_input(
    fxgrow: Fxgrow, tmp_path: Path, words: list[str], code: str, sentence: str
) -> None:
    done = fxgrow("grow", *SHORT, "--out", tmp_path / "runs" / "run", *words)
    assert done.exit_code == 2, done.output
    (last,) = [line for line in done.stderr.splitlines() if line.startswith("fxgrow: ")]
    assert sentence in last
    assert last.endswith(f"[{code}]")
    assert done.stdout == ""
    assert not (tmp_path / "runs").exists() or left(tmp_path / "runs") == []


def test_an_earlier_run_is_kept_unless_forced(fxgrow: Fxgrow, tmp_path: Path) -> None:
    out = tmp_path / "run"
    short = (TINY, "--out", out, "--limit", 32, "--epochs", 1, "--grow-steps", 0)
    assert fxgrow("grow", *short).exit_code == 0
    before = (out / "model.safetensors").read_bytes()
    refused = fxgrow("grow", *short, "--seed", 1)
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert (out / "model.safetensors").read_bytes() == before
    assert fxgrow("grow", "tests.cli.models:explodes", *short[1:], "--force").exit_code == 2
    assert (out / "model.safetensors").read_bytes() == before
    assert fxgrow("grow", *short, "--seed", 1, "--force").exit_code == 0
    assert (out / "model.safetensors").read_bytes() != before
    assert left(tmp_path) == ["run"]


def test_force_spares_what_is_no_run(fxgrow: Fxgrow, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    done = fxgrow("grow", TINY, "--out", tmp_path, "--force", *SHORT)
    assert done.exit_code == 2
    assert "foreign-directory" in done.stderr
    assert left(tmp_path) == ["thesis.txt"]


def test_a_bug_is_shown_as_it_is(fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow("grow", "tests.cli.models:bug", "--out", tmp_path / "run", *SHORT)
    assert done.exit_code == 1
    assert isinstance(done.exception, RuntimeError)
    assert left(tmp_path) == []


def test_an_interrupt_leaves_nothing(fxgrow: Fxgrow, tmp_path: Path) -> None:
    done = fxgrow("grow", "tests.cli.models:interrupted", "--out", tmp_path / "run", *SHORT)
    assert done.exit_code == 130
    assert "nothing was written" in done.stderr
    assert left(tmp_path) == []


def process(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fxgrow.cli", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - background jobs of a shell ignore it
    )


def test_a_real_process_loads_bit_identical_logits(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = process("grow", TINY, "--out", str(out), *SHORT)
    _, errors = done.communicate(timeout=100)
    assert done.returncode == 0, errors
    inputs = (torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)),)
    torch.save(load(out)(*inputs).detach(), tmp_path / "logits.pt")
    code = (
        f"import torch; from fxgrow.spec import load; torch.set_num_threads(1)\n"
        f"x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))\n"
        f"raise SystemExit(not torch.equal(load({str(out)!r})(x), torch.load({str(tmp_path / 'logits.pt')!r})))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    assert spec_of(load(out)).history


def test_ctrl_c_in_the_middle_of_a_run(tmp_path: Path) -> None:
    running = process(
        "grow", TINY, "--out", str(tmp_path / "run"), "--epochs", "1000", "--grow-steps", "0"
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".run.*/checkpoint-1")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 130, errors
    assert "interrupted; " in errors and "kept; fxgrow resume" in errors
    assert left(tmp_path) == [".run.unfinished"]


def test_what_may_grow_and_what_grows_alike(fxgrow: Fxgrow, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (
        "tests.cli.models:blocks",
        "--neurons",
        "6",
        "--only",
        "[ab].0",
        "--tie",
        "[ab].0",
        "--out",
        out,
    )
    done = fxgrow("grow", *words, *SHORT)
    assert done.exit_code == 0, done.output
    widths = {change.width: change for change in read_spec(out).history[0].widths}
    assert widths.keys() == {"a.0", "b.0"}
    assert (widths["a.0"].neurons, widths["a.0"].new) == (widths["b.0"].neurons, widths["b.0"].new)
    recipe = read_recipe(out / "recipe.yaml")
    assert recipe.scope.only == ("[ab].0",) and recipe.scope.tie == (("[ab].0",),)


def test_no_epochs_train_nothing(fxgrow: Fxgrow, tmp_path: Path) -> None:
    words = ("--limit", 128, "--epochs", 0, "--grow-steps", 0, "--out", tmp_path / "run")
    done = fxgrow("grow", TINY, *words)
    assert done.exit_code == 2, done.output
    assert "0 epochs train nothing" in done.stderr
    assert not (tmp_path / "run").exists()


RIVALS = ["FastSplitting", "GradMax", "Net2Wider", "TINY", "VarianceTransfer"]


@pytest.mark.parametrize("name", RIVALS)
def test_rivals_of_firefly_by_name(fxgrow: Fxgrow, tmp_path: Path, name: str) -> None:
    """A convolution with a batch norm, max-pooling and a linear layer, on real digits."""
    words = ["--limit", 128, "--epochs", 2, "--grow-steps", 1, "--batch-size", 32, "--neurons", 4]
    done = fxgrow("grow", TINY, "--method", name, "--out", tmp_path / "run", *words)
    assert done.exit_code == 0, done.output
    (step,) = read_spec(tmp_path / "run").history
    assert step.method.name == name
    assert sum(change.after - change.before for change in step.widths) == 4
    (record,) = json.loads((tmp_path / "run/result.json").read_text())["steps"]
    assert record["loss_after"] <= record["loss_before"] * (1 + 1e-5)


def test_how_it_is_trained_stands_in_the_recipe(fxgrow: Fxgrow, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = (
        "--optimizer", "adamw", "--schedule", "step", "--warmup", 0.5, "--label-smoothing", 0.1, "--lr", 0.001,
    )  # fmt: skip
    done = fxgrow("grow", TINY, "--neurons", 0.5, "--out", out, *words, *SHORT)
    assert done.exit_code == 0, done.output
    settings = read_recipe(out / "recipe.yaml").settings
    assert (settings.optimizer, settings.schedule) == (AdamWSettings(), StepRate(warmup=0.5))
    assert (settings.lr, settings.label_smoothing) == (0.001, 0.1)


def test_all_of_training_at_once(fxgrow: Fxgrow, tmp_path: Path) -> None:
    """Each has an option, --set holds over them, and an epoch says how well the average does."""
    out = tmp_path / "run"
    words = (
        "--augment", "flip=0.5", "--augment", "mixup=0.2", "--precision", "bfloat16", "--ema", 0.9,
        "--validation", 0.25, "--early-stop", 0, "--lr", 1e-9, "--set", "settings.epochs=5",
        "--set", "settings.augmentation.flip=0.25",
    )  # fmt: skip
    done = fxgrow("grow", TINY, "--neurons", 4, "--out", out, *SHORT, *words)
    assert done.exit_code == 0, done.output
    assert "averaged weights" in done.output and "stopped early" in done.output
    settings = read_recipe(out / "recipe.yaml").settings
    assert settings.augmentation == Augmentation(flip=0.25, mixup=0.2)
    assert (settings.ema, settings.early_stop) == (MovingAverage(decay=0.9), EarlyStop(patience=0))
    assert (settings.precision, settings.compile, settings.epochs) == ("bfloat16", None, 5)
    result = read_result(out)
    assert result.epochs is not None and result.epochs < 5


def test_a_trigger_and_its_settings_stand_in_the_recipe(fxgrow: Fxgrow, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("--grow-when", "AtEpochs?epochs=1", "--validation", 0.1, "--grow-steps", 1)
    done = fxgrow("grow", TINY, "--neurons", 0.5, "--out", out, *SHORT, *words)
    assert done.exit_code == 0, done.output
    settings = read_recipe(out / "recipe.yaml").settings
    assert (settings.grow_when, settings.validation) == (AtEpochs(epochs=(1,)), 0.1)
    assert [step["epoch"] for step in json.loads((out / "result.json").read_text())["steps"]] == [1]


@pytest.mark.parametrize(
    ("word", "trigger"),
    [
        ("EqualPhases", EqualPhases()),
        ("AtEpochs?epochs=1,3", AtEpochs(epochs=(1, 3))),
        ("OnPlateau?patience=2&min_delta=0.01&mode=abs", OnPlateau(patience=2, min_delta=0.01, mode="abs")),
    ],
)  # fmt: skip
def test_triggers_as_words(word: str, trigger: object) -> None:
    assert build_trigger(word) == trigger


def test_blocks_beside_neurons(fxgrow: Fxgrow, tmp_path: Path) -> None:
    model = "tests.cli.models:residual?layers=2"
    words = (
        "grow",
        model,
        *SHORT,
        "--grow-steps",
        "1",
        "--ema",
        "0.9",
        "--new",
        "2",
        "--seed",
        "0",
    )
    done = fxgrow(*words, "--parameters", "0.9", "--layers", "block:1=1", "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    recipe = read_recipe(tmp_path / "a" / "recipe.yaml")
    assert recipe.scope.blocks == ("1",) and recipe.budget.layers == 1
    assert "1 block bought beside neurons" in done.output and "+1 block" in done.stdout
    (step,) = read_spec(tmp_path / "a").history
    assert step.num_blocks == 1 and step.widths and step.layers == ()
    assert "the replayed architecture is the saved one" in fxgrow("replay", tmp_path / "a").stdout
    page = tmp_path / "page.html"
    assert fxgrow("report", tmp_path / "a", "--html", page).exit_code == 0
    assert f"{step.blocks[0].new_paths[0]} (new block)" in page.read_text()


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("2", AddedLayers(residual=2, most=2)),
        ("block:layer*", AddedLayers(blocks=("layer*",))),
        ("block:model.layers=3", AddedLayers(blocks=("model.layers",), most=3)),
        ("block:=1", AddedLayers(blocks=("",), most=1)),
    ],
)
def test_layers_as_words(word: str, found: AddedLayers) -> None:
    assert added_layers(word) == found


@pytest.mark.parametrize(
    "word", ["", "-1", "layer3", "layer3=2", "block:a=0", "block:a=", "block:a=x", "1" * 9]
)
def test_wrong_words_for_layers(word: str) -> None:
    with pytest.raises(ArgumentError, match=r"block:model\.layers") as refusal:
        added_layers(word)
    assert refusal.value.code == "bad-setting"
