"""How long fxgrow keeps you waiting before it does anything: imports and help, beside ``import torch``.

    python tools/bench_imports.py --out docs/results/bench_imports.json

Every row runs in an interpreter of its own, rows are interleaved, and figures are medians of process CPU seconds
(user and system) over the rounds, with one thread and compiled bytecode, as an installed package has it. Ratios are
taken within a round, so that a machine that is in use changes them little.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """One thing to wait for; ``limit`` in units of ``unit``."""

    name: str
    words: tuple[str, ...]
    limit: float | None = None
    unit: str = "seconds"


@dataclass(frozen=True)
class Figure:
    """What a row took: medians in seconds and in imports of torch, and whether torch was loaded."""

    name: str
    seconds: float
    of_torch: float
    limit: float | None
    unit: str
    torch: bool

    @property
    def within(self) -> bool:
        measured = self.seconds if self.unit == "seconds" else self.of_torch
        return self.limit is None or measured <= self.limit


def program(*words: str) -> tuple[str, ...]:
    return ("-m", "fxgrow.cli", *words)


TORCH = "import torch"
ROWS = (
    Row("python", ("-c", "pass")),
    Row(TORCH, ("-c", TORCH)),
    Row("import fxgrow", ("-c", "import fxgrow"), 1.1, "imports of torch"),
    Row("fxgrow.grow", ("-c", "import fxgrow; fxgrow.grow")),
    Row("all of fxgrow.__all__", ("-c", "from fxgrow import *")),
    Row("fxgrow --help", program("--help"), 0.6),
    Row("fxgrow --version", program("--version"), 0.6),
    Row("fxgrow cells --help", program("cells", "--help"), 0.6),
    Row("fxgrow grow --help", program("grow", "--help")),
    Row("fxgrow check --help", program("check", "--help")),
)


def cpu_seconds(row: Row, environment: Mapping[str, str]) -> float:
    """Process CPU seconds of one interpreter."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    command = [sys.executable, *row.words]
    subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return used() - before


def loads_torch(row: Row, environment: Mapping[str, str]) -> bool:
    """Whether torch is among the modules that the interpreter says it imports."""
    command = [sys.executable, "-X", "importtime", *row.words]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)
    names = (line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines())
    return "torch" in names


def measured(rounds: int, environment: Mapping[str, str]) -> Iterator[Figure]:
    torch_loaded = {row.name: loads_torch(row, environment) for row in ROWS}  # compiles, too
    taken: dict[str, list[float]] = {row.name: [] for row in ROWS}
    for _ in range(rounds):
        for row in ROWS:
            taken[row.name].append(cpu_seconds(row, environment))
    for row in ROWS:
        pairs = zip(taken[row.name], taken[TORCH], strict=True)
        ratio = statistics.median(own / torch for own, torch in pairs)
        seconds = statistics.median(taken[row.name])
        loaded = torch_loaded[row.name]
        yield Figure(row.name, round(seconds, 3), round(ratio, 3), row.limit, row.unit, loaded)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as bytecode:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        environment |= {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        figures = list(measured(arguments.rounds, environment))
    print(f"{'':24} {'seconds':>8} {'/ torch':>8} {'torch':>6}  limit")
    for figure in figures:
        limit = "" if figure.limit is None else f"{figure.limit} {figure.unit}"
        mark = "" if figure.within else "  MISSED"
        loaded = "yes" if figure.torch else "no"
        row = f"{figure.name:24} {figure.seconds:8.2f} {figure.of_torch:8.2f} {loaded:>6}"
        print(f"{row}  {limit}{mark}")
    if arguments.out is not None:
        record = {"rounds": arguments.rounds, "python": platform.python_version()}
        record |= {"machine": platform.machine(), "rows": [asdict(row) for row in figures]}
        arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
