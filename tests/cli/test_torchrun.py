"""Commands that torchrun starts in several processes: one writes and prints, one failure ends all.

Processes are forked, with the environment that torchrun gives them, so that torch need not be imported again; one
test runs torchrun itself.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import distributed
from typer.testing import CliRunner

from fxgrow.cli.main import app
from tools.soak import FILES, fork, has_ended

pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(),
    reason="torch was built without gloo",
)
ROOT = Path(__file__).parents[2]
TINY, TRUST = "tests.cli.models:residual", ("--trust", "tests.cli.models")
RECIPE = f"""schema_version: 2
model: {TINY}
data: {{name: digits, limit: 69}}
settings: {{epochs: 4, grow_steps: 1, batch_size: 32, accept_no_gain: true, lr: 0.05}}
method: {{name: ZeroOutgoing}}
budget: {{neurons: 3}}
"""
Word = str | Path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = CliRunner().invoke(app, ["run", str(recipe), "--out", str(out), *TRUST])
    assert done.exit_code == 0, done.output
    return out


def pretend(rank: int, count: int, port: int) -> None:
    """Say in the environment what torchrun says."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }  # fmt: skip


class Started:
    """The processes of one command."""

    def __init__(self, words: tuple[Word, ...], count: int, folder: Path, port: int) -> None:
        self.said = [folder / f"said{rank}" for rank in range(count)]
        self.children = []
        for rank, said in enumerate(self.said):
            prepare = partial(pretend, rank, count, port)
            self.children.append(fork([str(word) for word in words], said, prepare))

    def codes(self) -> list[int]:
        """Wait for all of them, and tell the others to end when one has failed, as torchrun does; the exit codes."""
        codes: dict[int, int] = {}
        end = time.monotonic() + 60
        while len(codes) < len(self.children):
            for child in self.children:
                status = None if child in codes else has_ended(child)
                if status is None:
                    continue
                codes[child] = status
                if status:
                    self.terminate(set(self.children) - codes.keys())
            if time.monotonic() > end:
                for child in self.children:
                    os.kill(child, signal.SIGKILL)
                raise TimeoutError(self.texts())
            time.sleep(0.02)
        return [codes[child] for child in self.children]

    def terminate(self, children: Iterable[int]) -> None:
        for child in children:
            os.kill(child, signal.SIGTERM)

    def texts(self) -> list[str]:
        return [said.read_text() for said in self.said]


@contextmanager
def started(*words: Word, folder: Path, count: int = 2) -> Iterator[Started]:
    """Start a command as torchrun does, whose store outlives the processes."""
    store = distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]  # torch does not say that it has it
    folder.mkdir(exist_ok=True)
    yield Started(words, count, folder, store.port)


def require_close(out: Path, whole: Path) -> None:
    for name in FILES:
        if name.endswith(".safetensors"):
            found, expected = load_file(out / name), load_file(whole / name)
            assert found.keys() == expected.keys()
            for key, tensor in found.items():
                assert float((tensor - expected[key]).abs().max()) <= 1e-5, key
    assert (out / "recipe.yaml").read_bytes() == (whole / "recipe.yaml").read_bytes()
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    # The numbers of files are those of one writer.
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())
    assert len((out / "log.jsonl").read_text().splitlines()) > 0


def test_two_processes_write_one_run(recipe: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "run"
    with started("run", recipe, "--out", out, *TRUST, folder=tmp_path / "said") as run:
        assert run.codes() == [0, 0], run.texts()
    require_close(out, whole)
    first, second = run.texts()
    assert "written to" in first and "epoch 4/4" in first and "Warning" not in first
    assert second == ""


def test_grow_makes_a_recipe_and_runs_it_so(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "run"
    words = (
        *("grow", TINY, "--limit", "69", "--epochs", "4", "--grow-steps", "1", "--lr", "0.05"),
        *("--method", "ZeroOutgoing", "--neurons", "3", "--batch-size", "32", "--accept-no-gain"),
    )
    with started(*words, "--out", out, folder=tmp_path / "said") as run:
        assert run.codes() == [0, 0], run.texts()
    require_close(out, whole)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.001)


@pytest.mark.parametrize(("victim", "moment"), [(0, 3), (1, 1)])
def test_a_killed_one_ends_all_and_the_run_goes_on(
    victim: int, moment: int, recipe: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "run"
    with started("run", recipe, "--out", out, *TRUST, folder=tmp_path / "said") as run:
        wait_for(tmp_path / "runs" / ".run.unfinished" / f"checkpoint-{moment}")
        os.kill(run.children[victim], signal.SIGKILL)
        codes = run.codes()
    # It notices by itself, or is told to end: what comes first.
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] in (2, 143), run.texts()
    sentence = run.texts()[1 - victim].splitlines()[-1]
    assert sentence.startswith(
        ("fxgrow: another process of the group is gone", "fxgrow: terminated")
    )
    resume = f"torchrun --nproc-per-node=2 -m fxgrow resume {out}"
    assert f"kept; {resume} --trust tests.cli.models goes on from there" in sentence
    with started("resume", out, *TRUST, folder=tmp_path / "again", count=2 + victim) as again:
        assert again.codes() == [0] * (2 + victim), again.texts()
    require_close(out, whole)
    assert "".join(again.texts()[1:]) == ""


def test_a_run_of_several_goes_on_alone(recipe: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "run"
    with started("run", recipe, "--out", out, *TRUST, folder=tmp_path / "said") as run:
        wait_for(tmp_path / "runs" / ".run.unfinished" / "checkpoint-2")
        run.terminate(run.children)  # as torchrun does when it is told to end
        assert all(code in (2, 143) for code in run.codes())
    told = [
        line for text in run.texts() for line in text.splitlines() if line.startswith("fxgrow:")
    ]
    assert len(told) == 1 and "goes on from there" in told[0], run.texts()
    done = CliRunner().invoke(app, ["resume", str(out), *TRUST])
    assert done.exit_code == 0, done.output
    require_close(out, whole)


def test_what_is_wrong_is_said_once(recipe: Path, whole: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(RECIPE.replace("batch_size: 32", "batch_size: 1"))
    out = tmp_path / "new"
    cases: dict[str, tuple[Word, ...]] = {
        "missing-file": ("run", tmp_path / "missing.yaml", "--out", out),
        "no-device": ("run", recipe, "--out", out, *TRUST, "--device", "cuda:0"),
        "bad-setting": ("run", small, "--out", out, *TRUST),
        "directory-exists": ("run", recipe, "--out", whole, *TRUST),
        "nothing-to-resume": ("resume", tmp_path / "nothing"),
        "No such option": ("run", recipe, "--out", out, "--oot", "x"),
        "is finished": ("resume", whole),
    }
    for expected, words in cases.items():
        with started(*words, folder=tmp_path / "said") as run:
            codes = run.codes()
        if expected == "is finished":
            assert codes == [0, 0], run.texts()
        else:  # one may be told to end before it finds out by itself
            assert 2 in codes and set(codes) <= {2, 143, -signal.SIGTERM}, run.texts()
        assert "".join(run.texts()).count(expected) == 1, run.texts()
        assert not out.exists() and not list(tmp_path.glob(".*")), expected


def test_torchrun_itself(recipe: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "run"
    words = (
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "-m",
        "fxgrow",
        "run",
        recipe,
        "--out",
        out,
        *TRUST,
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    require_close(out, whole)
    assert done.stdout.count("written to") == 1 and done.stderr.count("epoch 4/4") == 1
    assert "Warning" not in done.stderr
