"""What growth costs in units of a plain training step: one over-grown step, its memory, and a whole growth phase.

    python tools/bench_growth.py --out docs/results/bench_growth.json
    python -m tools.bench_growth --peers --out docs/results/bench_peers.json    # against gromo
    python tools/bench_growth.py --small    # 200 linear layers of 8 neurons alone: a minute

16-channel VGG-19, batch 128 of 3x32x32, one thread. Steps are interleaved (plain, splits only, m' = 50, plain, ...);
medians of process CPU seconds, which other load on the machine disturbs least. The floor counts multiplications:
forward, gradient of the input (not at the first layer), gradient of the candidate weights; a plain step has all three
for the base weights. The phase, with default settings, grows a model that was trained on ``shapes`` for a while; so does
Firefly's, and one with ten times the steps shows what was left to gain.

Memory is the peak of what torch's allocator holds during a step, by the profiler's record of every allocation, with
parameters, gradients and moments counted in: exact and the same in every run, where the resident size of a process is
neither on a shared machine. It leaves out what oneDNN takes for itself within one operator.
"""

import argparse
import copy
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[1]))

import fxgrow
from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.data import load_data
from fxgrow.growth import GrowthReport, Method, Objective
from fxgrow.methods import Firefly
from fxgrow.methods.firefly.neighborhood import Neighborhood, candidate_directions, initialize
from fxgrow.rewrite import OverGrown, OvergrownLayer, overgrow
from tools.bench_peers import compare
from tools.experiments.pays.flops import FlopCounter
from tools.networks import vgg19

Batch = tuple[Tensor, Tensor]

GROWTH_BATCHES = 8
"""As many as ``fxgrow grow`` takes (``training.RunSettings``)."""


def over_grown(model: nn.Module, x: Tensor, method: Firefly) -> OverGrown:
    """The over-grown graph of a copy of ``model`` with frozen base weights and started candidates."""
    frozen = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    captured = capture(frozen, (x[:2],))
    coupling = couple(captured)
    proposed = method.propose(coupling)  # with the least numbers: no budget is asked
    generator = torch.Generator().manual_seed(0)
    grown = overgrow(captured, coupling, proposed.split, proposed.new, generator)
    initialize(grown, method.eps, generator)
    return grown


@dataclass(frozen=True)
class Step:
    """One step of training on one batch; ``loss`` gives the loss, ``after`` runs when the optimiser has moved."""

    optimizer: torch.optim.Optimizer
    loss: Callable[[], Tensor]
    after: Callable[[], None]
    frozen: tuple[Tensor, ...] = ()

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()
        self.after()

    def held(self) -> int:
        """Bytes of parameters, gradients and moments between two steps."""
        moved = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments = [
            v
            for state in self.optimizer.state.values()
            for v in state.values()
            if isinstance(v, Tensor)
        ]
        every = [*self.frozen, *moved, *(p.grad for p in moved if p.grad is not None), *moments]
        return sum(tensor.numel() * tensor.element_size() for tensor in every)


def plain_step(model: nn.Module, x: Tensor, y: Tensor) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return Step(optimizer, lambda: F.cross_entropy(model(x), y), lambda: None)


def grown_step(grown: OverGrown, x: Tensor, y: Tensor, method: Firefly) -> Step:
    moved = [p for p in (grown.candidates.split_eps, grown.candidates.new_eps) if len(p)]
    optimizer = torch.optim.Adam([*candidate_directions(grown), *moved], lr=1e-3)
    objective = Objective([(x, y)], F.cross_entropy)
    frozen = tuple(p for p in grown.graph_module.parameters() if not p.requires_grad)
    return Step(
        optimizer,
        lambda: objective.on(grown.graph_module, (x, y)),
        Neighborhood.of(grown, method.eps).project,
        frozen,
    )


def spatial_sizes(
    module: nn.Module, x: Tensor, kinds: tuple[type[nn.Module], ...]
) -> dict[str, int]:
    """Output positions per image of every layer of the given kinds."""
    found: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            first = out[0] if isinstance(out, list) else out
            found[name] = first[0, 0].numel() if first.dim() > 2 else 1

        return hook

    hooks = [
        m.register_forward_hook(note(n)) for n, m in module.named_modules() if isinstance(m, kinds)
    ]
    with torch.no_grad():
        module(x[:1])
    for hook in hooks:
        hook.remove()
    return found


def plain_multiplications(model: nn.Module, x: Tensor) -> int:
    """Forward, input gradient and weight gradient of every layer, per image."""
    sizes = spatial_sizes(model, x, (nn.Conv2d, nn.Linear))
    total = 0
    for i, (name, positions) in enumerate(sizes.items()):
        total += model.get_parameter(f"{name}.weight").numel() * positions * (3 if i else 2)
    return total


def grown_multiplications(grown: OverGrown, x: Tensor) -> int:
    """Forward and input gradient of base and candidate weights, weight gradient of the candidates, per image."""
    sizes = spatial_sizes(grown.graph_module, x, (OvergrownLayer,))
    total = 0
    for i, (name, positions) in enumerate(sizes.items()):
        layer = grown.graph_module.get_submodule(name)
        base = layer.get_parameter("weight").numel()
        candidates = sum(
            p.numel() for name, p in layer.named_parameters() if p.dim() > 1 and name != "weight"
        )
        total += positions * ((base + candidates) * (2 if i else 1) + candidates)
    return total


def measure(steps: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, dict[str, float]]:
    """Median wall and process CPU seconds of each step, run in turn."""
    wall: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            w, c = time.perf_counter(), time.process_time()
            step()
            wall[name].append(time.perf_counter() - w)
            cpu[name].append(time.process_time() - c)
    return {
        name: {"wall": statistics.median(wall[name]), "cpu": statistics.median(cpu[name])}
        for name in steps
    }


def trained(model: nn.Module, data: list[Batch], steps: int) -> None:
    """SGD over the batches in turn."""
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.05, momentum=0.9)
    for x, y in itertools.islice(itertools.cycle(data), steps):
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def phase(model: nn.Module, data: list[Batch], method: Method, repeats: int = 3) -> dict[str, Any]:
    """One growth: its CPU seconds, its products, and the loss on the growth batches before and after.

    ``floor``: the multiplications of all products and convolutions that it computes, in plain steps.
    """

    def grow() -> GrowthReport:
        example = data[0][0][:2]
        return fxgrow.grow(
            model, data, F.cross_entropy, example_inputs=example, method=method
        ).report

    cpu = []
    for _ in range(repeats):
        start = time.process_time()
        report = grow()
        cpu.append(time.process_time() - start)
    with FlopCounter() as spent:
        grow()
    with FlopCounter() as plain:
        F.cross_entropy(model(data[0][0]), data[0][1]).backward()
    return {
        "cpu": statistics.median(cpu),
        "floor": spent.total / plain.total,
        "loss_before": report.loss_before,
        "loss_after": report.loss_after,
        "predicted_memory": report.peak_memory,
    }


def phases(plain_cpu: float, batch: int, train_steps: int) -> dict[str, Any]:
    """The default phase and Firefly's in plain steps, and one of ten times the steps, on a model that has learnt a little."""
    splits = load_data("shapes", train_size=20 * batch, test_size=batch)
    data = list(
        zip(splits.train.images.split(batch), splits.train.labels.split(batch), strict=True)
    )
    model = vgg19(16)
    trained(model, data, train_steps)
    default = Firefly()
    longer = Firefly(steps=10 * default.steps, refine_steps=10 * default.refine_steps)
    found = {"default": phase(model, data[:GROWTH_BATCHES], fxgrow.Auto())}
    found["firefly"] = phase(model, data[:GROWTH_BATCHES], default)
    found["longer"] = phase(model, data[:GROWTH_BATCHES], longer, repeats=1)
    for one in found.values():
        one["plain_steps"] = one["cpu"] / plain_cpu
    ratio = found["firefly"]["loss_after"] / found["longer"]["loss_after"]
    return {
        "growth_batches": GROWTH_BATCHES,
        "train_steps": train_steps,
        **found,
        "loss_over_longer": ratio,
    }


def peaks(steps: dict[str, Step]) -> dict[str, int]:
    """The most bytes that tensors take during each step, all that it starts with included."""
    return {name: step.held() + peak_of(step) for name, step in steps.items()}


def peak_of(step: Callable[[], None]) -> int:
    """The most bytes that a step allocates on top of what there was."""
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as found:
        step()
    events = [
        event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events), default=0)


def repeated(step: Callable[..., Any], *args: Any) -> Callable[[], None]:
    """Ten calls: one of microseconds is measured badly."""

    def run() -> None:
        for _ in range(10):
            step(*args)

    return run


def small_layers(count: int, rounds: int) -> dict[str, float]:
    """CPU seconds of passes, steps and one growth of a network of many small layers, in turn.

    There the numbers cost nothing, so what is measured are operators and the Python around them.
    """
    layers = [part for _ in range(count) for part in (nn.Linear(8, 8), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(8, 3))
    x, y = torch.randn(8, 8), torch.arange(8) % 3
    method = Firefly(new=2)
    grown = over_grown(model, x, method)

    def grow() -> None:
        fxgrow.grow(model, [(x, y)], F.cross_entropy, example_inputs=x, method=method)

    steps = {
        "forwards": repeated(torch.no_grad()(model), x),
        "overgrown_forwards": repeated(torch.no_grad()(grown.graph_module), x),
        "steps": repeated(plain_step(copy.deepcopy(model), x, y)),
        "overgrown_steps": repeated(grown_step(grown, x, y, method)),
        "growth": grow,
    }
    cpu = {name: one["cpu"] for name, one in measure(steps, rounds).items()}
    in_forwards = 10 * cpu["growth"] / cpu["forwards"]
    print(
        f"{count} small layers: a growth takes {cpu['growth']:.2f} s, as {in_forwards:.0f} forward passes"
    )
    for name in ("forwards", "steps"):
        ratio = cpu[f"overgrown_{name}"] / cpu[name]
        print(f"{count} small layers: over-grown {name} / plain ones: {ratio:.1f}", flush=True)
    return {"count": count, **cpu, "growth_in_forwards": in_forwards}


def vgg_growth(batch: int, rounds: int, train_steps: int) -> dict[str, Any]:
    """Steps, their memory and growth phases of the 16-channel VGG-19."""
    model = vgg19(16)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    methods = {"splits": Firefly(new=0), "m50": Firefly(new=50)}
    grown = {name: over_grown(model, x, method) for name, method in methods.items()}
    steps: dict[str, Step] = {"plain": plain_step(model, x, y)}
    steps |= {name: grown_step(grown[name], x, y, method) for name, method in methods.items()}
    times = measure(steps, rounds)
    plain = plain_multiplications(model, x)
    result: dict[str, Any] = {"times": times}
    for name in methods:
        floor = grown_multiplications(grown[name], x) / plain
        ratios = {kind: times[name][kind] / times["plain"][kind] for kind in ("wall", "cpu")}
        result[name] = {"ratio": ratios, "floor": floor, "over_floor": ratios["cpu"] / floor}
        line = f"cpu {ratios['cpu']:.2f}  wall {ratios['wall']:.2f}  floor {floor:.2f}"
        print(
            f"{name:7s} step / plain step: {line}  over floor {ratios['cpu'] / floor:.2f}",
            flush=True,
        )
    result["memory"] = memory_limit = peaks(steps)
    for name in methods:
        print(
            f"{name:7s} peak memory / plain step's: {memory_limit[name] / memory_limit['plain']:.2f}",
            flush=True,
        )
    result["phase"] = found = phases(times["plain"]["cpu"], batch, train_steps)
    for name in ("default", "firefly", "longer"):
        one = found[name]
        line = f"{one['plain_steps']:.0f} plain steps (floor {one['floor']:.0f}), loss {one['loss_before']:.4f} -> {one['loss_after']:.4f}"
        print(f"growth phase, {name}: {line}", flush=True)
    print(f"loss after Firefly's / after ten times the steps: {found['loss_over_longer']:.4f}")
    return result


def save(result: dict[str, Any], path: Path | None) -> None:
    """Write a result, if it is to be kept."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--train-steps", type=int, default=100, help="plain steps before the growth phase"
    )
    parser.add_argument(
        "--peers", action="store_true", help="compare with gromo instead (tools/bench_peers.py)"
    )
    parser.add_argument("--small", action="store_true", help="the network of small layers alone")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peers:
        save(compare(args.rounds), args.out)
        return
    torch.manual_seed(0)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }
    result: dict[str, Any] = {"torch": torch.__version__, "machine": machine}
    result["small_layers"] = small_layers(200, args.rounds)
    if not args.small:
        result |= vgg_growth(args.batch, args.rounds, args.train_steps)
    save(result, args.out)


if __name__ == "__main__":
    main()
