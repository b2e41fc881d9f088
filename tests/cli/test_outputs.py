"""Every command that writes: what it may not replace, where it may not write, how the new files can be read."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxgrow.cells import GENOTYPES
from fxgrow.cells.genotype import genotype_text
from tests.cli.conftest import SHORT, Fxgrow
from tests.documents.test_atomic import KILL, ROOT

TINY = "tests.cli.models:tiny"
GROW = ("grow", TINY, *SHORT)
SEARCH = (
    "cells",
    "search",
    "--method",
    "random",
    "--limit",
    32,
    "--cells",
    3,
    "--channels",
    2,
    "--nodes",
    2,
)
TRAIN = (
    "cells",
    "train",
    "DARTS_V2",
    "--channels",
    1,
    "--layers",
    3,
    "--epochs",
    1,
    "--limit",
    8,
    "--size",
    8,
)
STREAM = (
    "continual",
    "run",
    "--tasks",
    2,
    "--limit",
    64,
    "--width",
    2,
    "--epochs",
    1,
    "--try-epochs",
    1,
)
FORMATS = ("onnx", "pt2", "hub", "python", "dot", "svg", "png")
# The words of a command but for the path that follows the last one; DIR stands for the directory of a run.
DIRECTORIES = {
    "grow": (*GROW, "--out"),
    "search": (*SEARCH, "--out"),
    "train": (*TRAIN, "--out"),
    "stream": (*STREAM, "--out"),
    "hub": ("export", "DIR", "--to", "hub", "--out"),
    "graphs": (*GROW, "--out", "OTHER", "--dump-graphs"),
    "replay": ("replay", "DIR", "--out"),
    "deepen": ("deepen", "tests.cli.models:residual", "--blocks", "1=1", "--out"),
    "extend": ("extend", TINY, "--classes", "1", "--out"),
    "expand": ("expand", TINY, "--to", f"{TINY}?channels=5", "--out"),
}
FILES = {
    **{name: ("export", "DIR", "--to", name, "--out") for name in FORMATS if name != "hub"},
    "html": ("diff", "DIR/initial", "DIR", "--html"),
    "report": ("report", "DIR", "--html"),
    "draw": ("cells", "draw", "DARTS_V2", "--out"),
}
NO_TARGETS = (".", "", "..", "~", "/", "HOME")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home and a current directory that hold something."""
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(tmp_path / "here")


def said(words: tuple[object, ...], grown: Path, tmp_path: Path, *more: object) -> tuple[str, ...]:
    named = {"OTHER": str(tmp_path / "other"), "HOME": str(tmp_path / "home")}
    put = (str(word).replace("DIR", str(grown)) for word in (*words, *more))
    return tuple(named.get(word, word) for word in put)


def all_of(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in directory.rglob("*")}


@pytest.mark.parametrize("target", NO_TARGETS)
@pytest.mark.parametrize("words", (DIRECTORIES | FILES).values(), ids=DIRECTORIES | FILES)
def test_places_that_no_output_takes(
    words: tuple[object, ...], target: str, fxgrow: Fxgrow, grown: Path, tmp_path: Path
) -> None:
    before = all_of(tmp_path)
    force = () if words[0] == "replay" else ("--force",)
    done = fxgrow(*said(words, grown, tmp_path, target, *force))
    assert done.exit_code == 2, done.output
    assert done.stderr.rstrip().endswith("[unsafe-path]") and done.stderr.count("\n") == 1
    assert all_of(tmp_path) == before


@pytest.mark.parametrize("words", DIRECTORIES.values(), ids=DIRECTORIES)
def test_directories_of_others_are_kept(
    words: tuple[object, ...], fxgrow: Fxgrow, grown: Path, tmp_path: Path
) -> None:
    checkpoint, noted = tmp_path / "checkpoint", tmp_path / "noted"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"architectures": ["BertModel"], "hidden_size": 768}')
    (checkpoint / "train.py").write_text("months = 3")
    shutil.copytree(grown, noted)
    (noted / "notes.txt").write_text("mine")
    before = all_of(tmp_path)
    for target in (checkpoint, noted):
        done = fxgrow(*said(words, grown, tmp_path, target, "--force"))
        assert done.exit_code == 2, done.output
        code = "foreign-path" if "hub" in words else "foreign-directory"
        assert done.stderr.rstrip().endswith(f"[{code}]") and done.stderr.count("\n") == 1
    assert all_of(tmp_path) == before


@pytest.mark.parametrize("words", FILES.values(), ids=FILES)
def test_files_of_others_are_kept(
    words: tuple[object, ...], fxgrow: Fxgrow, grown: Path, tmp_path: Path
) -> None:
    target = tmp_path / "file.svg"
    target.write_text("mine")
    for force, code in (((), "path-exists"), (("--force",), "foreign-path")):
        done = fxgrow(*said(words, grown, tmp_path, target, *force))
        assert done.exit_code == 2 and done.stderr.rstrip().endswith(f"[{code}]")
        assert target.read_text() == "mine"


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


# Not every command with both: some take seconds.
UMASKS = [*(((DIRECTORIES | FILES)[name], 0o022) for name in ("hub", "svg", "html")),
          *((words, 0o027) for words in (DIRECTORIES | FILES).values())]  # fmt: skip


@pytest.mark.parametrize(("words", "umask"), UMASKS, indirect=["umask"])
def test_what_is_written_is_ours_again_and_honours_the_umask(
    words: tuple[object, ...], umask: int, fxgrow: Fxgrow, grown: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.svg"
    for force in ((), ("--force",)):
        done = fxgrow(*said(words, grown, tmp_path, target, *force))
        assert done.exit_code == 0, done.output
    assert not list(tmp_path.glob(".*"))
    for path in (target, *target.rglob("*")):
        wanted = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_genotypes_are_not_overwritten(fxgrow: Fxgrow, grown: Path, tmp_path: Path) -> None:
    target = tmp_path / "cells.json"
    words = ("cells", "derive", tmp_path / "none", "--out", target)
    assert fxgrow(*words).stderr.rstrip().endswith("[missing-file]")
    target.write_text('{"name": "my package"}')
    assert fxgrow(*words).stderr.rstrip().endswith("[path-exists]")
    assert fxgrow(*words, "--force").stderr.rstrip().endswith("[foreign-path]")
    target.write_text(genotype_text(GENOTYPES["DARTS_V2"]))
    assert fxgrow(*words, "--force").stderr.rstrip().endswith("[missing-file]"), (
        "the target is fine"
    )
    assert target.read_text() == genotype_text(GENOTYPES["DARTS_V2"])


def test_graphs_and_run_may_not_overlap(fxgrow: Fxgrow, tmp_path: Path) -> None:
    for out, graphs in (("run", "run"), ("run", "run/graphs"), ("graphs/run", "graphs")):
        done = fxgrow(*GROW, "--out", tmp_path / out, "--dump-graphs", tmp_path / graphs, "--force")
        assert done.exit_code == 2 and done.stderr.rstrip().endswith("[unsafe-path]")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "home"]


READING = {
    "check": ("check", "RUN"),
    "log": ("log", "RUN"),
    "inspect": ("inspect", "RUN"),
    "diff": ("diff", "RUN/initial", "RUN"),
    "replay": ("replay", "RUN"),
    "report": ("report", "RUN"),
    "resume": ("resume", "RUN"),
    "extend": ("extend", "RUN", "--classes", "1", "--out", "FILE"),
    "weights": ("extend", TINY, "--weights", "RUN/initial", "--classes", "1", "--out", "FILE"),
    "export": ("export", "RUN", "--to", "python", "--out", "FILE"),
    "grow": ("grow", "RUN", *SHORT, "--out", "FILE"),
    "grow it again": (*GROW, "--out", "RUN", "--force"),
}


@pytest.fixture(scope="module")
def killed(grown: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a process was killed between the renames that should have replaced ``run``."""
    place = tmp_path_factory.mktemp("killed")
    shutil.copytree(grown, place / "run")
    child = subprocess.run([sys.executable, "-c", KILL, str(place / "run")], cwd=ROOT, check=False)
    assert child.returncode == -signal.SIGKILL and not (place / "run").exists()
    return place


@pytest.mark.parametrize("words", READING.values(), ids=READING)
def test_after_a_kill_every_command_finds_the_run(
    words: tuple[object, ...], fxgrow: Fxgrow, killed: Path, tmp_path: Path
) -> None:
    shutil.copytree(killed, tmp_path / "copy")
    run = str(tmp_path / "copy" / "run")
    done = fxgrow(
        *(str(word).replace("RUN", run).replace("FILE", str(tmp_path / "made")) for word in words)
    )
    assert done.exit_code == 0, done.output
    assert (Path(run) / "initial" / "config.json").exists()


def test_after_a_kill_a_run_is_not_written_over(
    fxgrow: Fxgrow, killed: Path, tmp_path: Path
) -> None:
    shutil.copytree(killed, tmp_path / "copy")
    done = fxgrow(*GROW, "--out", tmp_path / "copy" / "run")
    assert done.stderr.rstrip().endswith("[directory-exists]")
    assert (tmp_path / "copy" / "run" / "result.json").exists()
