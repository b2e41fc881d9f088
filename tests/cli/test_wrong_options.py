"""Every option of every command with wrong values: one sentence or a result, and never a traceback; no option is
ignored without a word."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from fxgrow.cells import genotype_text
from fxgrow.cli.main import app
from tests.wrong_calls import Right

GROW = (
    "grow",
    "tests.cli.models:missing",
    "--epochs",
    "2",
    "--grow-steps",
    "1",
    "--limit",
    "4",
    "--out",
    "new",
)
"""Options and data are looked at before the model is found to be missing."""
NO_GROWTH = ("grow", "tests.cli.models:tiny", "--epochs", "1", "--grow-steps", "0", "--out", "new")

# Right words of every command, that do as little as the command can.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "inspect": ("inspect", "tests.cli.models:tiny"),
    "grow": GROW,
    "deepen": (
        "deepen",
        "tests.cli.models:residual",
        "--blocks",
        "1=1",
        "--out",
        "new",
    ),
    "extend": (
        "extend",
        "tests.cli.models:tiny",
        "--classes",
        "1",
        "--out",
        "new",
    ),
    "expand": (
        "expand",
        "tests.cli.models:tiny",
        "--to",
        "tests.cli.models:tiny?channels=5",
        "--out",
        "new",
    ),
    "run": ("run", "missing.yaml", "--out", "new"),
    "resume": ("resume", "missing"),
    "report": ("report", "missing"),
    "diff": ("diff", "saved", "saved"),
    "log": ("log", "saved"),
    "replay": ("replay", "saved", "--from", "saved"),
    "check": ("check", "saved"),
    "export": ("export", "saved", "--to", "dot", "--out", "new.dot"),
    "schema": ("schema",),
    "methods": ("methods",),
    "cells search": ("cells", "search", "--limit", "1", "--out", "new"),
    "cells derive": ("cells", "derive", "searched"),
    "cells draw": ("cells", "draw", "DARTS_V2", "--out", "new.dot"),
    "cells train": ("cells", "train", "missing.json", "--out", "new"),
    "continual run": ("continual", "run", "--tasks", "3", "--out", "new"),
    "continual show": ("continual", "show", "stream"),
}
WORDS = ("", "x", "-1", "0", "1000000000", "1" * 400, "nan", "1e400", "a" * 5000, "é\u2028", "/")


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in group.commands:
        command = group.load(name)
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


FOUND = dict(commands(typer.main.get_command(app)))
OPTIONS = [
    (name, parameter.opts[0], getattr(parameter, "is_flag", False))
    for name, command in FOUND.items()
    for parameter in command.params
    if parameter.param_type_name == "option" and parameter.opts[0] != "--help"
]


def test_every_command_has_right_words() -> None:
    assert FOUND.keys() == COMMANDS.keys()
    assert len(OPTIONS) > 90


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    right = Right(tmp_path_factory.mktemp("right"))
    for name, made in (("saved", right.saved), ("stream", right.continual_directory)):
        assert made == right.directory / name
    (right.directory / "searched").mkdir()
    shutil.copy(right.search_file, right.directory / "searched" / "search.json")
    (right.directory / "cells.json").write_text(genotype_text(right.genotype))
    return right.directory


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), prog_name="fxgrow")


def require_a_sentence(result: Result) -> None:
    """The command did its work or said in a sentence why not."""
    assert result.exit_code in (0, 2), (result.exit_code, result.output)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(
        result.exception
    )
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("command", "option", "is_flag"), OPTIONS, ids=[f"{row[0]} {row[1]}" for row in OPTIONS]
)
def test_wrong_values_of_options(
    command: str,
    option: str,
    is_flag: bool,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "work").mkdir()
    for name in ("saved", "stream", "searched"):
        shutil.copytree(place / name, tmp_path / "work" / name)
    monkeypatch.chdir(tmp_path / "work")
    base = COMMANDS[command]
    for word in WORDS[:1] if is_flag else WORDS:
        if (command, option, word) == ("schema", "--out", "/"):
            continue  # which writes there, where the tests may
        given = (option,) if is_flag else (option, word)
        require_a_sentence(run(*base, *given))


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_wrong_arguments(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for parameter in FOUND[command].params:
        if parameter.param_type_name == "argument":
            path = command.split()
            for word in WORDS:
                require_a_sentence(
                    run(*path, word, "--out", "new" if "grow" in path else "new.dot")
                )
                require_a_sentence(run(*path, word))


UNUSED = [
    (("grow", "tests.cli.models:tiny", "--out", "new", "--at", "0"), "--at has no effect without --layers"),
    (("grow", "tests.cli.models:residual", "--out", "new", "--layers", "block:1", "--at", "0"), "--at has no effect without --layers"),
    (("grow", "tests.cli.models:tiny", "--out", "new", "--data-root", "."), "digits is read from no directory"),
    (("grow", "tests.cli.models:tiny", "--out", "new", "--lower", "--limit", "8"), "no fused attention"),
    (("inspect", "tests.cli.models:tiny", "--lower"), "no fused attention"),
    (("cells", "search", "--out", "new", "--data", "shapes", "--data-root", "."), "shapes is read from no"),
    (("cells", "search", "--out", "new", "--method", "random", "--grow-every", "2"), "--grow-every is no setting"),
    (("cells", "train", "DARTS_V2", "--out", "new", "--data-root", "."), "digits is read from no directory"),
    (("continual", "run", "--out", "new", "--data-root", "."), "digits is read from no directory"),
    (("diff", "saved", "saved", "--force"), "--force has no effect without --html"),
    (("report", "saved", "--force"), "--force has no effect without --html"),
    (("replay", "saved", "--force"), "--force has no effect without --out"),
    (("schema", "--force"), "--force has no effect without --out"),
    (("cells", "derive", "searched", "--force"), "--force has no effect without --out"),
    (("continual", "show", "stream", "--force"), "--force has no effect without --png"),
    (("export", "saved", "--to", "dot", "--out", "new.dot", "--license", "mit"), "license means nothing to the format dot"),
    (("export", "saved", "--to", "python", "--out", "new.py", "--fixed-batch"), "dynamic_batch means nothing"),
    *[
        ((*NO_GROWTH, option, *value), f"{option} has no effect without a growth step")
        for option, value in {
            "--neurons": ["2"], "--parameters": ["2"], "--multiply-adds": ["2"], "--activation-memory": ["2"],
            "--latency": ["2"], "--per-width": ["2"], "--round-to": ["1"], "--method": ["Firefly"], "--new": ["2"],
            "--layers": ["2"], "--only": ["0"], "--ignore": ["0"], "--tie": ["*"], "--expressible": [], "--eps": ["0.1"],
            "--memory-limit": ["1e9"], "--state": ["reset"], "--grow-when": ["OnPlateau"], "--dump-graphs": ["graphs"],
        }.items()
    ],
]  # fmt: skip


@pytest.mark.parametrize(("words", "sentence"), UNUSED)
def test_what_would_be_ignored_is_said(
    words: tuple[str, ...], sentence: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.output.split())
    assert not (place / "new").exists()


LARGE = [
    ("grow", "tests.cli.models:tiny", "--size", "4096", "--limit", "1"),
    ("grow", "tests.cli.models:tiny", "--data", "shapes", "--limit", "4194304", "--size", "16"),
    ("grow", "tests.cli.models:tiny?width=64", "--limit", "8"),
    ("grow", "torchvision:mobilenet_v2?width_mult=100000", "--limit", "8"),
    ("cells", "search", "--channels", "16000", "--cells", "100", "--limit", "8"),
    ("cells", "search", "--channels", "16", "--size", "256", "--data", "shapes", "--limit", "80"),
    ("cells", "train", "DARTS_V2", "--channels", "16000", "--layers", "500", "--limit", "8"),
    ("continual", "run", "--width", "4096"),
]


TRAINED_WRONGLY = [
    (("--optimizer", "lion"), "--optimizer lion is unknown, so nothing was run; choose one of sgd, adamw"),
    (("--schedule", "linear"), "--schedule linear is unknown, so nothing was run; choose one of constant, cosine, step"),
    (("--grow-when", "OnPlato"), "--grow-when OnPlato is unknown, so nothing was run; choose one of EqualPhases,"),
    (("--grow-when", "OnPlateau?patience=-1"), "--grow-when OnPlateau cannot be used with patience=-1: input should be greater"),
    (("--grow-when", "OnPlateau?min_delta=2"), "--grow-when OnPlateau cannot be used: a loss cannot fall by a share of 1"),
    (("--grow-when", "EveryEpochs?epoch=1"), "--grow-when EveryEpochs cannot be used with epoch=1: extra inputs are not permitted"),
    (("--grow-when", "EveryEpochs?name=AtSteps"), "--grow-when EveryEpochs cannot be used with name=AtSteps"),
    (("--grow-when", "EveryEpochs?epochs"), "the options 'epochs' cannot be read"),
    (("--grow-when", "UntilNoGain"), "UntilNoGain decides by images that are set aside, and there are none"),
    (("--validation", "1"), "--validation 1.0 cannot be used"),
    (("--warmup", "-1"), "--warmup -1.0 cannot be used"),
    (("--warmup", "2"), "a warm-up of 2 epochs leaves nothing of a run of 2"),
    (("--label-smoothing", "1"), "--label-smoothing 1.0 cannot be used"),
    (("--augment", "flop=1"), "--augment flop is unknown, so nothing was run; choose one of flip, crop,"),
    (("--augment", "flip"), "--augment flip has no value; write NAME=VALUE (flip=0.5)"),
    (("--augment", "flip=2"), "--augment cannot be used with flip=2: input should be less than or equal to 1"),
    (("--augment", "magnitude=3"), "--augment cannot be used: a magnitude has no effect without rand_augment"),
    (("--precision", "half"), "--precision half cannot be used: input should be 'float32', 'bfloat16' or 'float16'"),
    (("--ema", "1"), "--ema cannot be used with decay=1.0: input should be less than 1"),
    (("--validation", "1"), "--validation 1.0 cannot be used"),
    (("--early-stop", "-1"), "--early-stop cannot be used with patience=-1"),
    (("--early-stop", "0"), "an early stop decides by images that are set aside"),
    (("--early-stop", "1", "--validation", "0.5"), "an early stop with patience=1 has no effect on a run of 2 epochs"),
    (("--set", "settings.leraning=1"), "recipes have no field 'leraning' there"),
    (("--set", "settings.ema.decai=1"), "did you mean decay?"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "sentence"), TRAINED_WRONGLY)
def test_wrong_settings_of_training_are_named_by_their_option(
    words: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*GROW, *words)
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.output.split())


@pytest.mark.parametrize("words", LARGE, ids=lambda words: " ".join(words))
def test_what_does_not_fit_is_refused_with_the_bytes(
    words: tuple[str, ...], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchvision")
    monkeypatch.chdir(place)
    limit: Callable[..., int] = lambda _=None: 2**24 if "width=64" in words[1] else 2**31  # noqa: E731
    monkeypatch.setattr("fxgrow.memory.available_memory", limit)
    result = run(*words, "--out", "new")
    assert result.exit_code == 2, result.output
    assert "bytes of memory and there are" in " ".join(result.output.split())
    assert not (place / "new").exists()
