"""The paper's own size on a GPU, within minutes: the check ``paper`` of ``tools.gpu_checks``.

    python -m tools.gpu_checks --only paper --data-root DIR --seconds 600 --out docs/results/gpu_paper.json

VGG-19 for 3x32x32 images, batches of 128: the full network as reference, and 16 channels grown three times by 30 %, each
trained for its share of ``--seconds`` with half a cosine; then rounds of ``step_time``'s growth steps at that size until
the seconds are out. ``--data-root`` holds cifar-10-batches-py; without it the images are ``shapes``.

Everything is one short run of one seed: it shows the paper's size at work and what its growth steps take there. It compares
nothing at equal FLOPs; ``tools.experiments.width`` does.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly
from fxgrow.data import DataSet, load_data
from tools.bench_growth import Batch
from tools.experiments.pays.tasks import forever
from tools.experiments.step_time import METHODS, NUM_BATCHES, summary, timed
from tools.networks import vgg19

GROWTHS = 3
FULL_SHARE, GROWN_SHARE, TIMES_SHARE = 0.3, 0.4, 0.25
"""Of the seconds; the rest is for growth itself, evaluation and the first kernels."""
RATE = 0.05


@dataclass(frozen=True)
class Trained:
    """A network at the end of its training.

    Args:
        parameters: of it.
        accuracy: on the test images.
        steps: of training since it grew.
        seconds: of training since it grew.
    """

    parameters: int
    accuracy: float
    steps: int
    seconds: float


def train_for(model: nn.Module, batches: Iterator[Batch], seconds: float) -> int:
    """Train a network for some seconds, the rate along half a cosine of the time; the number of steps."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    model.train()
    begin, steps, share = time.perf_counter(), 0, 0.0
    while share < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * float(1 + torch.cos(torch.tensor(torch.pi * share))) / 2
        x, y = next(batches)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        steps += 1
        share = (time.perf_counter() - begin) / seconds
    return steps


@torch.no_grad()
def accuracy(model: nn.Module, test: DataSet, size: int = 1000) -> float:
    """The share of images that are classified right."""
    model.eval()
    right = torch.zeros((), device=test.labels.device)
    for x, y in zip(test.images.split(size), test.labels.split(size), strict=True):
        right += (model(x).argmax(1) == y).sum()
    return float(right) / len(test)


def trained(model: nn.Module, batches: Iterator[Batch], test: DataSet, seconds: float) -> Trained:
    """Train a network for some seconds, and look at it."""
    steps = train_for(model, batches, seconds)
    parameters = sum(one.numel() for one in model.parameters())
    return Trained(parameters, accuracy(model, test), steps, seconds)


def grown(
    model: nn.Module, batches: Iterator[Batch], test: DataSet, seconds: float
) -> list[dict[str, Any]]:
    """Train and grow by turns; per size the training and the growth after it."""
    sizes: list[dict[str, Any]] = []
    for number in range(GROWTHS + 1):
        told = asdict(trained(model, batches, test, seconds / (GROWTHS + 1)))
        sizes.append(told)
        if number == GROWTHS:
            break
        some = [next(batches) for _ in range(NUM_BATCHES)]
        growth = fxgrow.grow(
            model,
            some,
            F.cross_entropy,
            example_inputs=some[0][0][:2],
            method=Firefly(),
            budget=Budget(neurons=0.3),
            seed=number,
            accept_no_gain=True,
        )
        model, report = growth.module, growth.report
        told["growth"] = {
            "seconds": report.seconds,
            "held_out_before": report.held_out_before,
            "held_out_after": report.held_out_after,
        }
    return sizes


def times(
    model: nn.Module, batches: Sequence[Batch], seconds: float, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Growth steps of all methods in turn, until the seconds are out; the first round is always whole."""
    begin, last = time.perf_counter(), 0.0
    rounds: list[dict[str, Any]] = []
    while not rounds or time.perf_counter() - begin + last < seconds:
        start = time.perf_counter()
        costs = {}
        for name, method in METHODS.items():
            costs[name] = asdict(timed(model, batches, method, len(rounds)))
            progress(f"round {len(rounds)}: {name}, {costs[name]['wall']:.1f} s")
        last = time.perf_counter() - start
        rounds.append({"plain_step": _plain_step(model, batches), "costs": costs})
    return {"rounds": len(rounds), "methods": summary(rounds, {})}


def _plain_step(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Processor seconds of one pass forward and backward."""
    start = time.process_time()
    for x, y in batches:
        F.cross_entropy(model(x), y).backward()
    model.zero_grad(set_to_none=True)
    return (time.process_time() - start) / len(batches)


def paper(_: nn.Module, __: Sequence[Batch], chosen: argparse.Namespace) -> dict[str, Any]:
    """The full network, the grown one, and the times of growth steps, within ``chosen.seconds``."""
    device = torch.device(chosen.device)
    name = "cifar10" if chosen.data_root else "shapes"
    found = {"root": chosen.data_root} if chosen.data_root else {"train_size": 20 * chosen.batch}
    data = load_data(name, **found).to(device)
    batches = _batches(data.train, chosen.batch)
    torch.manual_seed(0)
    full, small = vgg19(None).to(device), vgg19(16).to(device)
    record: dict[str, Any] = {"data": name, "seconds": chosen.seconds}
    record["full"] = asdict(trained(full, batches, data.test, FULL_SHARE * chosen.seconds))
    torch.manual_seed(0)
    record["grown"] = grown(small, batches, data.test, GROWN_SHARE * chosen.seconds)
    some = [next(batches) for _ in range(NUM_BATCHES)]

    def progress(line: str) -> None:
        print(line, flush=True)

    record["times"] = times(small, some, TIMES_SHARE * chosen.seconds, progress)
    return record


def _batches(train: DataSet, size: int) -> Iterator[Batch]:
    """Batches without end on the device of the images; every other one from left to right."""
    for number, (x, y) in enumerate(forever(train.images, train.labels, size, seed=0)):
        yield (x.flip(3) if number % 2 else x), y


def lines(found: dict[str, Any]) -> list[str]:
    """What the check says, a line per network and method."""
    if not found:
        return []
    full = found["full"]
    told = [f"full VGG-19: {full['parameters']:,} parameters, {100 * full['accuracy']:.2f} %"]
    for size in found["grown"]:
        share = 100 * size["parameters"] / full["parameters"]
        told.append(f"grown to {share:.2f} % of it: {100 * size['accuracy']:.2f} %")
    for name, row in found["times"]["methods"].items():
        told.append(f"{name}: {row['wall']:.1f} s, {row['wall_ratio']:.2f} times firefly")
    return told
