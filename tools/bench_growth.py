"""The cost of one over-grown step against a plain training step, and its arithmetic floor.

    python tools/bench_growth.py --out docs/results/bench_growth.json

16-channel VGG-19, batch 128 of 3x32x32, one thread, interleaved (plain, splits only, m' = 50, plain, ...), medians.
The floor counts multiplications: forward, gradient of the input (not at the first layer), gradient of the candidate
weights; a plain step has all three for the base weights.
"""

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
from networks import vgg19

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.growth import Objective
from fxgrow.methods import Firefly
from fxgrow.methods.firefly.neighbourhood import directions, project, start
from fxgrow.rewrite import GrownLayer, OverGrown, overgrow


def over_grown(model: nn.Module, x: Tensor, method: Firefly) -> OverGrown:
    """The over-grown graph of a copy of ``model`` with frozen base weights and started candidates."""
    frozen = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    captured = capture(frozen, (x[:2],))
    coupling = couple(captured)
    proposed = method.neighbourhood(coupling)
    generator = torch.Generator().manual_seed(0)
    grown = overgrow(captured, coupling, proposed.split, proposed.new, generator)
    start(grown, method.eps, generator)
    return grown


def plain_step(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def grown_step(grown: OverGrown, x: Tensor, y: Tensor, method: Firefly) -> Callable[[], None]:
    moved = [p for p in (grown.candidates.split_eps, grown.candidates.new_eps) if len(p)]
    optimizer = torch.optim.Adam([*directions(grown), *moved], lr=1e-3)
    objective = Objective([(x, y)], F.cross_entropy)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        objective.on(grown.graph_module, (x, y)).backward()
        optimizer.step()
        project(grown, method.eps)

    return step


def spatial_sizes(module: nn.Module, x: Tensor, kinds: tuple[type[nn.Module], ...]) -> dict[str, int]:
    """Output positions per image of every layer of the given kinds."""
    found: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            first = out[0] if isinstance(out, list) else out
            found[name] = first[0, 0].numel() if first.dim() > 2 else 1

        return hook

    hooks = [m.register_forward_hook(note(n)) for n, m in module.named_modules() if isinstance(m, kinds)]
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
        total += model.get_submodule(name).weight.numel() * positions * (3 if i else 2)  # type: ignore[union-attr]
    return total


def grown_multiplications(grown: OverGrown, x: Tensor) -> int:
    """Forward and input gradient of base and candidate weights, weight gradient of the candidates, per image."""
    sizes = spatial_sizes(grown.graph_module, x, (GrownLayer,))
    total = 0
    for i, (name, positions) in enumerate(sizes.items()):
        layer = grown.graph_module.get_submodule(name)
        base = layer.weight.numel()  # type: ignore[union-attr]
        candidates = sum(p.numel() for p in layer.parameters() if p.dim() > 1 and p is not layer.weight)  # type: ignore[union-attr]
        total += positions * ((base + candidates) * (2 if i else 1) + candidates)
    return total


def measure(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, dict[str, float]]:
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
    return {name: {"wall": statistics.median(wall[name]), "cpu": statistics.median(cpu[name])} for name in steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = vgg19(16)
    x, y = torch.randn(args.batch, 3, 32, 32), torch.randint(0, 10, (args.batch,))
    methods = {"splits": Firefly(new=0), "m50": Firefly(new=50)}
    grown = {name: over_grown(model, x, method) for name, method in methods.items()}
    steps = {"plain": plain_step(model, x, y)}
    steps |= {name: grown_step(grown[name], x, y, method) for name, method in methods.items()}
    times = measure(steps, args.rounds)
    plain = plain_multiplications(model, x)
    result: dict[str, Any] = {
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "times": times,
    }
    for name in methods:
        floor = grown_multiplications(grown[name], x) / plain
        ratios = {kind: times[name][kind] / times["plain"][kind] for kind in ("wall", "cpu")}
        result[name] = {"ratio": ratios, "floor": floor, "over_floor": ratios["cpu"] / floor}
        line = f"cpu {ratios['cpu']:.2f}  wall {ratios['wall']:.2f}  floor {floor:.2f}"
        print(f"{name:7s} step / plain step: {line}  over floor {ratios['cpu'] / floor:.2f}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
