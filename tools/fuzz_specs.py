"""Damages saved models at random and loads them: each loads to what its fingerprint says, or gives a SpecError.

Mutant number i of a seed is always the same, whatever else is run: ``--first i --count 1`` repeats it. Times are of the
processor, so that other work on the machine does not count.
"""

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from fxgrow.errors import SpecError
from fxgrow.spec import load, spec_of
from fxgrow.spec.build import fingerprint_of
from tools.fuzzing.bases import Base, bases
from tools.fuzzing.mutations import Mutant, mutant

CHUNK = 500
SLOW = 1.0
# A chunk takes some ten seconds on a free core.
PATIENCE = 600
# Which function of a load raised: the innermost stage last.
STAGES = {"check_faithful": "description", "rebuild": "build", "read": "weights", "check": "check"}


@dataclass
class Tally:
    """What became of some mutants."""

    counts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    refused_at: Counter[str] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)

    def add(self, other: "Tally") -> None:
        """Takes in what another process counted."""
        for name in ("counts", "codes", "refused_at", "mutations"):
            getattr(self, name).update(getattr(other, name))
        self.failures += other.failures
        self.slowest = max(self.slowest, other.slowest)


def stage_of(error: BaseException) -> str:
    """The stage of loading in which an error was raised."""
    names = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
    return next((stage for name, stage in STAGES.items() if name in names), "reading")


def judge(made: Mutant, directory: Path) -> tuple[str, str, str]:
    """``("loaded" | "refused" | a failure, code or message, stage)`` of one mutant."""
    (directory / "config.json").write_bytes(made.config)
    (directory / "model.safetensors").write_bytes(made.weights)
    try:
        model = load(directory)
        spec = spec_of(model)
        same = fingerprint_of(model, spec.inputs) == spec.fingerprint
    except SpecError as error:
        return ("refused" if error.path else "no path"), error.code, stage_of(error)
    except BaseException as error:  # noqa: BLE001  # to find these is what this is for
        return "other exception", f"{type(error).__name__}: {error}"[:300], stage_of(error)
    return ("loaded" if same else "other fingerprint"), "", ""


def run_chunk(sound: tuple[Base, ...], seed: int, first: int, count: int) -> Tally:
    """Judges the mutants ``first`` to ``first + count``."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as directory:
        for number in range(first, first + count):
            rng = random.Random(f"{seed}:{number}")
            base = rng.choice(sound)
            made = mutant(base, rng)
            start = time.process_time()
            outcome, word, stage = judge(made, Path(directory))
            took = time.process_time() - start
            _note(tally, number, made, (outcome, word, stage), took)
    return tally


def _note(tally: Tally, number: int, made: Mutant, verdict: tuple[str, str, str], took: float) -> None:
    outcome, word, stage = verdict
    tally.counts[outcome] += 1
    tally.mutations.update(made.done)
    tally.slowest = max(tally.slowest, (took, number))
    tally.counts["slow"] += took > SLOW
    if outcome == "refused":
        tally.codes[word] += 1
        tally.refused_at[stage] += 1
    elif outcome != "loaded":
        tally.failures.append({"mutant": number, "outcome": outcome, "what": word, "stage": stage, "done": made.done})


def _work(seed: int, first: int, count: int, results: Connection) -> None:
    torch.set_num_threads(1)
    sound = bases(seed)
    for start in range(first, first + count, CHUNK):
        results.send((start, None))
        results.send((start, run_chunk(sound, seed, start, min(CHUNK, first + count - start))))


def run(seed: int, first: int, count: int, processes: int) -> Tally:
    """All mutants, split over processes; one that dies or hangs is counted as a crash and its work goes on after it."""
    tally = Tally()
    share = -(-count // processes)
    jobs = [(first + n * share, min(share, count - n * share)) for n in range(processes) if n * share < count]
    context = multiprocessing.get_context("spawn")
    workers = []
    for start, size in jobs:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(seed, start, size, theirs), daemon=True)
        process.start()
        theirs.close()
        workers.append((process, ours, start + size))
    while workers:
        workers = [w for w in workers if _collect(tally, *w)]
    return tally


def _collect(tally: Tally, process: Any, results: Connection, end: int) -> bool:
    """Takes one message of a worker; False when it is done or dead."""
    current = None
    while results.poll(PATIENCE):
        try:
            current, part = results.recv()
        except EOFError:
            break
        if part is not None:
            tally.add(part)
            _say(tally)
            return bool(current + CHUNK < end)
    process.kill()
    tally.counts["crashed"] += 1
    tally.failures.append({"chunk": current, "outcome": "crashed", "exit": process.exitcode})
    return False


def _say(tally: Tally) -> None:
    done = tally.counts["loaded"] + tally.counts["refused"]
    print(f"{done} judged; failures: {tally.failures}", file=sys.stderr)


def report(tally: Tally, seed: int, first: int, count: int, seconds: float) -> dict[str, Any]:
    """The result as JSON data; everything under ``must_be_zero`` has to be."""
    judged = sum(
        tally.counts[name] for name in ("loaded", "refused", "no path", "other exception", "other fingerprint")
    )
    stages = ("reading", "check", "weights", "build", "description")
    left, reached = judged, {}
    for stage in stages:
        reached[stage] = left
        left -= tally.refused_at[stage]
    return {
        "seed": seed,
        "first": first,
        "count": count,
        "judged": judged,
        "loaded_and_described_again": tally.counts["loaded"],
        "refused": tally.counts["refused"],
        "reached": reached,
        "refused_by_code": dict(sorted(tally.codes.items())),
        "mutations": dict(sorted(tally.mutations.items())),
        "must_be_zero": {
            "not judged": count - judged,
            "refused without a path": tally.counts["no path"],
            "other exceptions": tally.counts["other exception"],
            "loaded to another fingerprint": tally.counts["other fingerprint"],
            "crashes": tally.counts["crashed"],
            f"over {SLOW:g} s": tally.counts["slow"],
        },
        "slowest_load": {"seconds": round(tally.slowest[0], 3), "mutant": tally.slowest[1]},
        "failures": tally.failures[:50],
        "wall_seconds": round(seconds),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    start = time.monotonic()
    tally = run(given.seed, given.first, given.count, given.processes)
    result = report(tally, given.seed, given.first, given.count, time.monotonic() - start)
    text = json.dumps(result, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")
    sys.exit(any(result["must_be_zero"].values()))


if __name__ == "__main__":
    main()
