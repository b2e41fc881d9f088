"""What a search of cells costs by growth and by DARTS, step by step and in turns.

    python -m tools.bench_cells --out docs/results/bench_cells.json

In every round each method trains for a few steps: growth before and after a growth step, whose time is taken apart.
A whole search of ``--steps`` steps and ``--growths`` growth steps is their sum. Processor seconds of one thread,
medians of the rounds; the ratios are of what one round measured. The settings are those of ``tools.experiments.cells``.
"""

import argparse
import json
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from fxgrow.cells import SearchSpace
from fxgrow.cells.searches import SEARCHES
from fxgrow.data import DataSet, load_data
from fxgrow.methods import Firefly

BATCH = 64
FEW = 4
"""Steps per epoch here."""


def epochs_of(name: str, space: SearchSpace, images: DataSet, **settings: Any) -> list[float]:
    """Processor seconds of every epoch of a search."""
    moments: list[float] = []
    half = len(images) // 2
    train, valid = images.pick(range(half)), images.pick(range(half, len(images)))
    search = SEARCHES[name].model_copy(update=settings)
    search.search(space, train, valid, listen=lambda _: moments.append(time.process_time()))
    return [after - before for before, after in pairwise(moments)]


def one_round(chosen: argparse.Namespace, images: DataSet) -> dict[str, float]:
    """Seconds of a whole search by each method, from a few steps of each."""
    space = SearchSpace(channels=chosen.channels)
    method = Firefly(new=4, steps=4, refine_steps=2, points=1)
    # Four epochs: plain, plain, growth at the end of the third, grown; the first is not timed.
    plain, growing, grown = epochs_of(
        "firefly", space, images, epochs=4, grow_every=3, neurons=0.6, growth_batches=2, method=method
    )
    step = (plain + grown) / 2 / FEW
    growth = growing - plain
    darts = {name: epochs_of(name, space, images, epochs=2)[0] / FEW for name in ("darts-first", "darts-second")}
    totals = {"firefly": chosen.steps * step + chosen.growths * growth}
    totals |= {name: chosen.steps * seconds for name, seconds in darts.items()}
    return {**totals, "firefly step": step, "growth": growth, **{f"{name} step": s for name, s in darts.items()}}


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    for name, value in {"rounds": 5, "channels": 8, "size": 16, "steps": 160, "growths": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    chosen = parser.parse_args()
    images = load_data("shapes", size=chosen.size, channels=3, train_size=2 * FEW * BATCH, test_size=64).train
    rounds = []
    for _ in range(chosen.rounds):
        rounds.append(one_round(chosen, images))
        print({name: round(value, 2) for name, value in rounds[-1].items()}, flush=True)
    median = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    ratios = {
        f"firefly to {name}": statistics.median(one["firefly"] / one[name] for one in rounds)
        for name in ("darts-first", "darts-second")
    }
    record = {
        "settings": vars(chosen),
        "torch": torch.__version__,
        "median": median,
        "ratios": ratios,
        "rounds": rounds,
    }
    print(json.dumps(ratios))
    if chosen.out:
        chosen.out.write_text(json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
