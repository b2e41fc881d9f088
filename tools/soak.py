"""Kills runs at random moments, resumes them, and compares how they end with a run that nobody killed.

usage: python tools/soak.py [--kills N] [--seed N] [--out FILE]

A small network learns scikit-learn's digits and grows between the epochs. The process that does so is killed (SIGKILL)
while it trains, grows, writes a checkpoint or publishes the run; then ``fxgrow resume`` goes on in another one, which is
killed in turn. Every run that comes to its end must have the bits of the one that was left alone, and leave no file
behind. Processes are forked from this one, so that they need not import torch again.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import tools.networks  # noqa: E402, F401 - before the forks
from fxgrow.cli.main import app  # noqa: E402

NAME, HIDDEN = "run", ".run.unfinished"
NETWORK = "tools.networks:soaked"
RECIPE = """schema_version: 2
model: {network}
data: {{name: digits, limit: 128}}
settings: {{epochs: 6, grow_steps: 3, batch_size: 32, accept_no_gain: true, lr: 0.05}}
method: {{name: Firefly, settings: {{new: 1, steps: 2}}}}
budget: {{neurons: 3}}
"""
FILES = (
    "config.json",
    "model.safetensors",
    "recipe.yaml",
    "initial/config.json",
    "initial/model.safetensors",
)
TIMES = ("growth_seconds", "epoch_seconds")
TIMES_OF_A_STEP = ("seconds", "trained_steps", "test_loss_trained")


def fork(words: list[str], said: Path, prepare: Callable[[], object] = lambda: None) -> int:
    """Run a command in a child, which prepares itself first; the number of its process."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        prepare()
        # Those of pytest keep what they are given.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        app(words, prog_name="fxgrow")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    finally:
        os._exit(code)


def has_ended(child: int) -> int | None:
    """The exit status of a child; None while it runs."""
    number, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


def is_publishing(place: Path) -> bool:
    """Whether the finished run is on its way to its place."""
    return any(place.glob(f".{NAME}.*.tmp")) or (place / NAME).exists()


def is_writing(place: Path) -> bool:
    """Whether a checkpoint is being written."""
    return (place / HIDDEN / "checkpoint.partial").exists()


def is_undecided(place: Path) -> bool:
    """Whether the last checkpoint lies before a decision to grow: the growth step is what follows."""
    for number in sorted(
        (int(path.name[11:]) for path in (place / HIDDEN).glob("checkpoint-*")), reverse=True
    ):
        try:
            state = json.loads((place / HIDDEN / f"checkpoint-{number}" / "state.json").read_text())
        except (OSError, ValueError):
            return False
        return bool(state["undecided"])
    return False


def is_training(place: Path) -> bool:
    """Whether the next thing is an epoch."""
    is_kept = any((place / HIDDEN).glob("checkpoint-[1-9]*"))
    return is_kept and not is_writing(place) and not is_undecided(place)


# What to wait for, and the seconds within which the process is killed from then on.
MOMENTS: dict[str, tuple[Callable[[Path], bool], float]] = {
    "anywhere": (lambda place: (place / HIDDEN / "checkpoint-0").exists(), 2.0),
    "training": (is_training, 0.03),
    "growing": (is_undecided, 0.5),
    "keeping": (is_writing, 0.005),
    "publishing": (is_publishing, 0.02),
}


def moment_of_death(place: Path) -> str:
    """What a process was doing when it was killed, by what it left."""
    if is_publishing(place):
        return "publishing"
    if is_writing(place):
        return "writing a checkpoint"
    return "growing" if is_undecided(place) else "training"


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    """A result but for times, and for how far training comes in a time."""
    for name in TIMES:
        del result[name]
    for step in result["steps"]:
        for name in TIMES_OF_A_STEP:
            del step[name]
    return result


def numbers(run: Path) -> dict[str, Any]:
    """``result.json`` but for times."""
    return without_times(json.loads((run / "result.json").read_text()))


def is_same(run: Path, whole: Path) -> bool:
    """Whether two runs have the same bits, and neither left anything beside itself."""
    alike = all((run / name).read_bytes() == (whole / name).read_bytes() for name in FILES)
    return (
        alike
        and numbers(run) == numbers(whole)
        and [path.name for path in run.parent.iterdir()] == [NAME]
    )


class Soak:
    """Runs that are killed again and again.

    Args:
        directory: for everything that they write.
        seed: of the moments.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory, self.random = directory, random.Random(seed)
        self.recipe = directory / "recipe.yaml"
        self.recipe.write_text(RECIPE.format(network=NETWORK))
        self.said = directory / "said"
        self.deaths: Counter[str] = Counter()
        self.runs = self.same = 0
        self.most = 0
        trusted = ["--trust", NETWORK.partition(":")[0]]
        self.start = ["run", str(self.recipe), *trusted, "--out"]
        self.resume = ["resume", *trusted]

    def whole(self) -> Path:
        """A run that nobody kills."""
        out = self.directory / "whole" / NAME
        child = fork([*self.start, str(out)], self.said)
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(self.said.read_text())
        return out

    def life(self, whole: Path, kills: int) -> None:
        """One run from its start to its end, killed at most so many times on the way."""
        place = self.directory / f"life-{self.runs}"
        place.mkdir()
        words, died = [*self.start, str(place / NAME)], 0
        while True:
            moment = self.random.choice(list(MOMENTS)) if died < kills else None
            status = self._until(fork(words, self.said), place, moment)
            if status == 0:
                break
            if status != -signal.SIGKILL:
                raise SystemExit(f"it ended with {status}: {self.said.read_text()}")
            died += 1
            self.deaths[moment_of_death(place)] += 1
            print(f"{sum(self.deaths.values())} killed: {moment_of_death(place)}", flush=True)
            is_kept = (place / NAME).exists() or any((place / HIDDEN).glob("checkpoint-[1-9]*"))
            words = [*self.resume, str(place / NAME)] if is_kept else words
        self.runs += 1
        self.most = max(self.most, died)
        self.same += is_same(place / NAME, whole)
        shutil.rmtree(place)

    def _until(self, child: int, place: Path, moment: str | None) -> int:
        """Wait for a moment and kill the child, unless it ends before; its exit status."""
        deadline = None
        while (status := has_ended(child)) is None:
            if moment is not None:
                is_there, seconds = MOMENTS[moment]
                if deadline is None and is_there(place):
                    deadline = time.monotonic() + self.random.uniform(0, seconds)
                if deadline is not None and time.monotonic() >= deadline:
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.0005)
        return status


def main() -> int:
    """Kill, resume and compare; 1 if any run ends otherwise than the one that was left alone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write what was found here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(Path(directory), arguments.seed)
        whole = soak.whole()
        while (left := arguments.kills - sum(soak.deaths.values())) > 0:
            soak.life(whole, left)
    found = {
        "kills": sum(soak.deaths.values()),
        "while": dict(sorted(soak.deaths.items())),
        "runs": soak.runs,
        "runs with the same bits": soak.same,
        "most kills of one run": soak.most,
        "seed": arguments.seed,
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    print(json.dumps(found, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(soak.same != soak.runs)


if __name__ == "__main__":
    sys.exit(main())
