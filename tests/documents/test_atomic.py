"""Outputs appear whole or not at all, never where they would bury something, and a kill hides nothing."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fxgrow.documents.atomic import (
    FILE_OUTPUT,
    RUN_OUTPUT,
    atomic_directory,
    atomic_path,
    recover_directory,
    resolve_target,
)
from fxgrow.documents.recognition import (
    ANY_DIRECTORY,
    begins_with,
    foreign_file,
    foreign_in_directory,
)
from fxgrow.errors import FxgrowError, RecoveryWarning, RunError

ROOT = Path(__file__).parents[2]
OLD = '{"schema_version": 2, "fingerprint": "", "inputs": [], "nodes": [], "cost": {}}'
TEXTS = foreign_file(begins_with(b"ours"))
KILL = """
import os, signal, sys
from pathlib import Path
from fxgrow.documents.atomic import RUN_OUTPUT, atomic_directory
from fxgrow.documents.recognition import ANY_DIRECTORY, foreign_in_directory
rename = Path.rename
def once(self, target):
    rename(self, target)
    if str(target).endswith(".old"):
        os.kill(os.getpid(), signal.SIGKILL)
Path.rename = once
with atomic_directory(sys.argv[1], RUN_OUTPUT, foreign_in_directory(ANY_DIRECTORY), force=True) as staging:
    (staging / "config.json").write_text("new")
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def in_the_home(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", str(path))
    return str(path)


def above_the_home(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", str(path / "home"))
    return str(path)


def here(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(path)
    return "."


def above(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(path)
    return ".."


def by_a_detour(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(path)
    return f"{path / 'sub'}/../../{path.name}"


def through_a_link(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (path.parent / "link").symlink_to(path.parent)
    monkeypatch.chdir(path)
    return str(path.parent / "link" / path.name)


UNSAFE: tuple[Callable[[Path, pytest.MonkeyPatch], str], ...] = (
    in_the_home,
    above_the_home,
    here,
    above,
    by_a_detour,
    through_a_link,
    lambda path, patch: here(path, patch) and "",
    lambda path, patch: here(path, patch) and "sub/..",
    lambda path, patch: "/",
    lambda path, patch: "/proc",
    lambda path, patch: "~",
    lambda path, patch: "~/runs/mine",
)


@pytest.mark.parametrize("make", UNSAFE)
def test_places_that_no_output_takes(
    make: Callable[[Path, pytest.MonkeyPatch], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine" / "sub").mkdir(parents=True)
    target = make(tmp_path / "mine", monkeypatch)
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(RunError) as caught,
        atomic_directory(target, RUN_OUTPUT, foreign_in_directory(ANY_DIRECTORY), force=True),
    ):
        pass
    assert caught.value.code == "unsafe-path"
    assert sorted(tmp_path.rglob("*")) == before


def test_places_below_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_target("run", RUN_OUTPUT) == tmp_path / "run"
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert resolve_target("a/b/..", RUN_OUTPUT) == tmp_path / "a"


def test_words_that_are_no_path(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for target in (f"{tmp_path}/a\0b/c", f"{tmp_path}/{'x' * 300}", tmp_path / "loop" / "run"):
        with pytest.raises(RunError) as caught, atomic_path(target, FILE_OUTPUT, TEXTS):
            pass
        assert caught.value.code == "unwritable-run"


def test_files(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with atomic_path(target, FILE_OUTPUT, TEXTS) as staging:
        staging.write_text("ours 1")
        assert not target.exists()
    for force, code in ((False, "path-exists"), (True, "foreign-path")):
        target.write_text("theirs" if force else "ours 1")
        with (
            pytest.raises(FxgrowError) as caught,
            atomic_path(target, FILE_OUTPUT, TEXTS, force=force),
        ):
            pass
        assert caught.value.code == code
    for old in ("ours 1", ""):
        target.write_text(old)
        with atomic_path(target, FILE_OUTPUT, TEXTS, force=True) as staging:
            staging.write_text("ours 2")
        assert target.read_text() == "ours 2"
    assert names(target.parent) == ["file"]
    with (
        pytest.raises(FxgrowError) as caught,
        atomic_path(tmp_path / "none" / "file", FILE_OUTPUT, TEXTS, parents=False),
    ):
        pass
    assert caught.value.code == "unwritable-run"
    assert names(tmp_path) == ["deep"]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("ours 1")

    def fail() -> None:
        with atomic_path(tmp_path / "file", FILE_OUTPUT, TEXTS, force=True) as staging:
            staging.write_text("ours, half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "ours 1"


def killed(target: Path) -> None:
    """Write a run to ``target``; a child that replaces it is killed between the two renames."""
    target.mkdir(parents=True)
    (target / "config.json").write_text(OLD)
    child = subprocess.run([sys.executable, "-c", KILL, str(target)], cwd=ROOT, check=False)
    assert child.returncode == -signal.SIGKILL
    assert not target.exists()


def test_a_kill_between_the_renames_hides_nothing(tmp_path: Path) -> None:
    killed(tmp_path / "run")
    assert recover_directory(tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_text() == OLD
    assert not recover_directory(tmp_path / "run"), "it is there"
    (left,) = (name for name in names(tmp_path) if name != "run")
    assert left.endswith(".tmp")
    with (
        pytest.warns(RecoveryWarning, match=f"{left} was left by a process that was killed"),
        atomic_directory(
            tmp_path / "run", RUN_OUTPUT, foreign_in_directory(ANY_DIRECTORY), force=True
        ) as staging,
    ):
        (staging / "config.json").write_text("new")
    assert names(tmp_path) == ["run"]
    assert (tmp_path / "run" / "config.json").read_text() == "new"


def test_only_what_nobody_writes_to_is_cleared_away(tmp_path: Path) -> None:
    """Two at a time write the same target, and a third finds what a dead one left."""
    dead, linked = tmp_path / f".run.{'0' * 32}.tmp", tmp_path / f".run.{'1' * 32}.tmp"
    old = tmp_path / f".run.{'2' * 32}.old"
    for path in (dead, old):
        path.mkdir()
        (path / "config.json").write_text(OLD)
    (tmp_path / "run").mkdir()
    linked.symlink_to(old)
    check = foreign_in_directory(ANY_DIRECTORY)
    with (
        pytest.warns(RecoveryWarning) as warned,
        atomic_directory(tmp_path / "run", RUN_OUTPUT, check, force=True) as first,
        atomic_directory(tmp_path / "run", RUN_OUTPUT, check, force=True) as second,
    ):
        assert first.is_dir() and second.is_dir()
    assert [str(one.message).split(" ")[0] for one in warned] == [str(dead), str(old)]
    assert names(tmp_path) == sorted((linked.name, "run"))


def test_what_was_replaced_stays_if_it_holds_more_than_ours(tmp_path: Path) -> None:
    old = tmp_path / f".run.{'2' * 32}.old"
    old.mkdir()
    (old / "thesis.txt").touch()
    (tmp_path / "run").mkdir()
    with atomic_directory(
        tmp_path / "run", RUN_OUTPUT, foreign_in_directory(ANY_DIRECTORY), force=True
    ):
        pass
    assert names(tmp_path) == sorted((old.name, "run"))


def test_links_and_files_are_not_brought_back(tmp_path: Path) -> None:
    (tmp_path / f".a.{'0' * 32}.old").symlink_to(tmp_path)
    (tmp_path / f".b.{'0' * 32}.old").touch()
    assert not recover_directory(tmp_path / "a") and not recover_directory(tmp_path / "b")
    assert not recover_directory(tmp_path / "none" / "run")


def test_a_reader_in_the_middle_of_the_exchange_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename, readers = tmp_path / "run", Path.rename, [None, None]
    target.mkdir()
    (target / "config.json").write_text(OLD)

    def watched(self: Path, to: Path) -> Path:
        done = rename(self, to)
        if str(to).endswith(".old") and readers:
            readers.pop()
            rename(to, self)  # as another process that has found it missing
        return done

    monkeypatch.setattr(Path, "rename", watched)
    with atomic_directory(
        target, RUN_OUTPUT, foreign_in_directory(ANY_DIRECTORY), force=True
    ) as staging:
        (staging / "config.json").write_text("new")
    assert not readers
    assert names(tmp_path) == ["run"] and (target / "config.json").read_text() == "new"


def test_foreign_files_can_be_kept(tmp_path: Path) -> None:
    target = tmp_path / "run"
    (target / "mine").mkdir(parents=True)
    (target / "config.json").write_text(OLD)
    stays = foreign_in_directory(ANY_DIRECTORY, keep_foreign=True)
    with atomic_directory(target, RUN_OUTPUT, stays, force=True, keep_foreign=True) as staging:
        (staging / "config.json").write_text("new")
        (target / "mine" / "late.txt").write_text("x")
    assert names(target) == ["config.json", "mine"] and (target / "mine" / "late.txt").exists()
    assert names(tmp_path) == ["run"]
