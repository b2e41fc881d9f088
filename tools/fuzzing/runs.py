"""Damaged runs that were stopped, or killed while they replaced another: ``fxgrow resume``, ``report`` and ``log`` read
them up to where training would go on."""

import contextlib
import hashlib
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from fxgrow.cli.run_recipe import OutputOptions, continue_run, run_recipe
from fxgrow.report import RunStory, lineage_table, read_story, report_page, run_sentence, run_table
from fxgrow.spec import read_spec
from fxgrow.training import (
    LOGGERS,
    BatchDone,
    Event,
    LoggerEntry,
    LogPlace,
    Recipe,
    read_result,
    stopped_run,
)
from fxgrow.training.events import RunResumed, RunStarted
from tools.fuzzing import recipes
from tools.fuzzing.damage import Damaged, Files, bytes_damaged, values_damaged
from tools.fuzzing.masters import HEADER, tensors_damaged
from tools.fuzzing.verdicts import Verdict, verdict_of

RUN, PLACE = "run", "runs"
UNFINISHED, ASIDE = f".{RUN}.unfinished", f".{RUN}.{'0' * 32}.old"
STOP = "stop"
EPOCHS = 4
SEALED = ("config.json", "state.json", "state.safetensors")
"""What the manifest of a checkpoint has hashes of."""
RECIPE = Recipe.model_validate(
    {
        "schema_version": 2, "model": recipes.MODEL, "data": {"name": "digits", "limit": 20, "size": 8},
        "method": {"name": "ZeroOutgoing"}, "budget": {"neurons": 2},
        "settings": {"epochs": EPOCHS, "grow_steps": 1, "batch_size": 8, "accept_no_gain": True},
    }
)  # fmt: skip


@dataclass(frozen=True)
class DamagedRun(Damaged):
    """The files, what was done, and the command that reads them."""

    command: str


class Reached(Exception):  # noqa: N818 - what is read is read by then
    """Training would begin."""


@contextlib.contextmanager
def _stopping(is_due: Callable[[Event], bool]) -> Iterator[None]:
    """A listener that the run asks for by name ends it."""

    def make(_: LogPlace) -> Callable[[Event], None]:
        def listen(event: Event) -> None:
            if is_due(event):
                raise Reached

        return listen

    loggers = cast("dict[str, LoggerEntry]", LOGGERS)
    loggers[STOP] = LoggerEntry(make)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.suppress(Reached),
        ):
            yield
    finally:
        del loggers[STOP]


def bases(_: int) -> tuple[Files, ...]:
    """A run that was stopped in its last epoch, after a growth step, and a finished one that was moved aside."""
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        recipes.furnish(Path(directory))
        Path(PLACE).mkdir()
        run = Path(PLACE, RUN)
        output = OutputOptions(run, loggers=("csv", STOP))
        with _stopping(lambda event: isinstance(event, BatchDone) and event.epoch == EPOCHS):
            run_recipe(RECIPE, output, trust=recipes.NO_TRUST)
        stopped = _read(Path(PLACE))
        with _stopping(lambda _: False), stopped_run(run) as unfinished:
            if unfinished is None:
                raise FileNotFoundError(f"{run} was not stopped")
            continue_run(unfinished, OutputOptions(run), recipes.NO_TRUST)
        run.rename(run.with_name(ASIDE))
        return stopped, _read(Path(PLACE))


def _read(place: Path) -> Files:
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


def furnish(directory: Path) -> None:
    """What recipes speak of; what is slow once is done: drawing the first charts imports their library."""
    recipes.furnish(directory)
    report_page(RunStory.of(()), RUN)


def mutate(base: Files, rng: random.Random) -> DamagedRun:
    """One file changed that a command reads, or taken away; mostly the hashes are made to fit, as anyone can who knows
    the format."""
    is_stopped = any(name.startswith(UNFINISHED) for name in base)
    command = rng.choice(
        ("resume", "resume", "report") if is_stopped else ("resume", "report", "log")
    )
    name = rng.choice([name for name in sorted(base) if READS[command](name)])
    if rng.random() < 0.05:
        rest = {key: data for key, data in base.items() if key != name}
        return DamagedRun(rest, ("missing",), command)
    data, done = _damaged(name, base[name], rng)
    files = {**base, name: data}
    folder, _, file = name.rpartition("/")
    if file in SEALED and "checkpoint" in folder and rng.random() < 0.9:
        files[f"{folder}/manifest.json"] = _manifest(folder, files)
        done = (*done, "seal")
    return DamagedRun(files, done, command)


def _damaged(name: str, data: bytes, rng: random.Random) -> tuple[bytes, tuple[str, ...]]:
    if rng.random() < 0.3:
        changed, kind = bytes_damaged(data, rng, HEADER if name.endswith(".safetensors") else None)
        return changed, (kind,)
    return BY_SUFFIX.get(Path(name).suffix, _bytes)(data, rng)


def _bytes(data: bytes, rng: random.Random) -> tuple[bytes, tuple[str, ...]]:
    changed, kind = bytes_damaged(data, rng)
    return changed, (kind,)


def _values(data: bytes, rng: random.Random) -> tuple[bytes, tuple[str, ...]]:
    changed, done = values_damaged(json.loads(data), rng)
    return json.dumps(changed).encode(), done


def _line(data: bytes, rng: random.Random) -> tuple[bytes, tuple[str, ...]]:
    lines = data.splitlines()
    number = rng.randrange(len(lines))
    lines[number], done = _values(lines[number], rng)
    return b"\n".join(lines) + b"\n", done


def _recipe(data: bytes, rng: random.Random) -> tuple[bytes, tuple[str, ...]]:
    made = recipes.mutate(data.decode(), rng)
    return made.files[recipes.RECIPE], made.done


BY_SUFFIX: dict[str, Callable[[bytes, random.Random], tuple[bytes, tuple[str, ...]]]] = {
    ".json": _values,
    ".jsonl": _line,
    ".yaml": _recipe,
    ".safetensors": tensors_damaged,
}


def _manifest(folder: str, files: Files) -> bytes:
    hashes = {name: hashlib.sha256(files[f"{folder}/{name}"]).hexdigest() for name in SEALED}
    return json.dumps({"schema_version": 1, "files": hashes}).encode()


def judge(made: DamagedRun, directory: Path) -> Verdict:
    """Whether a command reads a run, up to where it would train, or refuses."""
    place = directory / PLACE
    shutil.rmtree(place, ignore_errors=True)
    for name, data in made.files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    try:
        return verdict_of(lambda: COMMANDS[made.command](place / RUN))
    finally:
        torch.set_num_threads(1)  # the notes of a run say how many


def _report(run: Path) -> bool:
    story = read_story(run)
    run_table(story)
    run_sentence(story)
    return bool(report_page(story, RUN))


def _log(run: Path) -> bool:
    return lineage_table(read_spec(run)).row_count > 0


def _resume(run: Path) -> bool:
    with (
        _stopping(lambda event: isinstance(event, RunResumed | RunStarted)),
        stopped_run(run) as unfinished,
    ):
        if unfinished is None:
            read_result(run)
        else:
            continue_run(unfinished, OutputOptions(run), recipes.NO_TRUST)
    return True


COMMANDS: Mapping[str, Callable[[Path], bool]] = {
    "resume": _resume, "report": _report, "log": _log,
}  # fmt: skip
READS: Mapping[str, Callable[[str], bool]] = {
    "resume": lambda _: True,
    "report": lambda name: name.endswith("/log.jsonl"),
    "log": lambda name: name == f"{ASIDE}/config.json",
}
"""Whether a command looks at a file."""
