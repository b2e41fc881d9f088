"""What growth does and costs on a GPU: the growth step's benchmark, mixed precision, and torch.compile.

    python -m tools.gpu_checks --out docs/results/gpu.json

The 16-channel VGG-19 of ``bench_growth``, batch 128 of 3x32x32. Steps run in turn (plain, splits only, m' = 50), each
waited for; medians of wall seconds. Then whole growth steps with the search in float32 and under bfloat16 autocast, and
training steps of the grown network as it is and compiled; and torchvision's ResNet-18, grown on the GPU and on the
processor. A check that fails is recorded and the others go on. ``--device cpu`` tries the script without a GPU.

``--only paper`` is the paper's own size in under 12 minutes (``tools/gpu_paper.py``).
"""

import argparse
import copy
import json
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

import fxgrow
from fxgrow import Budget, Firefly, Growth
from fxgrow.data import load_data
from fxgrow.growth.result import GrowthReport
from tools.bench_growth import Batch, grown_step, over_grown, plain_step, trained
from tools.gpu_paper import lines as paper_lines
from tools.gpu_paper import paper
from tools.networks import vgg19

Check = Callable[[nn.Module, list[Batch], argparse.Namespace], Mapping[str, Any]]


def waited(work: Callable[[], Any], device: torch.device) -> float:
    """Wall seconds of ``work`` until the device has done it."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def peak(work: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes that ``work`` allocates at most on top of what there is; None: not known on a processor."""
    if device.type == "cpu":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before


def in_turns(
    works: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device
) -> dict[str, float]:
    """Median wall seconds of each, run in turn after a round that is not timed."""
    for work in works.values():
        work()
    found = [{name: waited(work, device) for name, work in works.items()} for _ in range(rounds)]
    return {name: statistics.median(one[name] for one in found) for name in works}


def step(model: nn.Module, data: list[Batch], chosen: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an over-grown step beside a plain one, and the peaks of allocated memory."""
    x, y = data[0]
    methods = {"splits": Firefly(new=0), "m50": Firefly(new=50)}
    steps = {
        name: grown_step(over_grown(model, x, method), x, y, method)
        for name, method in methods.items()
    }
    steps = {"plain": plain_step(copy.deepcopy(model), x, y), **steps}
    seconds = in_turns(steps, chosen.rounds, x.device)
    memory_limit = {name: peak(one, x.device) for name, one in steps.items()}
    ratios = {name: seconds[name] / seconds["plain"] for name in methods}
    return {"seconds": seconds, "to plain": ratios, "bytes on top": memory_limit}


def grown_by(model: nn.Module, data: list[Batch], precision: str, **settings: Any) -> Growth:
    return fxgrow.grow(
        model, data, F.cross_entropy, example_inputs=data[0][0][:2], method=Firefly(precision=precision, **settings),
        budget=Budget(neurons=0.3), seed=1,
    )  # fmt: skip


def told(report: GrowthReport) -> dict[str, Any]:
    """Seconds, losses and promises."""
    return {
        "seconds": report.seconds, "phases": report.timings, "loss_before": report.loss_before,
        "loss_after": report.loss_after, "faithful_error": report.faithful_error,
        "preservation_error": report.preservation_error,
    }  # fmt: skip


def choices(report: GrowthReport) -> set[tuple[str, int]]:
    """The neurons that were split, and as many new ones as there are."""
    split = {(w.width, neuron) for w in report.widths for neuron in w.neurons}
    return split | {(w.width, -number - 1) for w in report.widths for number in range(w.new)}


def shared(one: set[Any], other: set[Any]) -> float:
    return len(one & other) / max(len(one), 1)


def precision(model: nn.Module, data: list[Batch], chosen: argparse.Namespace) -> dict[str, Any]:
    """A whole growth step with either precision of the search: seconds, losses, promises, and what both choose."""
    steps = chosen.steps
    grown_by(model, data, "fp32", steps=steps)  # the first one also waits for kernels to be loaded
    reports = {name: grown_by(model, data, name, steps=steps).report for name in ("fp32", "bf16")}
    both = shared(*(choices(report) for report in reports.values()))
    return {**{name: told(report) for name, report in reports.items()}, "chosen by both": both}


def compiled(model: nn.Module, data: list[Batch], chosen: argparse.Namespace) -> dict[str, Any]:
    """The network before and after growth, as it is and compiled: largest difference, seconds of a training step."""
    x, y = data[0]
    networks = {
        "before": copy.deepcopy(model),
        "after": grown_by(model, data, "fp32", steps=chosen.steps).module,
    }
    found: dict[str, Any] = {}
    for name, network in networks.items():
        network.eval()
        fast = torch.compile(network)
        with torch.no_grad():
            found[name] = {
                "difference": float((fast(x) - network(x)).abs().max() / network(x).abs().max())
            }
        network.train()
        steps = {"as it is": plain_step(network, x, y), "compiled": plain_step(fast, x, y)}
        found[name] |= in_turns(steps, chosen.rounds, x.device)
    return found


def resnet(_: nn.Module, data: list[Batch], chosen: argparse.Namespace) -> dict[str, Any]:
    """ResNet-18 grown on the device in both precisions and on the processor; ``shared``: of what the device chose."""
    device, few = data[0][0].device, data[:FEW]
    model = resnet18(num_classes=10).to(device)
    trained(model, data, 5 * chosen.steps)
    briefly = {**BRIEFLY, "steps": min(BRIEFLY["steps"], chosen.steps)}
    there = [(x.cpu(), y.cpu()) for x, y in few]
    grown_by(model, few, "fp32", **briefly)  # waits for kernels to be loaded
    reports = {
        "fp32": grown_by(model, few, "fp32", **briefly).report,
        "bf16": grown_by(model, few, "bf16", **briefly).report,
        "processor": grown_by(copy.deepcopy(model).cpu(), there, "fp32", **briefly).report,
    }
    mine = choices(reports["fp32"])
    return {
        name: {**told(report), "shared": shared(mine, choices(report))}
        for name, report in reports.items()
    }


FEW = 4
BRIEFLY: dict[str, int] = {"new": 4, "steps": 8, "refine_steps": 2, "points": 2}
CHECKS: dict[str, Check] = {
    "step": step,
    "precision": precision,
    "compiled": compiled,
    "resnet": resnet,
}
# Takes as long as --seconds says, and so is run only when it is asked for.
LONG: dict[str, Check] = {"paper": paper}


def summary(record: Mapping[str, Any]) -> str:
    """A line per check."""
    step, both, fast, net = (
        {} if "failed" in record.get(name, {}) else record.get(name, {}) for name in CHECKS
    )
    lines = [
        f"{record['device']}, torch {record['torch']}, peak {(record.get('peak') or 0) / 2**20:,.0f} MiB"
    ]
    lines += [
        f"step, to plain: {name} {ratio:.2f}" for name, ratio in step.get("to plain", {}).items()
    ]
    for title, found in (("VGG-19/16", both), ("ResNet-18", net)):
        rows = ((name, one) for name, one in found.items() if isinstance(one, dict))
        lines += [
            f"{title} {name}: {one['seconds']:.1f} s, loss {one['loss_before']:.3f} -> {one['loss_after']:.3f}, "
            f"faithful {one['faithful_error']:.0e}, preserving {one['preservation_error']:.0e}"
            for name, one in rows
        ]
    lines += [
        f"{name} growth: {one['as it is'] * 1e3:.1f} ms a step, compiled {one['compiled'] * 1e3:.1f}, "
        f"off by {one['difference']:.0e}"
        for name, one in fast.items()
    ]
    failed = [name for name in (*CHECKS, *LONG) if "failed" in record.get(name, {})]
    if "paper" not in failed:
        lines += paper_lines(record.get("paper", {}))
    return "\n".join([*lines, *(f"FAILED: {name}" for name in failed)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--steps", type=int, default=20, help="of the relaxation in whole growth steps"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="*", default=list(CHECKS), choices=[*CHECKS, *LONG])
    parser.add_argument("--seconds", type=float, default=600, help="that the check paper may take")
    parser.add_argument("--data-root", type=Path, help="of cifar-10-batches-py, for paper")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(args.device)
    splits = load_data("shapes", train_size=8 * args.batch, test_size=64).to(device)
    data = list(
        zip(
            splits.train.images.split(args.batch),
            splits.train.labels.split(args.batch),
            strict=True,
        )
    )
    model = vgg19(16).to(device)
    trained(model, data, 5 * args.steps)
    named = "processor" if device.type == "cpu" else torch.cuda.get_device_name(device)
    record: dict[str, Any] = {"torch": torch.__version__, "device": named}
    for name in args.only:
        start = time.perf_counter()
        try:
            record[name] = {**CHECKS, **LONG}[name](model, data, args)
        except Exception:  # noqa: BLE001 - device time is short: the other checks still run
            record[name] = {"failed": traceback.format_exc()}
        print(
            name,
            f"took {time.perf_counter() - start:.0f} s",
            record[name].get("failed", ""),
            flush=True,
        )
        # Since the steps were measured, which begins anew.
        record["peak"] = None if device.type == "cpu" else torch.cuda.max_memory_reserved(device)
        if args.out:
            args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(summary(record))


if __name__ == "__main__":
    main()
