"""What a search of cells costs by growth and by DARTS, step by step and in turns.

    python -m tools.bench_cells --out docs/results/bench_cells.json

In every round each method trains for a few steps: growth before each of its growth steps, whose time is taken apart,
since steps of a larger template take longer. A whole search of ``--steps`` steps is their sum. Processor seconds of one
thread, medians of the rounds; the ratios are of what one round measured. The settings are those of
``tools.experiments.cells``.
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
from fxgrow.cells.registry import SEARCHES
from fxgrow.data import DataSet, load_data
from fxgrow.methods import Firefly

BATCH = 64
FEW = 3
"""Steps per epoch here."""
STAGE = 3
"""Epochs here from one growth step to the next: one to warm up, one to time, and one that ends in growth."""


def epochs_of(name: str, space: SearchSpace, images: DataSet, **settings: Any) -> list[float]:
    """Processor seconds of every epoch of a search."""
    moments: list[float] = []
    half = len(images) // 2
    train, valid = images.pick(range(half)), images.pick(range(half, len(images)))
    search = SEARCHES[name].model_copy(update=settings)
    search.search(space, train, valid, callback=lambda _: moments.append(time.process_time()))
    return [after - before for before, after in pairwise(moments)]


def one_round(chosen: argparse.Namespace, images: DataSet) -> dict[str, float]:
    """Seconds of a whole search by each method, from a few steps of each."""
    space = SearchSpace(channels=chosen.channels)
    method = Firefly(new=4, steps=4, refine_steps=2, points=1)
    spent = epochs_of(
        "firefly", space, images, epochs=STAGE * chosen.growths, grow_every=STAGE, neurons=chosen.neurons,
        growth_batches=2, method=method,
    )  # fmt: skip
    plain, growing = spent[::STAGE], spent[1::STAGE]  # the first epoch of all is not timed
    step = statistics.mean(plain) / FEW
    growth = sum(growing) - sum(plain)
    darts = {
        name: epochs_of(name, space, images, epochs=2)[0] / FEW
        for name in ("darts-first", "darts-second")
    }
    totals = {"firefly": chosen.steps * step + growth}
    totals |= {name: chosen.steps * seconds for name, seconds in darts.items()}
    return {
        **totals,
        "firefly step": step,
        "all growth steps": growth,
        **{f"{name} step": s for name, s in darts.items()},
    }


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    for name, value in {"rounds": 5, "channels": 8, "size": 16, "steps": 378, "growths": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--neurons", type=float, default=0.45)
    chosen = parser.parse_args()
    images = load_data(
        "shapes", size=chosen.size, channels=3, train_size=2 * FEW * BATCH, test_size=64
    ).train
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
