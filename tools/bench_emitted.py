"""What a training step of a grown model costs beside one of a model written by hand with the same widths.

    python -m tools.bench_emitted [--quick] [--rounds N] [--no-compile] [--only NAME] [--out FILE]

A ResNet-18 and a GPT (``tools/hand_written.py``) grow by ``fxgrow.grow``: wider; wider with residual layers behind their
stages, which makes a graph module; and by a block more per stage. Beside each stands the hand-written class with the
sizes that came out, and the same weights: both compute the same, which is checked. Their steps (forward, backward, SGD)
take turns on one thread, in the order A B, B A, ...; what is reported is the median over the rounds of the ratio *within*
a round, of wall time and of the time of this process, which other load on the machine disturbs least. Compiled steps are
compiled with ``fullgraph=True``, so that a graph break is an error.

Then a perceptron grows in place 50 times in a row, a step of AdamW between: how many bytes of tensors are alive beyond
those of the model, its gradients and moments, after every growth step.
"""

import argparse
import gc
import json
import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import fxgrow  # noqa: E402
from fxgrow.training import EveryEpochs  # noqa: E402
from tools.hand_written import GPT, HEAD_SIZE, ResNet, Sizes, sizes_of  # noqa: E402

FORMS = ("wider", "with layers", "with blocks")
STEPS_PER_ROUND = 3
WARM_STEPS = 3
WARM_GROWTHS = 10
"""Growth steps before memory is compared: caches that are made once are full by then."""

Batch = tuple[Tensor, Tensor]
Step = Callable[[], None]


class Subject:
    """A network, before it grows, and its data.

    Args:
        make: makes the hand-written network of any sizes.
        sizes: those that it starts with.
        batch: what it is trained and grown on.
    """

    def __init__(self, make: Callable[[Sizes], nn.Module], sizes: Sizes, batch: Batch) -> None:
        self.make, self.sizes, self.batch = make, sizes, batch

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross entropy over the last axis."""
        return F.cross_entropy(output.flatten(0, -2), target.flatten())


def subjects(*, quick: bool) -> dict[str, Subject]:
    """The two networks: full size, or as small as they get."""
    width, image, count = (4, 16, 8) if quick else (64, 32, 8)
    streams = tuple(width * 2**stage for stage in range(4))
    residual = Sizes(streams, tuple((stream, stream) for stream in streams))
    channels, depth, heads, tokens = (16, 2, 1, 8) if quick else (192, 4, 12, 128)
    language = Sizes((channels,), ((4 * channels,) * depth,), ((heads,) * depth,))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, image, image, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    words = torch.randint(256, (count, tokens + 1), generator=generator)
    return {
        "ResNet-18": Subject(ResNet, residual, (images, labels)),
        "GPT": Subject(lambda sizes: GPT(sizes, tokens), language, (words[:, :-1], words[:, 1:])),
    }


def grown(subject: Subject, form: str) -> tuple[nn.Module, nn.Module]:
    """A grown network, and the one by hand with its sizes and weights."""
    torch.manual_seed(0)
    model, (inputs, _) = subject.make(subject.sizes), subject.batch
    if form == "with blocks":
        more = {f"stages.{stage}": 1 for stage in range(len(subject.sizes.streams))}
        module = fxgrow.deepen(model, more, inputs).module
        return module, _by_hand(subject, module, {})
    with_layers = form == "with layers"
    ends = []
    for stage, hidden in enumerate(subject.sizes.hidden):
        ends.append(f"stages.{stage}.{len(hidden) - 1}.out")
    layers: dict[str, Any] = {"layers": 8, "at": tuple(ends)} if with_layers else {}
    growth = fxgrow.grow(
        model,
        [subject.batch],
        subject.loss,
        method=fxgrow.Firefly(new=8, steps=1, refine_steps=1, points=1, **layers),
        budget=fxgrow.Budget(neurons=0.3, layers=len(ends) if with_layers else None),
        accept_no_gain=True,
    )
    return growth.module, _by_hand(subject, growth.module, _layers_by_stage(growth))


def _layers_by_stage(growth: fxgrow.Growth) -> dict[int, fxgrow.spec.LayerInsertion]:
    found = {}
    for layer in growth.report.layers:
        (number,) = re.findall(r"stages_(\d+)_", layer.after)
        found[int(number)] = layer
    return found


def _by_hand(subject: Subject, module: nn.Module, layers: dict[int, Any]) -> nn.Module:
    """The hand-written network of the sizes and with the weights of a grown one."""
    stages = len(subject.sizes.streams)
    extra = [layers[stage].neurons if stage in layers else 0 for stage in range(stages)]
    network = subject.make(sizes_of(module, extra))
    values = dict(module.state_dict())
    for stage, layer in layers.items():
        for part in ("incoming.weight", "incoming.bias", "outgoing.weight"):
            values[f"extra.{stage}.{part}"] = values.pop(f"{layer.name}.{part}")
    network.load_state_dict(values)
    return network


def largest_difference(one: nn.Module, other: nn.Module, inputs: Tensor) -> float:
    """Of their outputs in evaluation mode, relative to the largest output."""
    with torch.no_grad():
        first, second = one.eval()(inputs), other.eval()(inputs)
    return float((first - second).abs().max() / second.abs().max())


def training_step(module: nn.Module, subject: Subject, backend: str | None) -> Step:
    """A step of SGD; compiled without a graph break where a backend is named."""
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)
    run: Any = module.train()
    if backend is not None:
        run = torch.compile(module, fullgraph=True, backend=backend)
    inputs, targets = subject.batch

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        subject.loss(run(inputs), targets).backward()
        optimizer.step()

    return step


def in_turns(emitted: Step, by_hand: Step, rounds: int) -> dict[str, Any]:
    """Times of both, and the ratios within a round."""
    steps = {"emitted": emitted, "by hand": by_hand}
    for step in steps.values():
        for _ in range(WARM_STEPS):
            step()
    wall: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        names = list(steps) if number % 2 == 0 else list(steps)[::-1]
        for name in names:
            before, before_cpu = time.perf_counter(), time.process_time()
            for _ in range(STEPS_PER_ROUND):
                steps[name]()
            wall[name].append((time.perf_counter() - before) / STEPS_PER_ROUND)
            cpu[name].append((time.process_time() - before_cpu) / STEPS_PER_ROUND)
    return {"rounds": rounds, "wall": _compared(wall), "cpu": _compared(cpu)}


def _compared(seconds: dict[str, list[float]]) -> dict[str, Any]:
    pairs = zip(seconds["emitted"], seconds["by hand"], strict=True)
    ratios = sorted(one / other for one, other in pairs)
    return {
        "ratio": round(median(ratios), 4),
        "ratios": [round(ratios[0], 4), round(ratios[-1], 4)],
        "emitted_seconds": median(seconds["emitted"]),
        "by_hand_seconds": median(seconds["by hand"]),
    }


def compared(subject: Subject, form: str, rounds: int, backends: list[str | None]) -> Any:
    """A grown form of a network beside the one by hand."""
    module, network = grown(subject, form)
    row: dict[str, Any] = {
        "class": type(module).__name__,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "difference": largest_difference(module, network, subject.batch[0]),
    }
    if row["parameters"] != sum(parameter.numel() for parameter in network.parameters()):
        raise RuntimeError(f"the {form} network by hand is another one")
    for backend in backends:
        torch.compiler.reset()
        steps = [training_step(model, subject, backend) for model in (module, network)]
        row["eager" if backend is None else "compiled"] = in_turns(*steps, rounds)
    return row


def alive() -> int:
    """Bytes of all tensors that there are."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        # By type: to ask some objects for their class runs code of theirs. Others have no bytes.
        if type(thing) not in (Tensor, nn.Parameter) or thing.is_meta:
            continue
        if thing.layout is torch.strided:
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(count: int, warm: int = WARM_GROWTHS) -> dict[str, Any]:
    """Tensors beyond the model's own after each of many growth steps in a row."""
    torch.manual_seed(0)
    inputs, labels = torch.randn(32, 16), torch.randint(4, (32,))
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    grower = fxgrow.Grower(
        model,
        optimizer,
        loss_fn=F.cross_entropy,
        when=EveryEpochs(epochs=1),
        budget=fxgrow.Budget(neurons=4),
        method=fxgrow.Firefly(new=4, steps=1, refine_steps=0, points=1),
        accept_no_gain=True,
        grow_steps=count,
    )
    rows = []
    for _ in range(count):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        grower.step([(inputs, labels)], loss=1.0)
        own = sum(4 * parameter.numel() for parameter in model.parameters())
        # Parameters, gradients, two moments; counts of steps are numbers.
        beyond = alive() - 4 * own
        rows.append((own, beyond, resident()))
    first, last = rows[min(warm, count) - 1], rows[-1]
    return {
        "growth_steps": count,
        "parameter_bytes": [rows[0][0], last[0]],
        "tensors_beyond": [first[1], last[1]],
        "tensors_beyond_more": last[1] - first[1],
        "resident_more": last[2] - first[2],
    }


def measured(
    *, quick: bool, rounds: int, backends: list[str | None], only: str, growths: int
) -> dict[str, Any]:
    """Everything, as it is saved."""
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    for name, subject in subjects(quick=quick).items():
        for form in FORMS:
            if only in f"{name} {form}":
                rows[f"{name} {form}"] = compared(subject, form, rounds, backends)
                print(name, form, json.dumps(rows[f"{name} {form}"]), file=sys.stderr)
    return {
        "quick": quick,
        "head_size": HEAD_SIZE,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "processor": torch.backends.cpu.get_cpu_capability(),
        "steps": rows,
        "memory": memory(growths),
    }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest networks")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-compile", action="store_true", help="eager steps alone")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--only", default="", help="part of a name, 'GPT with' say")
    parser.add_argument("--growths", type=int, default=50)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    backends: list[str | None] = [None] if given.no_compile else [None, given.backend]
    warnings.simplefilter("ignore")
    result = measured(
        quick=given.quick,
        rounds=max(given.rounds, 5),
        backends=backends,
        only=given.only,
        growths=given.growths,
    )
    text = json.dumps(result, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
