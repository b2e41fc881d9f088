"""Toy RBF experiment (rbf-a, rbf-b; Wu et al. 2020, Fig. 3): grow a two-layer RBF network from 1 to 10 neurons.

    python tools/experiments/rbf.py --seeds 20 --out docs/results/rbf

Writes ``rbf.json`` and ``rbf.png``. Every ground truth is a seed, and all methods start from the same trained network
of one neuron; each growth adds one neuron by ``fxgrow.grow`` and is followed by the same training. Scratch trains each
size from fresh weights with all the multiplications that Firefly (m' = 20) spent to get there, its search included. A
run that is in the file with the same settings is not done again. Float64, one thread per process.
"""

import argparse
import json
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rbf_network import RBFNetwork, Recipe, Truth
from rbf_picture import draw
from torch.nn import functional as F

import fxgrow
from fxgrow.growth import Budget, Method
from fxgrow.methods import Firefly, RandomGrowth, Splitting, from_scratch

SIZES = range(1, 11)
RECIPE, TRUTH = Recipe(), Truth()
EPS = 0.01
NEW = 20  # m', the new neurons that a growth chooses from: fewer leave bad draws where they are


def firefly(new: int) -> Firefly:
    return Firefly(new=new, eps=EPS, steps=40, refine_steps=20)


METHODS: dict[str, Method] = {
    "random (split)": RandomGrowth(new=0, eps=EPS, draws=3),
    "splitting": Splitting(eps=EPS),
    "firefly (split)": firefly(0),
    "random (split+new)": RandomGrowth(new=NEW, eps=EPS, draws=3),
    "firefly": firefly(NEW),
    "m' = 1": firefly(1),
    "m' = 2": firefly(2),
    "m' = 5": firefly(5),
    "m' = 10": firefly(10),
}
CURVES = (
    "scratch",
    "random (split)",
    "splitting",
    "firefly (split)",
    "random (split+new)",
    "firefly",
)
M_PRIME = {
    "0": "firefly (split)",
    "1": "m' = 1",
    "2": "m' = 2",
    "5": "m' = 5",
    "10": "m' = 10",
    str(NEW): "firefly",
}


def scratch_steps(size: int) -> int:
    """Steps at this size that multiply as often as training and growing by Firefly (m' = 20) up to it.

    A step with k neurons multiplies 2k times (and as often for each gradient), one with all candidates 3k + 2m' times.
    """
    method = firefly(NEW)
    passes = (
        method.steps + method.points + method.refine_steps + 4
    )  # at most 11 forward passes check the descent
    training = sum(RECIPE.steps * 2 * k for k in range(1, size + 1))
    searching = sum(passes * (3 * k + 2 * method.new) for k in range(1, size))
    return round((training + searching) / (2 * size))


def run(job: tuple[str, int]) -> dict[str, Any]:
    """The loss at every size for one method and one ground truth, and what each growth added."""
    name, seed = job
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    x, y = TRUTH.draw(seed)
    if name == "scratch":
        fresh = {size: from_scratch(RBFNetwork(size), seed) for size in SIZES}
        return {
            "losses": [
                RECIPE.train(model, x, y, scratch_steps(size)) for size, model in fresh.items()
            ]
        }
    model = from_scratch(RBFNetwork(1), seed)
    losses, added, seconds = [RECIPE.train(model, x, y)], "", []
    for size in SIZES[1:]:
        growth = fxgrow.grow(
            model,
            [(x, y)],
            F.mse_loss,
            example_inputs=(x[:2],),
            method=METHODS[name],
            budget=Budget(neurons=1),
            seed=1000 * seed + size,
        )
        model = growth.module
        losses.append(RECIPE.train(model, x, y))
        added += "s" if growth.report.widths[0].split else "n"
        seconds.append(growth.report.seconds)
    return {"losses": losses, "added": added, "growth_seconds": statistics.median(seconds)}


def settings() -> dict[str, Any]:
    return {
        "data": asdict(TRUTH),
        "training": asdict(RECIPE),
        "methods": {
            name: {"name": type(m).__name__, **m.model_dump()} for name, m in METHODS.items()
        },
        "scratch_steps": [scratch_steps(size) for size in SIZES],
        "growth": "one neuron a time, on all points",
    }


def reusable(known: dict[str, Any]) -> dict[str, Any]:
    """The runs of an earlier result whose settings are still the same."""
    old, new = known.get("settings", {}), settings()
    if not old or any(old[part] != new[part] for part in ("data", "training", "growth")):
        return {}
    same = {name for name in METHODS if old["methods"].get(name) == new["methods"][name]}
    same |= {"scratch"} if old["scratch_steps"] == new["scratch_steps"] else set()
    return {key: found for key, found in known["runs"].items() if key.rpartition(" ")[0] in same}


def summary(runs: dict[str, Any], seeds: int) -> dict[str, Any]:
    """Mean curves with standard errors, and the figures that decide."""
    losses = {
        name: [runs[f"{name} {seed}"]["losses"] for seed in range(seeds)]
        for name in ("scratch", *METHODS)
    }
    mean = {
        name: [statistics.fmean(column) for column in zip(*rows, strict=True)]
        for name, rows in losses.items()
    }
    error = {
        name: [_error(column) for column in zip(*rows, strict=True)]
        for name, rows in losses.items()
    }
    rivals = [name for name in CURVES if name != "firefly"]
    best = min(mean[name][-1] for name in rivals)
    return {
        "seeds": seeds,
        "curves": {name: mean[name] for name in CURVES},
        "errors": {name: error[name] for name in CURVES},
        "m_prime": {count: mean[name] for count, name in M_PRIME.items()},
        "m_prime_errors": {count: error[name] for count, name in M_PRIME.items()},
        "medians_at_10": {
            name: statistics.median(row[-1] for row in rows) for name, rows in losses.items()
        },
        "reach": {
            "firefly_lowest_at": [
                n for n in SIZES if all(mean["firefly"][n - 1] < mean[r][n - 1] for r in rivals)
            ],
            "firefly_at_10": mean["firefly"][-1],
            "firefly_over_best_rival_at_10": mean["firefly"][-1] / best,
            "least_of_split_only_at_10": min(
                mean[name][-1] for name in rivals if "split)" in name or name == "splitting"
            ),
            "m1_over_m0_at_10": mean["m' = 1"][-1] / mean["firefly (split)"][-1],
            "m5_over_m10_at_10": mean["m' = 5"][-1] / mean["m' = 10"][-1],
        },
    }


def _error(values: tuple[float, ...]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/results/rbf"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "rbf.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    result = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "settings": settings(),
        "runs": reusable(known),
    }
    jobs = [(name, seed) for seed in range(args.seeds) for name in ("scratch", *METHODS)]
    jobs = [(name, seed) for name, seed in jobs if f"{name} {seed}" not in result["runs"]]
    start = time.perf_counter()
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        for (name, seed), found in zip(jobs, pool.map(run, jobs), strict=True):
            result["runs"][f"{name} {seed}"] = found
            _write(path, result)
            print(
                f"{time.perf_counter() - start:5.0f} s  {name:18s} {seed:2d}  {found['losses'][-1]:.2e}",
                flush=True,
            )
    result |= {
        "runs_done": len(jobs),
        "seconds": time.perf_counter() - start,
        "processes": args.processes,
    }
    result |= summary(result["runs"], args.seeds)
    _write(path, result)
    draw(result, args.out / "rbf.png")
    print(json.dumps(result["reach"], indent=1))


def _write(path: Path, result: dict[str, Any]) -> None:
    """JSON with one run or curve a line."""

    def compact(value: Any) -> str:
        return json.dumps(value)

    lines = []
    for key, value in result.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"  {compact(k)}: {compact(v)}" for k, v in value.items())
            lines.append(f" {compact(key)}: {{\n{inner}\n }}")
        else:
            lines.append(f" {compact(key)}: {compact(value)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
