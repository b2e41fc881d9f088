"""A master network that grows against other ways to learn task after task: accuracy, size, forgetting, cost.

    python -m tools.experiments.continual --data shapes --out docs/results/continual/shapes-20    # resumable
    python -m tools.experiments.continual --methods firefly individual    # a part; the result is of all that is there
    python -m tools.experiments.continual --data cifar100 --data-root DIR --size 32 --blocks 2 2 3 3 3 --out runs/cl

EXPERIMENTS, rows `cl-10` and `cl-20` (Wu et al. 2020, Fig. 5 and Table 2), scaled down. Those that grow start from a
thin VGG without fully connected layers, the others have a full one; all are trained alike on every task. ``random``
unlocks and adds as many neurons as ``firefly``, drawn at random; ``scratch`` is the network that ``firefly`` ends with
for each task, drawn anew and trained on that task alone, for its epochs and the growing epochs on top. After every task
the state is written, and what a learner says to the test images of every earlier task is compared to the bit.
"""

import argparse
import hashlib
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from fxgrow.continual import MasterSettings, Task, TrainSettings, split_classes
from fxgrow.continual.baselines.common import train_network
from fxgrow.continual.networks import vgg
from fxgrow.continual.registry import STRATEGIES, StrategySetup
from fxgrow.continual.state import eval_outputs
from fxgrow.continual.strategy import Strategy
from fxgrow.data import batches, load_data
from fxgrow.growth import Budget
from fxgrow.methods import from_scratch
from fxgrow.training import accuracy, seeded
from tools.experiments.continual_picture import draw_result

SCRATCH = "scratch"
GROWS = "firefly"


def setup(chosen: argparse.Namespace, task: Task, seed: int) -> StrategySetup:
    """Where every learner starts."""
    with seeded(seed):
        thin, full = (
            vgg(width, task.classes, blocks=chosen.blocks, in_channels=task.train.images.shape[1])
            for width in (chosen.thin, chosen.full)
        )
    train = TrainSettings(epochs=chosen.epochs, batch_size=chosen.batch, lr=chosen.lr)
    settings = MasterSettings(train=train, growth_batches=chosen.growth_batches)
    return StrategySetup(
        thin, full, task.train.images[:1], settings, Budget(parameters=chosen.budget)
    )


def run(
    name: str, chosen: argparse.Namespace, tasks: tuple[Task, ...], seed: int
) -> dict[str, Any]:
    """What a method makes of the stream, from its files as far as it was done before."""
    state, path = (chosen.out / "parts" / f"{name}-{seed}.{kind}" for kind in ("pt", "json"))
    rows: list[dict[str, Any]] = json.loads(path.read_text())["tasks"] if path.exists() else []
    if len(rows) < len(tasks):
        learner = (
            _loaded(state, len(rows)) if rows else STRATEGIES[name](setup(chosen, tasks[0], seed))
        )
        for number in range(len(rows), len(tasks)):
            learnt = learner.learn(tasks[number], seed=1000 * seed + number)
            rows.append(_row(learner, tasks[: number + 1], learnt))
            state.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"done": len(rows), "learner": learner}, state)
            _write(path, {"method": name, "seed": seed, "tasks": rows})
            print(
                name,
                seed,
                number + 1,
                f"{rows[-1]['accuracies'][-1]:.3f}",
                rows[-1]["parameters"],
                flush=True,
            )
        if name == GROWS:
            _write(
                path.with_name(f"{SCRATCH}-{seed}.json"),
                _scratch(learner, chosen, tasks, rows, seed),
            )
        state.unlink()
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def finished(parts: Path, tasks: int) -> list[dict[str, Any]]:
    """All runs that went to the end, by this call or an earlier one, in the order of the table of learners."""
    runs: list[dict[str, Any]] = [
        json.loads(path.read_text()) for path in sorted(parts.glob("*.json"))
    ]
    whole = [one for one in runs if one["method"] == SCRATCH or len(one["tasks"]) == tasks]
    order = [GROWS, SCRATCH, *(name for name in STRATEGIES if name != GROWS)]
    return sorted(whole, key=lambda one: order.index(one["method"]))


def _loaded(state: Path, done: int) -> Strategy:
    """Our own file of a run that was stopped (a pickle: not for files of others)."""
    held = torch.load(state, weights_only=False)
    if held["done"] != done:
        raise SystemExit(f"{state} is of another moment than the JSON beside it; remove both")
    learner: Strategy = held["learner"]
    return learner


def _row(learner: Strategy, seen: tuple[Task, ...], learnt: Any) -> dict[str, Any]:
    """Accuracies on the tasks so far, and a hash of what was said to their test images."""
    networks = {task.name: learner.network(task.name) for task in seen}
    return {
        "accuracies": [accuracy(networks[task.name], batches(task.test, 256)) for task in seen],
        "said": [
            _digest(eval_outputs(networks[task.name], (task.test.images,))[0]) for task in seen
        ],
        "parameters": learner.parameters,
        "growing_epochs": learnt.growing_epochs,
        "seconds": learnt.seconds,
        "cpu_seconds": learnt.cpu_seconds,
        "details": learnt.details,
    }


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def _scratch(
    learner: Strategy,
    chosen: argparse.Namespace,
    tasks: tuple[Task, ...],
    rows: list[dict[str, Any]],
    seed: int,
) -> dict[str, Any]:
    """The final networks drawn anew, each trained on its task alone for as many passes as growing took."""
    found, parameters = [], 0
    for number, (task, row) in enumerate(zip(tasks, rows, strict=True)):
        network = from_scratch(learner.network(task.name), seed=1000 * seed + number)
        epochs = chosen.epochs + round(row["growing_epochs"])
        settings = setup(chosen, task, seed).master.train.model_copy(update={"epochs": epochs})
        train_network(network, task.train, settings, seed=1000 * seed + number)
        found.append(accuracy(network, batches(task.test, 256)))
        parameters += sum(parameter.numel() for parameter in network.parameters())
    return {
        "method": SCRATCH,
        "seed": seed,
        "tasks": [{"accuracies": found, "parameters": parameters}],
    }


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, default=str) + "\n")


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per method: means over seeds, with the standard error of the accuracy."""
    rows = []
    for name in dict.fromkeys(one["method"] for one in runs):
        mine = [one["tasks"] for one in runs if one["method"] == name]
        average = [statistics.mean(tasks[-1]["accuracies"]) for tasks in mine]
        rows.append(
            {
                "method": name,
                "seeds": len(mine),
                "average": statistics.mean(average),
                "standard_error": statistics.stdev(average) / len(average) ** 0.5
                if len(average) > 1
                else None,
                "averages": average,
                "forgetting": statistics.mean(map(forgetting, mine)),
                "same_bits": all(map(same_bits, mine)),
                "parameters": statistics.mean(tasks[-1]["parameters"] for tasks in mine),
                "growing_epochs": statistics.mean(
                    sum(t.get("growing_epochs", 0) for t in tasks) for tasks in mine
                ),
                "cpu_seconds": statistics.mean(
                    sum(t.get("cpu_seconds", 0) for t in tasks) for tasks in mine
                ),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The summary in Markdown."""
    lines = [
        "| method | accuracy after the last task | forgetting | same bits | parameters | growing epochs | CPU s |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        error = f" ± {100 * row['standard_error']:.2f}" if row["standard_error"] is not None else ""
        lines.append(
            f"| {row['method']} | {100 * row['average']:.2f}{error} % ({row['seeds']} seeds) "
            f"| {100 * row['forgetting']:.2f} % | {'yes' if row['same_bits'] else 'no'} | {row['parameters']:,.0f} "
            f"| {row['growing_epochs']:.1f} | {row['cpu_seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def forgetting(tasks: list[dict[str, Any]]) -> float:
    """Mean over the tasks of the best accuracy that they ever had less the last one."""
    last: list[float] = tasks[-1]["accuracies"]
    best: list[float] = [
        max(row["accuracies"][i] for row in tasks if len(row["accuracies"]) > i)
        for i in range(len(last))
    ]
    return statistics.mean(b - now for b, now in zip(best, last, strict=True))


def same_bits(tasks: list[dict[str, Any]]) -> bool:
    """Whether every network says at the end what it said to the test images when its task was learnt."""
    last = tasks[-1].get("said", [])
    return all(row["said"][i] == last[i] for row in tasks for i in range(len(row.get("said", []))))


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/continual/shapes-20"))
    parser.add_argument("--methods", nargs="*", default=list(STRATEGIES))
    parser.add_argument("--blocks", nargs="*", type=int, default=[1, 1, 2])
    parser.add_argument("--lr", type=float, default=0.05)
    for option, value in {
        "seeds": 3, "tasks": 20, "size": 16, "classes": 100, "train": 8000, "test": 4000, "thin": 12, "full": 32,
        "epochs": 15, "batch": 32, "growth-batches": 2, "budget": 20_000,
    }.items():  # fmt: skip
        parser.add_argument(f"--{option}", type=int, default=value)
    chosen = parser.parse_args()
    for seed in range(chosen.seeds):
        data = load_data(
            chosen.data, root=chosen.data_root, seed=seed, size=chosen.size, train_size=chosen.train,
            test_size=chosen.test, classes=chosen.classes if chosen.data == "shapes" else None,
        )  # fmt: skip
        tasks = split_classes(data, chosen.tasks, seed=seed)
        for name in chosen.methods:
            run(name, chosen, tasks, seed)
    runs = finished(chosen.out / "parts", chosen.tasks)
    rows = summary(runs)
    _write(
        chosen.out / "continual.json",
        {"settings": vars(chosen), "torch": torch.__version__, "methods": rows, "runs": runs},
    )
    (chosen.out / "continual.md").write_text(table(rows))
    draw_result(rows, runs, chosen.out / "continual.png")
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
