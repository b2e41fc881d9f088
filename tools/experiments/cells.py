"""Cells by growth against DARTS and random cells: what a search costs, and how good the cells are that it finds.

    python -m tools.experiments.cells --data shapes --seeds 1 2 3 --out docs/results/cells     # hours; resumable
    python -m tools.experiments.cells --methods firefly random        # a part of it; the result is of all parts
    python -m tools.experiments.cells --data cifar10 --data-root DIR --size 32 --out runs/cells

EXPERIMENTS, row `cells` (Wu et al. 2020, Table 1), scaled down: every method searches the same space for the same
number of epochs, on the same half of the training images; DARTS looks at the other half too (the papers train 100
epochs with growth and 50 with DARTS). The cells of every search, and 8 random ones per seed, are stacked to networks of
equal size (the channels whose number of parameters comes closest to ``--parameters``), trained alike from scratch on
all training images, and tested; those of a search ``--repeats`` times, whose mean counts as one cell's accuracy.
Seconds, processor seconds and multiply-adds of the searches are of one machine.
"""

import argparse
import json
import math
import statistics
from itertools import product
from pathlib import Path
from typing import Any

import torch

from fxgrow.cells import Genotype, SearchResult, SearchSpace, evaluation_network, to_text
from fxgrow.cells.baselines import random_genotype
from fxgrow.cells.derive import Derivation
from fxgrow.cells.registry import SEARCHES, derive_again, read_search
from fxgrow.data import Splits, load_data
from fxgrow.growth import Budget
from fxgrow.methods import Firefly
from fxgrow.training import RunSettings, train_and_grow
from tools.experiments.cells_picture import by_cells, draw_result

CONTROL = "random"
RANDOM = 8
METHODS = ("firefly", "darts-first", "darts-second", "weight-sharing", CONTROL)


def searched(name: str, chosen: argparse.Namespace, data: Splits, seed: int) -> SearchResult:
    """A finished search, from its file if it was done before."""
    path = chosen.out / "parts" / f"search-{name}-{seed}{_place(chosen.device)}.json"
    if not path.exists():
        space = SearchSpace(channels=chosen.channels, cells=chosen.cells)
        update = {"epochs": chosen.epochs} | (growth(chosen) if name == "firefly" else {})
        train, valid = (
            data.train.to(chosen.device).pick(range(start, len(data.train), 2)) for start in (0, 1)
        )
        result = SEARCHES[name].model_copy(update=update).search(space, train, valid, seed=seed)
        _write(path, result.model_dump_json(indent=1))
    return read_search(path)


def growth(chosen: argparse.Namespace) -> dict[str, Any]:
    """How the template grows: by the share ``--neurons`` every ``--grow-every`` epochs."""
    method = Firefly(new=4, steps=chosen.steps, refine_steps=chosen.steps // 2, points=1)
    return {
        "grow_every": chosen.grow_every,
        "neurons": chosen.neurons,
        "growth_batches": 2,
        "method": method,
    }


def found(result: SearchResult, chosen: argparse.Namespace) -> Genotype:
    """The cells of a search; those of a search by growth read off as was asked."""
    how = Derivation(
        identity_threshold=chosen.identity_threshold,
        normalize_by_operation=chosen.normalize_by_operation,
    )
    return derive_again(result, how) if result.grown else result.genotype


def evaluated(
    name: str,
    genotype: Genotype,
    chosen: argparse.Namespace,
    data: Splits,
    seed: int,
    repeat: int = 0,
) -> None:
    """Train the network of a genotype from scratch and write what came of it, if that was not done before."""
    again = f"-again{repeat}" if repeat else ""
    path = chosen.out / "parts" / f"train-{name}-{seed}{again}{_place(chosen.train_device)}.json"
    if not path.exists():
        channels = closest(genotype, chosen.parameters, chosen.layers, data.classes)
        start = seed + 100 * repeat
        torch.manual_seed(start)
        model = evaluation_network(genotype, channels, chosen.layers, data.classes).to(
            chosen.train_device
        )
        settings = RunSettings(
            epochs=chosen.train_epochs,
            grow_steps=0,
            lr=0.05,
            batch_size=64,
            weight_decay=3e-4,
            seed=start,
        )
        data = data.to(chosen.train_device)
        run = train_and_grow(
            model,
            data,
            settings,
            example_inputs=(data.train.images[:1],),
            method=Firefly(),
            budget=Budget(neurons=1),
        )
        row = {
            "name": name, "seed": seed, "repeat": repeat, "genotype": to_text(genotype), "channels": channels,
            "parameters": run.after.parameters, "test_accuracy": run.after.test.accuracy,
            "train_loss": run.after.train.loss,
        }  # fmt: skip
        _write(path, json.dumps(row, indent=1))
        print(row, flush=True)


def closest(genotype: Genotype, parameters: int, layers: int, classes: int) -> int:
    """The channels whose network has the number of parameters closest to ``parameters``."""

    def distance(channels: int) -> int:
        with torch.device("meta"):
            network = evaluation_network(genotype, channels, layers, classes)
        return abs(sum(parameter.numel() for parameter in network.parameters()) - parameters)

    return min(range(2, 65), key=distance)


def _place(device: str) -> str:
    """What parts of one device are told by from those of another, in names of files."""
    return "" if device == "cpu" else f"-{device}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def table(record: dict[str, Any]) -> str:
    """What searches cost and how good their cells are, in Markdown."""
    lines = ["| search | runs | CPU s | multiply-adds, G |", "|---|---|---|---|"]
    labels = [f"{one['method']} {one['order'] or ''}".strip() for one in record["searches"]]
    for label in dict.fromkeys(labels):
        mine = [one for one, its in zip(record["searches"], labels, strict=True) if its == label]
        cpu, adds = (
            statistics.mean(one[key] for one in mine) for key in ("cpu_seconds", "multiply_adds")
        )
        lines.append(f"| {label} | {len(mine)} | {cpu:.0f} | {adds / 1e9:.0f} |")
    lines += [
        "",
        "| cells | different | networks | test accuracy | standard error | above random cells | parameters |",
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    found = by_cells(record["networks"])
    accuracies = {
        name: [statistics.mean(one["test_accuracy"] for one in rows) for rows in cells]
        for name, cells in found.items()
    }
    for name, cells in found.items():
        mine, every = accuracies[name], [one for rows in cells for one in rows]
        above = "" if name == CONTROL else _difference(mine, accuracies.get(CONTROL, []))
        size = statistics.mean(one["parameters"] for one in every)
        mean, error = (
            f"{100 * statistics.mean(mine):.2f} %",
            f"{100 * _error(mine):.2f} %" if len(mine) > 1 else "",
        )
        lines.append(
            f"| {name} | {len(cells)} | {len(every)} | {mean} | {error} | {above} | {size:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def _error(values: list[float]) -> float:
    """The standard error of a mean."""
    return statistics.stdev(values) / len(values) ** 0.5


def _difference(mine: list[float], others: list[float]) -> str:
    """How far a mean is above another one, and the standard error of that; nothing where one of them has none."""
    if min(len(mine), len(others)) < 2:
        return ""
    gap, error = (
        statistics.mean(mine) - statistics.mean(others),
        math.hypot(_error(mine), _error(others)),
    )
    return f"{100 * gap:+.2f} ± {100 * error:.2f} %"


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/cells"))
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--control-seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--control-cells", nargs="*", type=int, default=list(range(RANDOM)), help="of every seed"
    )
    parser.add_argument(
        "--normalize-by-operation",
        "--against-average",
        action=argparse.BooleanOptionalAction,
        default=True,
    )
    parser.add_argument("--identity-threshold", "--little", type=float, default=0.3)
    parser.add_argument("--neurons", type=float, default=0.45)
    parser.add_argument("--device", default="cpu", help="of searches")
    parser.add_argument("--train-device", default="cpu", help="of the networks of what was found")
    for name, value in {
        "size": 16, "train": 8000, "test": 2000, "cells": 5, "channels": 8, "epochs": 6, "grow-every": 2,
        "steps": 4, "layers": 5, "parameters": 60_000, "train-epochs": 4, "repeats": 3,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    chosen = parser.parse_args()
    data = load_data(
        chosen.data,
        root=chosen.data_root,
        size=chosen.size,
        channels=3,
        train_size=chosen.train,
        test_size=chosen.test,
    )
    for seed, name in product(chosen.seeds, (name for name in chosen.methods if name != CONTROL)):
        result = searched(name, chosen, data, seed)  # costs that are compared stand side by side
        for repeat in range(chosen.repeats):
            evaluated(name, found(result, chosen), chosen, data, seed, repeat)
    for seed in chosen.control_seeds if CONTROL in chosen.methods else ():
        control(chosen, data, seed)
    parts = chosen.out / "parts"  # all that was ever done there, by this call or an earlier one
    searches = [read_search(path) for path in sorted(parts.glob("search-*.json"))]
    rows = [json.loads(path.read_text()) for path in sorted(parts.glob("train-*.json"))]
    record = summary(chosen, searches, rows)
    _write(chosen.out / "cells.json", json.dumps(record, indent=1, default=str))
    (chosen.out / "cells.md").write_text(table(record))
    draw_result(record, chosen.out / "cells.png")


def control(chosen: argparse.Namespace, data: Splits, seed: int) -> None:
    """Networks of random cells."""
    space, generator = SearchSpace(cells=chosen.cells), torch.Generator().manual_seed(1000 + seed)
    cells = [random_genotype(space, generator) for _ in range(RANDOM)]
    for number in chosen.control_cells:
        evaluated(f"{CONTROL}{number}", cells[number], chosen, data, seed)


def summary(
    chosen: argparse.Namespace, searches: list[SearchResult], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Everything in one record: the settings, costs of searches, channels as they grew, networks."""
    costs = [
        {
            "method": result.method, "order": result.settings.get("order"), "seed": result.seed,
            "seconds": result.seconds, "cpu_seconds": result.cpu_seconds, "multiply_adds": result.multiply_adds,
            "genotype": to_text(found(result, chosen)), "grown": [one.model_dump() for one in result.grown],
        }
        for result in searches
    ]  # fmt: skip
    return {
        "settings": vars(chosen),
        "torch": torch.__version__,
        "searches": costs,
        "networks": rows,
    }


if __name__ == "__main__":
    main()
