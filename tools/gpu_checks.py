"""What growth does and costs on a GPU: the growth step's benchmark, mixed precision, and torch.compile.

    python -m tools.gpu_checks --out docs/results/gpu.json

The 16-channel VGG-19 of ``bench_growth``, batch 128 of 3x32x32. Steps run in turn (plain, splits only, m' = 50), each
waited for; medians of wall seconds. Then whole growth steps with the search in float32 and under bfloat16 autocast, and
training steps of the grown network as it is and compiled. A check that fails is recorded and the others go on.
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

import fxgrow
from fxgrow import Budget, Firefly, Growth
from fxgrow.data import load_data
from tools.bench_growth import Batch, grown_step, over_grown, plain_step, trained
from tools.networks import vgg19

Check = Callable[[nn.Module, list[Batch], int], Mapping[str, Any]]


def waited(work: Callable[[], Any], device: torch.device) -> float:
    """Wall seconds of ``work`` until the device has done it."""
    torch.accelerator.synchronize(device)
    start = time.perf_counter()
    work()
    torch.accelerator.synchronize(device)
    return time.perf_counter() - start


def in_turns(works: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median wall seconds of each, run in turn after a round that is not timed."""
    for work in works.values():
        work()
    found = [{name: waited(work, device) for name, work in works.items()} for _ in range(rounds)]
    return {name: statistics.median(one[name] for one in found) for name in works}


def step(model: nn.Module, data: list[Batch], rounds: int) -> dict[str, Any]:
    """Seconds of an over-grown step beside a plain one, and the peaks of allocated memory."""
    x, y = data[0]
    methods = {"splits": Firefly(new=0), "m50": Firefly(new=50)}
    steps = {name: grown_step(over_grown(model, x, method), x, y, method) for name, method in methods.items()}
    steps = {"plain": plain_step(copy.deepcopy(model), x, y), **steps}
    seconds = in_turns(steps, rounds, x.device)
    memory = {}
    for name, one in steps.items():
        torch.cuda.reset_peak_memory_stats(x.device)
        before = torch.cuda.memory_allocated(x.device)
        one()
        memory[name] = torch.cuda.max_memory_allocated(x.device) - before
    ratios = {name: seconds[name] / seconds["plain"] for name in methods}
    return {"seconds": seconds, "to plain": ratios, "bytes on top": memory}


def grown_by(model: nn.Module, data: list[Batch], precision: str) -> Growth:
    return fxgrow.grow(
        model, data, F.cross_entropy, example_inputs=data[0][0][:2], method=Firefly(precision=precision),
        budget=Budget(neurons=0.3), seed=1,
    )  # fmt: skip


def precision(model: nn.Module, data: list[Batch], _: int) -> dict[str, Any]:
    """A whole growth step with either precision of the search: seconds, losses, promises, and what both choose."""
    grown_by(model, data, "fp32")  # the first one also waits for kernels to be loaded
    found, chosen = {}, {}
    for name in ("fp32", "bf16"):
        report = grown_by(model, data, name).report
        chosen[name] = {(w.width, neuron) for w in report.widths for neuron in w.neurons}
        chosen[name] |= {(w.width, -number - 1) for w in report.widths for number in range(w.new)}
        found[name] = {
            "seconds": report.seconds, "phases": report.timings, "loss_before": report.loss_before,
            "loss_after": report.loss_after, "faithful_error": report.faithful_error,
            "preservation_error": report.preservation_error,
        }  # fmt: skip
    both = len(chosen["fp32"] & chosen["bf16"]) / max(len(chosen["fp32"]), 1)
    return {**found, "chosen by both": both}


def compiled(model: nn.Module, data: list[Batch], rounds: int) -> dict[str, Any]:
    """The network before and after growth, as it is and compiled: largest difference, seconds of a training step."""
    x, y = data[0]
    networks = {"before": copy.deepcopy(model), "after": grown_by(model, data, "fp32").module}
    found: dict[str, Any] = {}
    for name, network in networks.items():
        network.eval()
        fast = torch.compile(network)
        with torch.no_grad():
            found[name] = {"difference": float((fast(x) - network(x)).abs().max() / network(x).abs().max())}
        network.train()
        steps = {"as it is": plain_step(network, x, y), "compiled": plain_step(fast, x, y)}
        found[name] |= in_turns(steps, rounds, x.device)
    return found


CHECKS: dict[str, Check] = {"step": step, "precision": precision, "compiled": compiled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda")
    splits = load_data("shapes", train_size=8 * args.batch, test_size=64).to(device)
    data = list(zip(splits.train.images.split(args.batch), splits.train.labels.split(args.batch), strict=True))
    model = vgg19(16).to(device)
    trained(model, data, 100)
    record: dict[str, Any] = {"torch": torch.__version__, "device": torch.cuda.get_device_name(device)}
    for name, check in CHECKS.items():
        try:
            record[name] = check(model, data, args.rounds)
        except Exception:  # noqa: BLE001 - device time is short: the other checks still run
            record[name] = {"failed": traceback.format_exc()}
        print(name, json.dumps(record[name], indent=1), flush=True)
        if args.out:
            args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
