"""Damages files at random and reads them: each is read as what it says, or refused in a sentence; nothing else.

Saved models, recipes, histories of growth, stopped runs, master networks, genotypes, pictures, CIFAR archives
(``--kind``). Mutant number i of a kind and seed is always the same, whatever else is run: ``--first i --count 1``
repeats it. Times are of the processor, so that other work on the machine does not count.
"""

import argparse
import contextlib
import gc
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.fuzzing.kinds import KINDS, Kind
from tools.fuzzing.recipes import CANARY
from tools.fuzzing.verdicts import FAILURES, SOUND, Verdict

CHUNK = 500
SLOW = 1.0
# A chunk takes some ten seconds on a free core.
PATIENCE = 600
STAGES = ("reading", "check", "weights", "build", "description")
MEMORY = 16 * 2**30
"""That a process may take: what asks for more fails, and the machine goes on."""


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


def run_chunk(kind: Kind, sound: tuple[Any, ...], seed: int, first: int, count: int) -> Tally:
    """Judges the mutants ``first`` to ``first + count``, in a directory of their own."""
    tally = Tally()
    with (
        tempfile.TemporaryDirectory() as directory,
        contextlib.chdir(directory),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        kind.furnish(Path(directory))
        for number in range(first, first + count):
            rng = random.Random(f"{seed}:{number}")
            made = kind.mutate(rng.choice(sound), rng)
            # What was thrown away before is not of this one.
            gc.collect(0)
            start = time.process_time()
            verdict = kind.judge(made, Path(directory))
            took = time.process_time() - start
            _note(tally, number, made, _unless_run(verdict), took)
    return tally


def _unless_run(verdict: Verdict) -> Verdict:
    """The verdict, unless the file that hostile code would make is there."""
    found = Path(CANARY)
    if not found.exists():
        return verdict
    found.rmdir() if found.is_dir() else found.unlink()
    return Verdict("code ran", verdict.what)


def _note(tally: Tally, number: int, made: Any, verdict: Verdict, took: float) -> None:
    outcome, word, stage = verdict
    tally.counts[outcome] += 1
    tally.mutations.update(made.done)
    tally.slowest = max(tally.slowest, (took, number))
    if took > SLOW:
        tally.counts["slow"] += 1
        tally.failures.append(
            {"mutant": number, "outcome": "slow", "what": f"{took:.1f} s", "done": made.done}
        )
    if outcome == "refused":
        tally.codes[word] += 1
        tally.refused_at[stage] += 1
    elif outcome != "loaded":
        tally.failures.append(
            {"mutant": number, "outcome": outcome, "what": word, "stage": stage, "done": made.done}
        )


def _work(name: str, seed: int, first: int, count: int, results: Connection) -> None:
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    kind = KINDS[name]
    sound = kind.bases(seed)
    for start in range(first, first + count, CHUNK):
        results.send((start, None))
        results.send(
            (start, run_chunk(kind, sound, seed, start, min(CHUNK, first + count - start)))
        )


def run(name: str, seed: int, first: int, count: int, processes: int) -> Tally:
    """All mutants, split over processes; one that dies or hangs is counted as a crash and its work goes on after it."""
    tally = Tally()
    share = -(-count // processes)
    jobs = [
        (first + n * share, min(share, count - n * share))
        for n in range(processes)
        if n * share < count
    ]
    context = multiprocessing.get_context("spawn")
    workers = []
    for start, size in jobs:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(name, seed, start, size, theirs), daemon=True)
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
    print(f"{done} judged, {len(tally.failures)} failures", file=sys.stderr)


def report(
    tally: Tally, kind: str, seed: int, first: int, count: int, seconds: float
) -> dict[str, Any]:
    """The result as JSON data; everything under ``must_be_zero`` has to be."""
    judged = sum(tally.counts[name] for name in SOUND + FAILURES)
    return {
        "kind": kind,
        "seed": seed,
        "first": first,
        "count": count,
        "judged": judged,
        "loaded_and_described_again": tally.counts["loaded"],
        "refused": tally.counts["refused"],
        **(
            {"reached": _reached(tally, judged)}
            if any(tally.refused_at[stage] for stage in STAGES)
            else {}
        ),
        "refused_by_code": dict(sorted(tally.codes.items())),
        "mutations": dict(sorted(tally.mutations.items())),
        "must_be_zero": {
            "not judged": count - judged,
            "refused without a path": tally.counts["no path"],
            "code ran": tally.counts["code ran"],
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


def _reached(tally: Tally, judged: int) -> dict[str, int]:
    """How many mutants came to each stage of loading."""
    left, reached = judged, {}
    for stage in STAGES:
        reached[stage] = left
        left -= tally.refused_at[stage]
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kind", choices=KINDS, action="append", help="may be given again (default: all)"
    )
    parser.add_argument("--count", type=int, default=100_000, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results = [_fuzzed(name, given) for name in given.kind or KINDS]
    text = json.dumps(results[0] if len(results) == 1 else results, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")
    sys.exit(any(any(result["must_be_zero"].values()) for result in results))


def _fuzzed(name: str, given: argparse.Namespace) -> dict[str, Any]:
    start = time.monotonic()
    tally = run(name, given.seed, given.first, given.count, given.processes)
    return report(tally, name, given.seed, given.first, given.count, time.monotonic() - start)


if __name__ == "__main__":
    main()
