"""Every command that writes or reads a path, over one grid of paths: a sentence, at once, and nothing is changed."""

import shutil
import warnings
from collections.abc import Container, Mapping
from pathlib import Path

import pytest

from fxgrow.growth import Budget
from fxgrow.training import Recipe, recipe_text
from tests.cli.conftest import Fxgrow
from tests.cli.path_cases import IMPOSSIBLE, OCCUPIED, UNREADABLE, everything, no_waiting
from tests.cli.test_wrong_options import FOUND
from tests.wrong_calls import Right

ROOT = Path(__file__).parents[2]
# Whoever builds this model before the path was looked at, fails.
BUG = "tests.cli.models:bug"
TINY = "tests.cli.models:tiny"
# And so does whoever loads the data.
NO_DATA = ("--data", "cifar10", "--data-root", "nowhere")
PATH_CODES = {
    "directory-exists", "path-exists", "foreign-directory", "foreign-path", "unsafe-path", "not-a-directory",
    "symlink", "not-a-file", "unwritable", "unwritable-run", "unwritable-export",
    "picture-format",
}  # fmt: skip
"""What is said of a place to write to."""
FORMATS = ("onnx", "pt2", "hub", "python", "dot", "svg", "png")
# The words of every command that writes a path, but for the path, which comes last.
WRITING: Mapping[str, tuple[str, ...]] = {
    "grow --out": ("grow", BUG, "--out"),
    "grow --dump-graphs": ("grow", BUG, "--out", "other", "--dump-graphs"),
    "deepen --out": ("deepen", BUG, "--blocks", "1=1", "--out"),
    "extend --out": ("extend", BUG, "--classes", "1", "--out"),
    "expand --out": ("expand", BUG, "--to", BUG, "--out"),
    "run --out": ("run", "RECIPE", "--trust", "tests.cli.models", "--out"),
    "run --dump-graphs": ("run", "RECIPE", "--trust", "tests.cli.models", "--out", "other", "--dump-graphs"),
    "report --html": ("report", "RUN", "--html"),
    "diff --html": ("diff", "RUN/initial", "RUN", "--html"),
    "replay --out": ("replay", "RUN", "--out"),
    "schema --out": ("schema", "--out"),
    "cells search --out": ("cells", "search", *NO_DATA, "--out"),
    "cells derive --out": ("cells", "derive", "SEARCHED", "--out"),
    "cells draw --out": ("cells", "draw", "DARTS_V2", "--out"),
    "cells train --out": ("cells", "train", "DARTS_V2", *NO_DATA, "--out"),
    "continual run --out": ("continual", "run", *NO_DATA, "--out"),
    "continual show --png": ("continual", "show", "STREAM", "--png"),
    **{f"export --out, {name}": ("export", "RUN", "--to", name, "--out") for name in FORMATS},
}  # fmt: skip
# The words of every command that reads a path, which stands for PATH.
READING: Mapping[str, tuple[str, ...]] = {
    "inspect model": ("inspect", "PATH"),
    "grow model": ("grow", "PATH", "--out", "new"),
    "grow --data-root": ("grow", TINY, "--data", "imagefolder", "--data-root", "PATH", "--out", "new"),
    "deepen model": ("deepen", "PATH", "--blocks", "1=1", "--out", "new"),
    "deepen --weights": ("deepen", TINY, "--blocks", "1=1", "--weights", "PATH", "--out", "new"),
    "deepen --data-root": (
        "deepen", TINY, "--blocks", "1=1", "--where", "gain", "--data", "cifar10", "--data-root", "PATH", "--out", "new",
    ),
    "extend model": ("extend", "PATH", "--classes", "1", "--out", "new"),
    "extend --weights": ("extend", TINY, "--classes", "1", "--weights", "PATH", "--out", "new"),
    "expand model": ("expand", "PATH", "--to", TINY, "--out", "new"),
    "expand --to": ("expand", TINY, "--to", "PATH", "--out", "new"),
    "expand --weights": ("expand", TINY, "--to", TINY, "--weights", "PATH", "--out", "new"),
    "run recipe": ("run", "PATH", "--out", "new"),
    "run --data-root": ("run", "RECIPE", "--data-root", "PATH", "--out", "new"),
    "resume directory": ("resume", "PATH"),
    "report directory": ("report", "PATH"),
    "diff a": ("diff", "PATH", "RUN"),
    "diff b": ("diff", "RUN", "PATH"),
    "log directory": ("log", "PATH"),
    "replay directory": ("replay", "PATH"),
    "replay --from": ("replay", "RUN", "--from", "PATH"),
    "check path": ("check", "PATH"),
    "export directory": ("export", "PATH", "--to", "dot", "--out", "new.dot"),
    "cells search --data-root": ("cells", "search", "--data", "cifar10", "--data-root", "PATH", "--out", "new"),
    "cells derive directory": ("cells", "derive", "PATH"),
    "cells draw genotype": ("cells", "draw", "PATH", "--out", "new.dot"),
    "cells train genotype": ("cells", "train", "PATH", "--out", "new"),
    "cells train --data-root": (
        "cells", "train", "DARTS_V2", "--data", "cifar10", "--data-root", "PATH", "--out", "new",
    ),
    "continual run --data-root": ("continual", "run", "--data", "cifar10", "--data-root", "PATH", "--out", "new"),
    "continual show directory": ("continual", "show", "PATH"),
}  # fmt: skip


# Of a stopped run, by the same function as that of grow: tests/attacks/test_stopped_runs.py.
ELSEWHERE = {"resume --dump-graphs"}
REFERENCES = ("MODEL", "GENOTYPE")
"""Texts that may be paths."""


def paths_of_commands() -> set[str]:
    """Every option and argument that is a path, or may be one."""
    found = set()
    for command_name, command in FOUND.items():
        for parameter in command.params:
            is_path = parameter.type_descriptor.annotation is Path
            if is_path or parameter.metavar in REFERENCES:
                is_option = parameter.param_type_name == "option"
                found.add(f"{command_name} {parameter.opts[0] if is_option else parameter.name}")
    return found


def test_every_path_has_a_row() -> None:
    written = {name.partition(",")[0] for name in WRITING}
    assert paths_of_commands() - ELSEWHERE == written | READING.keys()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, grown: Path) -> Mapping[str, str]:
    """What commands read while they are told where to write."""
    right = Right(tmp_path_factory.mktemp("right"))
    searched = right.directory / "searched"
    searched.mkdir()
    shutil.copy(right.search_file, searched / "search.json")
    recipe = Recipe(schema_version=2, model=BUG, budget=Budget(neurons=1))
    (right.directory / "bug.yaml").write_text(recipe_text(recipe))
    return {
        "RUN": str(grown),
        "RUN/initial": str(grown / "initial"),
        "RECIPE": str(right.directory / "bug.yaml"),
        "SEARCHED": str(searched),
        "STREAM": str(right.continual_directory),
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, and a home that is none of its parents."""
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


class AnyCode:
    """Holds every code."""

    def __contains__(self, code: object) -> bool:
        return code != ""


def complaint(fxgrow: Fxgrow, words: tuple[str, ...], codes: Container[str] = AnyCode()) -> str:
    """What is wrong with a refusal; "" if it is one sentence with one of the codes."""
    try:
        with no_waiting(), warnings.catch_warnings():
            warnings.simplefilter("error")
            done = fxgrow(*words)
    except TimeoutError as error:
        return str(error)
    if done.exit_code != 2 or not isinstance(done.exception, SystemExit):
        return f"exit code {done.exit_code}, {done.exception!r:.300}"
    lines = done.stderr.rstrip().splitlines()
    code = lines[-1].rpartition("[")[2].removesuffix("]") if lines else ""
    if len(lines) != 1 or not lines[0].endswith("]") or code not in codes:
        return f"{len(lines)} lines: {done.stderr!r:.300}"
    return ""


# Its files are written beside whatever lies in the directory; and links above them are followed.
WELCOME = {
    ("schema --out", kind)
    for kind in (
        "a directory",
        "a linked directory",
        "a dangling link",
        "nothing",
        "here",
        "above",
        "the root",
    )
}
WRITTEN = {**OCCUPIED, **IMPOSSIBLE}


@pytest.mark.parametrize("name", WRITING)
def test_where_nothing_can_be_written(
    name: str, sound: Mapping[str, str], here: Path, fxgrow: Fxgrow
) -> None:
    words = tuple(sound.get(word, word) for word in WRITING[name])
    failures = []
    for kind, make in WRITTEN.items():
        if (name, kind) in WELCOME:
            continue
        place = here / kind.replace(" ", "-")
        place.mkdir()
        target = make(place)
        before = everything(here.parent)
        for force in ((), ("--force",)):
            # Only the kernel knows that nothing can be made there, and only when it is tried.
            codes = AnyCode() if kind == "in the kernel's" else PATH_CODES
            said = complaint(fxgrow, (*words, target, *force), codes)
            if said:
                failures.append(f"{kind} {force}: {said}")
        if everything(here.parent) != before:
            failures.append(f"{kind}: something was changed")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("name", READING)
def test_where_nothing_can_be_read(
    name: str, sound: Mapping[str, str], here: Path, fxgrow: Fxgrow
) -> None:
    failures = []
    for kind, make in UNREADABLE.items():
        place = here / kind.replace(" ", "-")
        place.mkdir()
        target = make(place)
        words = (sound.get(word, target if word == "PATH" else word) for word in READING[name])
        before = everything(here.parent)
        said = complaint(fxgrow, tuple(words))
        if said:
            failures.append(f"{kind}: {said}")
        if everything(here.parent) != before:
            failures.append(f"{kind}: something was changed")
    assert not failures, "\n".join(failures)
