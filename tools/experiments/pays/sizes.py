"""Experiments over sizes (``width``, ``depth``, ``mobile``): options, one process per seed, result, table.

The analysis was written before the runs:

1. A curve is the test accuracy at the end of every size that a run passes, right before it grows again and at its
   end. ``scratch`` is the curve of the reference's structures, each trained from new weights with the FLOPs that the
   reference had spent when it left that size.
2. Per seed and arm, the mean height of the curve over the logarithm of the number of parameters, on the range that all
   arms of that seed reach; likewise over FLOPs. Reported are the differences *reference minus arm* over paired seeds,
   their mean and standard error. The reference is *above* an arm beyond one standard error.
3. The reference against the full network: the best accuracy that it has with at most a tenth of the full network's
   parameters, minus the accuracy of the full network, trained with as many FLOPs as every arm has in all.
4. Capacity: without the final structure from scratch above ``narrow`` the experiment cannot show anything.
5. Learning rates are chosen per arm on the seeds ``Task.tuning_seeds`` by held-out training images, in shorter runs; an
   arm at the edge of the rates is marked. Test images and the seeds of the result choose nothing.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from tools.experiments.pays import data
from tools.experiments.pays.arms import GROWN_ARMS
from tools.experiments.pays.course import scratch_size
from tools.experiments.pays.curves import (
    Estimate,
    areas,
    estimate,
    over_flops,
    over_size,
    paired,
)
from tools.experiments.pays.files import write
from tools.experiments.pays.runs import Settings, part, tuned
from tools.experiments.pays.sizes_picture import draw_sizes
from tools.experiments.pays.task import Task

Runs = dict[str, list[dict[str, Any]]]
"""By arm, the runs of all seeds."""

MOST_OF_FULL = 0.1
"""The share of the full network's parameters that the reference may have when it is compared."""


def command(
    module: str,
    description: str,
    make_task: Callable[[argparse.Namespace], Task],
    epochs: float,
    models: Sequence[str] = (),
) -> None:
    """The command of one experiment.

    Args:
        module: that is run with ``python -m``, for the processes of the seeds.
        description: what it says of itself.
        make_task: the task, from the options.
        epochs: of the widest network, whose FLOPs every run may spend.
        models: the choices of ``--model``, if there is more than one network; the first by default.
    """
    name = module.rpartition(".")[2]
    parser = options(name, description, epochs)
    if models:
        parser.add_argument("--model", choices=models, default=models[0])
    chosen = parser.parse_args()
    data.DATA_ROOT = chosen.data_root
    task = make_task(chosen)
    if chosen.seed is not None:
        run_seed(task, chosen.seed, chosen.parts)
        return
    settings = tuned(task, chosen.parts)  # before the seeds, which would all do it at once
    in_processes(module, chosen.seeds, chosen.jobs)
    runs: Runs = {arm: [] for arm in task.arms}
    for arm, found in runs.items():
        for seed in range(chosen.seeds):
            found.append(part(task, arm, seed, settings, chosen.parts))
    record = {
        "torch": torch.__version__,
        "data": "CIFAR-10, JPEG copy",
        "settings": {"epochs": chosen.epochs, "size": chosen.size, "seeds": chosen.seeds},
        **told(task, settings, runs),
    }
    write(chosen.out / f"{task.name}.json", record)
    (chosen.out / f"{task.name}.md").write_text(markdown(name, record, task.name))
    draw_sizes(record, chosen.out / f"{task.name}.png")


def options(name: str, description: str, epochs: float) -> argparse.ArgumentParser:
    """The options of all these experiments."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=float, default=epochs, help="of the widest network")
    parser.add_argument("--size", type=int, default=16, help="of the images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, help="run only this one, and write no result")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--rate", type=float, help="of all arms, without tuning")
    parser.add_argument("--arms", nargs="*", help="only these; the reference first")
    parser.add_argument("--data-root", type=Path, default=data.DATA_ROOT)
    parser.add_argument("--parts", type=Path, default=Path(f"runs/{name}"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/paper"))
    return parser


def in_processes(module: str, seeds: int, jobs: int) -> None:
    """Run every seed in a process of its own, with the options of this one."""

    def process(seed: int) -> None:
        words = [sys.executable, "-W", "ignore", "-m", module, *sys.argv[1:]]
        subprocess.run([*words, "--seed", str(seed)], check=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(process, range(seeds)))


def run_seed(task: Task, seed: int, parts: Path) -> None:
    """All arms of one seed."""
    settings = tuned(task, parts)
    for arm in task.arms:
        part(task, arm, seed, settings, parts)


def told(task: Task, settings: Settings, runs: Runs) -> dict[str, Any]:
    """What the runs say: every arm, its comparison with the reference, and the full network."""
    reference = task.arms[0]
    curves: dict[str, Sequence[Mapping[str, Any]]] = {
        arm: found for arm, found in runs.items() if arm in GROWN_ARMS
    }
    from_scratch = scratch_curve(runs, reference)
    if from_scratch:
        curves["scratch"] = from_scratch
    by_size, by_flops = areas(curves, over_size), areas(curves, over_flops)
    arms: dict[str, Any] = {}
    for arm, found in runs.items():
        arms[arm] = {
            "rate": settings[arm].rate.best,
            "rate_at_edge": settings[arm].rate.is_at_edge,
            "final_accuracy": estimate([run["stages"][-1]["accuracy"] for run in found])._asdict(),
            "runs": found,
        }
    for arm, along in curves.items():
        over = {"size": by_size, "flops": by_flops}
        for name, heights in over.items():
            arms[arm][f"height_over_{name}"] = heights[arm]
            difference = paired(heights[reference], heights[arm])
            arms[arm][f"reference_above_over_{name}"] = difference._asdict()
        arms[arm]["curve"] = [run["stages"] for run in along]
    return {"reference": reference, "arms": arms, "full": against_full(runs, reference)}


def scratch_curve(runs: Runs, reference: str) -> list[dict[str, Any]]:
    """One run per seed whose stages are the structures from scratch; the first one is the trunk."""
    sizes = {arm: scratch_size(arm) for arm in runs}
    # The final structure, which has no number, is the largest.
    sized = sorted(
        (arm for arm, size in sizes.items() if size is not None),
        key=lambda arm: len(runs) if arm == "scratch" else sizes[arm] or 0,
    )
    if len(sized) < 2:
        return []
    found = []
    for seed, grown in enumerate(runs[reference]):
        stages = [grown["stages"][0]]
        stages += [runs[arm][seed]["stages"][-1] for arm in sized]
        found.append({"stages": stages})
    return found


def against_full(runs: Runs, reference: str) -> dict[str, Any] | None:
    """The reference within a tenth of the full network's parameters; None without that arm."""
    if "full" not in runs:
        return None
    differences, sizes = [], []
    for grown, full in zip(runs[reference], runs["full"], strict=True):
        most = MOST_OF_FULL * full["parameters"]
        small = [one for one in grown["stages"] if one["parameters"] <= most]
        best = max(small, key=lambda one: one["accuracy"])
        differences.append(best["accuracy"] - full["stages"][-1]["accuracy"])
        sizes.append(best["parameters"] / full["parameters"])
    return {
        "parameters": runs["full"][0]["parameters"],
        "difference": estimate(differences)._asdict(),
        "share_of_parameters": sizes,
    }


HEAD = """# {task}: {data}, {size}x{size} pixels, {seeds} seeds

Written by `python -m tools.experiments.{name}` (`make {name}`), which says how; the analysis is in `tools/experiments/pays/sizes.py`.
Every run spends the FLOPs of {epochs:g} epochs of the widest network, its searches among them. *Rate*: chosen on other seeds by
held-out images, ! at the edge of those tried. *Height*: mean accuracy along the curve, as *{reference} minus this arm*, with its
standard error; *above*: beyond one. *Loss*: on held-out images with re-estimated statistics, right before and after growth, the
mean over growths. *Per growth*: processor seconds, and share of the run's FLOPs.

![curves]({task}.png)

| arm | rate | final accuracy % | parameters | height over size | height over FLOPs | loss | per growth |
|---|---|---|---|---|---|---|---|
"""


def markdown(name: str, record: Mapping[str, Any], task: str) -> str:
    """The table of an experiment.

    Args:
        name: of the experiment, as its command has it.
        record: its result.
        task: the name of the files.
    """
    reference = record["reference"]
    head = HEAD.format(
        name=name, task=task, data=record["data"], reference=reference, **record["settings"]
    )
    lines = [head, *(_row(arm, told, reference) for arm, told in record["arms"].items())]
    full = record["full"]
    if full:
        difference = Estimate(**full["difference"])
        share = 100 * max(full["share_of_parameters"])
        lines.append(
            f"\nWith at most {100 * MOST_OF_FULL:.0f} % of the full network's {full['parameters']:,} "
            f"parameters ({share:.1f} % in fact), {reference} is {percent(difference)} % of accuracy from it.\n"
        )
    return "".join(lines)


def _row(arm: str, told: Mapping[str, Any], reference: str) -> str:
    edge = "!" if told["rate_at_edge"] else ""
    heights = []
    for name in ("size", "flops"):
        found = told.get(f"reference_above_over_{name}")
        if found is None or arm == reference:
            heights.append("")
            continue
        difference = Estimate(**found)
        verdict = "above" if difference.is_above else "below" if difference.is_below else "equal"
        heights.append(f"{percent(difference)}, {verdict}")
    growths = [growth for run in told["runs"] for growth in run["growths"]]
    loss = cost = ""
    if growths:
        before = estimate([growth["loss_before"] for growth in growths]).mean
        after = estimate([growth["loss_after"] for growth in growths]).mean
        seconds = estimate([growth["seconds"] for growth in growths]).mean
        shares = [one["flops"] / run["flops"] for run in told["runs"] for one in run["growths"]]
        loss = f"{before:.3f} -> {after:.3f}"
        cost = f"{seconds:.1f} s, {100 * estimate(shares).mean:.1f} %"
    parameters = estimate([run["parameters"] for run in told["runs"]]).mean
    accuracy = percent(Estimate(**told["final_accuracy"]), signed=False)
    return (
        f"| {arm} | {told['rate']}{edge} | {accuracy} | {parameters:,.0f} | {heights[0]} | {heights[1]} "
        f"| {loss} | {cost} |\n"
    )


def percent(found: Estimate, signed: bool = True) -> str:
    """An estimate in percent."""
    mean, error = 100 * found.mean, 100 * found.standard_error
    return f"{mean:+.2f} ± {error:.2f}" if signed else f"{mean:.2f} ± {error:.2f}"
