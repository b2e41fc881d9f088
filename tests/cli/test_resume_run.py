"""Runs that are killed, interrupted, or meet a full disk go on to the bits of one that was not.

Processes are forked, so that torch need not be imported again; they run the real commands.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fxgrow.cli.main import app
from tests.cli.conftest import Fxgrow
from tools.soak import FILES, fork, numbers

TINY = "tests.cli.models:tiny"
TRUST = ("--trust", "tests.cli.models")
SHORT = (
    *("--limit", "64", "--epochs", "3", "--grow-steps", "1", "--method", "ZeroOutgoing"),
    *("--neurons", "3", "--batch-size", "32", "--accept-no-gain"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, never stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = CliRunner().invoke(app, ["grow", TINY, "--out", str(out), *SHORT])
    assert done.exit_code == 0, done.output
    return out


def require_same(out: Path, whole: Path) -> None:
    for name in FILES:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert numbers(out) == numbers(whole)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


Prepare = Callable[[], object]


def forked(words: tuple[object, ...], error: Path, prepare: Prepare = lambda: None) -> int:
    """Run a command in a child of this process; what it says goes to a file."""
    return fork([str(word) for word in words], error, prepare)


def ended(child: int) -> int:
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def wait_for(path: Path, pattern: str) -> None:
    deadline = time.monotonic() + 120
    while not list(path.glob(pattern)):
        assert time.monotonic() < deadline, f"{pattern} never came"
        time.sleep(0.001)


MOMENTS = {
    "before anything is trained": ".run.unfinished/run.json",
    "while the first epoch is kept": ".run.unfinished/checkpoint-1",
    "around the growth": ".run.unfinished/checkpoint-2",
    "at the end": ".run.unfinished/checkpoint-4",
    "while it is published": ".run.*.tmp",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on(fxgrow: Fxgrow, whole: Path, moment: str, tmp_path: Path) -> None:
    out, said = tmp_path / "runs" / "run", tmp_path / "said"
    child = forked(("grow", TINY, "--out", out, *SHORT), said)
    wait_for(tmp_path, f"runs/{MOMENTS[moment]}")
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
    assert not out.exists()
    if moment == "before anything is trained":
        done = fxgrow("grow", TINY, "--out", out, *SHORT)
        assert "was stopped after 0 epochs, and is cleared away" in done.stderr
    else:
        refused = fxgrow("grow", TINY, "--out", out, *SHORT)
        assert refused.exit_code == 2 and "[unfinished-run]" in refused.stderr
        done = fxgrow("resume", out, *TRUST)
    assert done.exit_code == 0, done.output
    require_same(out, whole)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_keeps_what_was_trained(
    fxgrow: Fxgrow, whole: Path, number: int, code: int, word: str, tmp_path: Path
) -> None:
    out, said = tmp_path / "runs" / "run", tmp_path / "said"
    restore = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    child = forked(("grow", TINY, "--out", out, *SHORT), said, restore)
    wait_for(tmp_path, "runs/.run.unfinished/checkpoint-1")
    os.kill(child, number)
    assert ended(child) == code, said.read_text()
    (last,) = [line for line in said.read_text().splitlines() if line.startswith("fxgrow: ")]
    assert last.startswith(f"fxgrow: {word}; ")
    assert last.endswith(f"kept; fxgrow resume {out} --trust tests.cli.models goes on from there")
    assert fxgrow("resume", out, *TRUST).exit_code == 0
    require_same(out, whole)


def test_a_disk_that_is_full(fxgrow: Fxgrow, whole: Path, tmp_path: Path) -> None:
    """From the first epoch on no file may get longer than so many bytes."""
    out, said = tmp_path / "runs" / "run", tmp_path / "said"
    child = forked(("grow", TINY, "--out", out, *SHORT), said)
    wait_for(tmp_path, "runs/.run.unfinished/checkpoint-1")
    resource.prlimit(child, resource.RLIMIT_FSIZE, (900, 900))
    assert ended(child) == 2, said.read_text()
    resource.prlimit(os.getpid(), resource.RLIMIT_FSIZE)
    hidden = tmp_path / "runs" / ".run.unfinished"
    assert not list(hidden.glob("*partial*"))
    done = fxgrow("resume", out, *TRUST)
    assert done.exit_code == 0, done.output
    require_same(out, whole)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_what_a_full_disk_says(fxgrow: Fxgrow, tmp_path: Path) -> None:
    """A file system of its own, which somebody else fills once an epoch is kept."""
    disk, said = tmp_path / "disk", tmp_path / "said"
    disk.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(disk)), check=True)
    try:
        out = disk / "run"
        child = forked(("grow", TINY, "--out", out, *SHORT), said)
        wait_for(disk, ".run.unfinished/checkpoint-1")
        with (disk / "film").open("wb", buffering=0) as film, suppress(OSError):
            while True:
                film.write(bytes(2**16))
        assert ended(child) == 2, said.read_text()
        (last,) = [line for line in said.read_text().splitlines() if line.startswith("fxgrow: ")]
        assert "cannot be written" in last and last.endswith("[unwritable-run]")
        assert f"kept; fxgrow resume {out} --trust tests.cli.models goes on from there" in last
        assert not list(disk.glob("*/*partial*"))
        (disk / "film").unlink()
        assert fxgrow("resume", out, *TRUST).exit_code == 0
        assert [path.name for path in disk.iterdir()] == ["run"]
    finally:
        subprocess.run(("umount", str(disk)), check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_disk_that_can_only_be_read(fxgrow: Fxgrow, whole: Path, tmp_path: Path) -> None:
    """With a stopped run and a finished one on it, which can be read as ever."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=90m", "tmpfs", str(disk)), check=True)
    try:
        out, done = disk / "runs" / "run", disk / "done"
        child = forked(("grow", TINY, "--out", out, *SHORT), tmp_path / "said")
        wait_for(disk, "runs/.run.unfinished/checkpoint-2")
        os.kill(child, signal.SIGKILL)
        ended(child)
        shutil.copytree(whole, done)
        subprocess.run(("mount", "-o", "remount,ro", str(disk)), check=True)
        before = sorted(disk.rglob("*"))
        for words in (
            ("grow", TINY, "--out", disk / "new", *SHORT),
            ("grow", TINY, "--out", done, *SHORT, "--force"),
            ("resume", out, *TRUST),
        ):
            refused = fxgrow(*words)
            assert refused.exit_code == 2 and "epoch" not in refused.output, words
            (said,) = refused.stderr.strip().splitlines()
            assert said.endswith("[unwritable-run]"), said
            assert "Read-only file system" in said or "may not be written to" in said, said
        for reading in ("check", "log", "report", "resume"):
            assert fxgrow(reading, done).exit_code == 0, reading
        assert sorted(disk.rglob("*")) == before
        subprocess.run(("mount", "-o", "remount,rw", str(disk)), check=True)
        assert fxgrow("resume", out, *TRUST).exit_code == 0
        require_same(out, whole)
    finally:
        subprocess.run(("umount", str(disk)), check=True)


_NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be somebody else")
def test_a_directory_that_can_no_longer_be_written(
    fxgrow: Fxgrow, whole: Path, tmp_path: Path
) -> None:
    """Somebody without rights of root makes a run, whose directory is closed after an epoch."""
    with tempfile.TemporaryDirectory() as folder:  # that of pytest is closed to others
        out = Path(folder) / "runs" / "run"
        out.parent.mkdir()
        for path in (Path(folder), out.parent):
            path.chmod(0o777)
        said, hidden = tmp_path / "said", out.parent / ".run.unfinished"
        child = forked(("grow", TINY, "--out", out, *SHORT), said, lambda: os.setuid(_NOBODY))
        wait_for(out.parent, ".run.unfinished/checkpoint-1")
        hidden.chmod(0o555)
        assert ended(child) == 2, said.read_text()
        hidden.chmod(0o755)
        (last,) = [line for line in said.read_text().splitlines() if line.startswith("fxgrow: ")]
        assert "Permission denied" in last and last.endswith("[unwritable-run]")
        assert "kept; fxgrow resume" in last
        assert not list(hidden.glob("*partial*"))
        assert fxgrow("resume", out, *TRUST).exit_code == 0
        require_same(out, whole)


def test_nobody_reads_the_output(fxgrow: Fxgrow, whole: Path, tmp_path: Path) -> None:
    """A pipe whose other end is closed: of the tables at the end, and of the progress."""
    out, said = tmp_path / "a" / "run", tmp_path / "said"

    def close_output() -> None:
        reading, writing = os.pipe()
        os.dup2(writing, 1)
        os.close(reading)

    child = forked(("grow", TINY, "--out", out, *SHORT), said, close_output)
    assert ended(child) == 141
    (last,) = [line for line in said.read_text().splitlines() if line.startswith("fxgrow: ")]
    assert last == f"fxgrow: nobody reads the output any more; the run is complete in {out}"
    require_same(out, whole)


def test_nobody_reads_the_progress_any_more(fxgrow: Fxgrow, whole: Path, tmp_path: Path) -> None:
    """As with ``2>&1 | head``: from the first epoch on the other end of the pipe is closed."""
    out, (reading, writing) = tmp_path / "runs" / "run", os.pipe()

    def into_the_pipe() -> None:
        os.close(reading)
        for descriptor in (1, 2):
            os.dup2(writing, descriptor)

    child = forked(("grow", TINY, "--out", out, *SHORT), tmp_path / "said", into_the_pipe)
    os.close(writing)
    wait_for(tmp_path, "runs/.run.unfinished/checkpoint-1")
    os.close(reading)
    assert ended(child) == 141
    assert not out.exists()
    assert fxgrow("resume", out, *TRUST).exit_code == 0
    require_same(out, whole)


def test_two_runs_into_one_directory(fxgrow: Fxgrow, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "run"
    child = forked(("grow", TINY, "--out", out, *SHORT[2:], "--epochs", "900"), tmp_path / "said")
    wait_for(tmp_path, "runs/.run.unfinished/checkpoint-1")
    before = time.monotonic()
    for words in (("grow", TINY, "--out", out, *SHORT, "--force"), ("resume", out, *TRUST)):
        refused = fxgrow(*words)
        assert refused.exit_code == 2
        assert f"process {child} is making a run in {out}" in refused.stderr
        assert "[run-in-progress]" in refused.stderr
    assert time.monotonic() - before < 5
    os.kill(child, signal.SIGKILL)
    ended(child)
    done = fxgrow("grow", TINY, "--out", out, *SHORT, "--force")
    assert done.exit_code == 0 and "is cleared away" in done.stderr
    assert [path.name for path in out.parent.iterdir()] == ["run"]


def test_force_removes_what_a_run_wrote_and_nothing_else(fxgrow: Fxgrow, tmp_path: Path) -> None:
    hidden = tmp_path / ".run.unfinished"
    hidden.mkdir()
    (hidden / "checkpoint-1").mkdir()
    (hidden / "thesis.txt").write_text("precious")
    done = fxgrow("grow", TINY, "--out", tmp_path / "run", *SHORT, "--force")
    assert done.exit_code == 2 and "'thesis.txt', which no run has written" in done.stderr
    assert (hidden / "thesis.txt").read_text() == "precious" and (hidden / "checkpoint-1").is_dir()


def test_a_finished_run_says_so(fxgrow: Fxgrow, whole: Path, tmp_path: Path) -> None:
    done = fxgrow("resume", whole)
    assert done.exit_code == 0
    assert f"the run in {whole} is finished (3 epochs, 1 growth steps)" in done.stdout
    as_json = fxgrow("resume", whole, "--json")
    assert json.loads(as_json.stdout) == json.loads((whole / "result.json").read_text())
    nothing = fxgrow("resume", tmp_path / "none")
    assert nothing.exit_code == 2 and "[nothing-to-resume]" in nothing.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_killed_after_it_took_its_place_is_finished(
    fxgrow: Fxgrow, whole: Path, tmp_path: Path
) -> None:
    out, hidden = tmp_path / "run", tmp_path / ".run.unfinished"
    for place in (out, hidden):
        shutil.copytree(whole, place)
    for path in hidden.iterdir():
        if path.name not in ("log.jsonl", "recipe.yaml"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = fxgrow("resume", out)
    assert done.exit_code == 0 and "is finished" in done.stdout
    require_same(out, whole)


def test_a_resumed_run_calls_only_factories_that_are_trusted(
    fxgrow: Fxgrow, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "run"
    child = forked(("grow", TINY, "--out", out, *SHORT), tmp_path / "said")
    wait_for(tmp_path, "runs/.run.unfinished/checkpoint-1")
    os.kill(child, signal.SIGKILL)
    ended(child)
    refused = fxgrow("resume", out)
    assert refused.exit_code == 2 and "[untrusted-factory]" in refused.stderr
    assert "kept; fxgrow resume" in refused.stderr
    assert fxgrow("resume", out, *TRUST).exit_code == 0


def test_graphs_of_before_and_after_the_stop(fxgrow: Fxgrow, tmp_path: Path) -> None:
    out, graphs = tmp_path / "runs" / "run", tmp_path / "graphs"
    words = ("grow", TINY, "--out", out, *SHORT, "--dump-graphs", graphs)
    child = forked(words, tmp_path / "said")
    wait_for(tmp_path, "runs/.run.unfinished/checkpoint-2")
    os.kill(child, signal.SIGKILL)
    ended(child)
    assert not graphs.exists()
    # Where graphs go is said in a file, and files may be strangers'.
    refused = fxgrow("resume", out, *TRUST)
    assert refused.exit_code == 2 and "[unnamed-output]" in refused.stderr
    assert not graphs.exists()
    assert fxgrow("resume", out, *TRUST, "--dump-graphs", graphs).exit_code == 0
    assert sorted(path.name for path in graphs.iterdir()) == [
        "step1.emitted.txt",
        "step1.overgrown.txt",
    ]
