"""How long one growth step of every method takes on the same network: Figure 4b of the paper, and more rows.

    python -m tools.experiments.step_time --out docs/results/step_time

A VGG-19 with 16 channels for 3x16x16 images (16 convolutions; the last pooling has nothing left to halve), trained
briefly on ``shapes``, gets 30 % more neurons (AutoGrow: one layer). All methods get copies of one network, the same 16
batches of 64 images (8 to search on, 4 to score on, 4 held out) and one thread, and take turns, round by round; what
is reported is the median over the rounds, and the median of the ratios to Firefly *within* a round, which other load on
the machine disturbs least. A round that is done is read from its file.

The time of NASH is what one chooses for it: here the 8 children of 17 epochs that Elsken et al. 2017 take, where an epoch
is one pass over the batches to search on. FLOPs are counted with ``--flops``, once more.
"""

import argparse
import copy
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow.data import load_data
from fxgrow.growth import Budget, Growth, Method
from fxgrow.methods import (
    NASH,
    AutoGrow,
    FastSplitting,
    Firefly,
    GradMax,
    Net2Wider,
    RandomGrowth,
    Splitting,
    ZeroOutgoing,
)
from tools.bench_growth import Batch, trained
from tools.experiments.pays.files import read, write
from tools.experiments.pays.flops import FlopCounter
from tools.networks import vgg19

SIZE, BATCH, NUM_BATCHES = 16, 64, 16
SEARCHED = NUM_BATCHES // 2
TRAINED = 64
"""Batches that the network was trained on before it grows."""
NASH_EPOCHS = 17
"""Of each child, Elsken et al. 2017, section 5."""

REFERENCE = "firefly"
METHODS: dict[str, Method] = {
    REFERENCE: Firefly(),
    # m' = 50; one pass of step one, three points in step two, and no refinement after it.
    "firefly, the paper's settings": Firefly(new=50, steps=SEARCHED, refine_steps=0),
    "splitting, exact": Splitting(),
    "splitting, fast": FastSplitting(),
    "NASH": NASH(layers=0, steps=NASH_EPOCHS * SEARCHED),
    "GradMax": GradMax(),
    "random": RandomGrowth(),
    "Net2Net": Net2Wider(),
    "zero-outgoing": ZeroOutgoing(),
    "AutoGrow": AutoGrow(),
}

PAPER = {"splitting, exact": 402.83 / 123.78, "NASH": 1378.9 / 123.78}
"""Seconds of splitting and NASH over those of firefly in Figure 4b, by the row that is nearest to them."""


@dataclass(frozen=True)
class Cost:
    """One growth step of one method.

    Args:
        wall: seconds.
        cpu: seconds of the process.
        loss_before: on batches that nothing is decided by, with re-estimated statistics.
        loss_after: likewise, of the grown network.
        parameters: of the grown network.
    """

    wall: float
    cpu: float
    loss_before: float
    loss_after: float
    parameters: int


def grown(model: nn.Module, batches: Sequence[Batch], method: Method, seed: int) -> Growth:
    """One growth step as a user takes it."""
    return fxgrow.grow(
        model,
        batches,
        F.cross_entropy,
        example_inputs=batches[0][0][:2],
        method=method,
        budget=Budget(neurons=0.3),
        seed=seed,
        accept_no_gain=True,
    )


def timed(model: nn.Module, batches: Sequence[Batch], method: Method, seed: int) -> Cost:
    """The cost of one growth step; the model stays as it is."""
    model = copy.deepcopy(model)
    wall, cpu = time.perf_counter(), time.process_time()
    report = grown(model, batches, method, seed).report
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    before, after = report.held_out_before, report.held_out_after
    return Cost(wall, cpu, before or 0.0, after or 0.0, report.params_after)


def flops_of(model: nn.Module, batches: Sequence[Batch], method: Method) -> int:
    """FLOPs of one growth step."""
    with FlopCounter() as counter:
        grown(model, batches, method, seed=0)
    return int(counter.total)


def network(steps: int) -> tuple[nn.Module, list[Batch]]:
    """The network that grows, trained for some steps on other images, and the growth batches."""
    torch.manual_seed(0)
    size = (TRAINED + NUM_BATCHES) * BATCH
    data = load_data("shapes", train_size=size, test_size=10, size=SIZE).train
    batches = list(zip(data.images.split(BATCH), data.labels.split(BATCH), strict=True))
    model = vgg19(16, size=SIZE)
    trained(model, batches[:TRAINED], steps)
    return model, batches[TRAINED:]


def one_round(model: nn.Module, batches: Sequence[Batch], number: int) -> dict[str, Any]:
    """One growth step of every method, one after the other, and a plain training step of the network."""
    costs: dict[str, Any] = {}
    for name, method in METHODS.items():
        costs[name] = asdict(timed(model, batches, method, number))
        print(f"round {number}: {name}, {costs[name]['cpu']:.1f} s", flush=True)
    start = time.process_time()
    trained(copy.deepcopy(model), list(batches), NUM_BATCHES)
    return {"plain_step": (time.process_time() - start) / NUM_BATCHES, "costs": costs}


def ratios(rounds: Sequence[Mapping[str, Any]], name: str, clock: str) -> list[float]:
    """What a method takes over what firefly takes, within each round."""
    return [one["costs"][name][clock] / one["costs"][REFERENCE][clock] for one in rounds]


def summary(rounds: Sequence[Mapping[str, Any]], flops: Mapping[str, int]) -> dict[str, Any]:
    """Per method the medians over the rounds, and the ratios to firefly with their range.

    Args:
        rounds: of ``one_round``.
        flops: of one growth step by method; empty if they were not counted.
    """
    told: dict[str, Any] = {}
    for name in METHODS:
        costs = [one["costs"][name] for one in rounds]
        row: dict[str, Any] = {key: median(cost[key] for cost in costs) for key in costs[0]}
        for clock in ("wall", "cpu"):
            found = ratios(rounds, name, clock)
            row[f"{clock}_ratio"] = median(found)
            row[f"{clock}_ratio_range"] = [min(found), max(found)]
        row["plain_steps"] = median(one["costs"][name]["cpu"] / one["plain_step"] for one in rounds)
        if flops:
            row["flops"], row["flops_ratio"] = flops[name], flops[name] / flops[REFERENCE]
        told[name] = row
    return told


HEAD = """# Time of one growth step

Written by `python -m tools.experiments.step_time` (`make step-time`), which says how it was measured: VGG-19 with 16 channels,
3x16x16 images of `shapes`, batches of 64, one thread, 30 % more neurons, {rounds} rounds in turn. *Ratio*: to firefly within a round,
the median and its range over the rounds. *Plain steps*: processor time over that of one training step of the network that grows.
*Paper*: the same ratio of the seconds in its Figure 4b, on its own machine and code (402.83, 1378.9 and 123.78 s). *Held out*: the
loss on batches that decide nothing, right before and after; methods that keep the function gain nothing at once.

| method | wall s | cpu s | wall ratio | cpu ratio | FLOPs ratio | paper | plain steps | held out |
|---|---|---|---|---|---|---|---|---|
"""


def markdown(record: Mapping[str, Any]) -> str:
    """The table."""
    lines = [HEAD.format(rounds=record["rounds"])]
    for name, row in record["methods"].items():
        spans = []
        for clock in ("wall", "cpu"):
            low, high = row[f"{clock}_ratio_range"]
            spans.append(f"{row[f'{clock}_ratio']:.2f} ({low:.2f} to {high:.2f})")
        counted = f"{row['flops_ratio']:.2f}" if "flops_ratio" in row else ""
        paper = f"{PAPER[name]:.2f}" if name in PAPER else ""
        lines.append(
            f"| {name} | {row['wall']:.2f} | {row['cpu']:.2f} | {spans[0]} | {spans[1]} "
            f"| {counted} | {paper} | {row['plain_steps']:.0f} "
            f"| {row['loss_before']:.3f} -> {row['loss_after']:.3f} |\n"
        )
    return "".join(lines)


def main() -> None:
    """Run the rounds that are missing, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train-steps", type=int, default=5 * TRAINED)
    parser.add_argument("--flops", action="store_true", help="count FLOPs, too: one more round")
    parser.add_argument("--parts", type=Path, default=Path("runs/step_time"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/step_time"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model, batches = network(chosen.train_steps)
    rounds = []
    for number in range(chosen.rounds):
        path = chosen.parts / f"round-{number}.json"
        if not path.exists():
            write(path, one_round(model, batches, number))
        rounds.append(read(path))
    flops: dict[str, int] = {}
    for name, method in METHODS.items() if chosen.flops else ():
        path = chosen.parts / f"flops-{name}.json"
        if not path.exists():
            write(path, {"flops": flops_of(model, batches, method)})
        flops[name] = read(path)["flops"]
    record = {
        "torch": torch.__version__,
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()},
        "rounds": len(rounds),
        "paper_seconds": {"firefly": 123.78, "splitting": 402.83, "NASH": 1378.9},
        "methods": summary(rounds, flops),
        "each_round": rounds,
    }
    write(chosen.out.with_suffix(".json"), record)
    chosen.out.with_suffix(".md").write_text(markdown(record))
    print(markdown(record))


if __name__ == "__main__":
    main()
