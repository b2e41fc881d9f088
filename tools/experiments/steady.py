"""Whether training stays steady after growth: 100 random draws of a model, a moment, a budget and a method.

    python -m tools.experiments.steady --draws 100 --out docs/results/steady.json

Data: ``shapes``, ten classes, 16 x 16. A model of five kinds is trained for 0 to 60 steps, grown by up to its own size, and
trained for 40 steps more; beside it a copy of the model before growth. A draw *diverges* if a loss after growth is no
finite number, or if the mean of the last ten is above both 1.5 times that of the copy and the loss at the start (which
guessing gives). ``jump``: the loss of the first step after growth less that of the copy on the same batch.
"""

import argparse
import copy
import json
import math
import random
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer

import fxgrow
from fxgrow import Budget
from fxgrow.data import DataSet, batches, load_data
from fxgrow.errors import GrowthError
from fxgrow.surgery import STATE_RULES

AFTER = 40
LAST = 10
CLASSES = 10


class Residual(nn.Module):
    """A stem and two residual blocks with batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.first, self.second = (
            nn.Sequential(
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(2)
        )
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.first(x)
        x = x + self.second(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def plain(width: int, norm: bool) -> nn.Module:
    """Three convolutions."""

    def block(inputs: int, stride: int) -> list[nn.Module]:
        parts: list[nn.Module] = [nn.Conv2d(inputs, width, 3, stride, 1)]
        return [*parts, *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU()]

    layers = [*block(3, 1), *block(width, 2), *block(width, 2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def perceptron(width: int) -> nn.Module:
    """Two hidden layers with dropout."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(768, width),
        nn.GELU(),
        nn.Dropout(0.1),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, CLASSES),
    )


def separable(width: int) -> nn.Module:
    """A depthwise convolution between pointwise ones."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
        nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.Hardswish(),
        nn.Conv2d(width, 2 * width, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, CLASSES),
    )


MODELS: dict[str, Callable[[int], nn.Module]] = {
    "residual": Residual,
    "plain with batch norm": partial(plain, norm=True),
    "plain": partial(plain, norm=False),
    "perceptron": perceptron,
    "separable": separable,
}
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": partial(SGD, lr=0.05, momentum=0.9, weight_decay=1e-4),
    "Adam": partial(Adam, lr=3e-3),
    "AdamW": partial(AdamW, lr=3e-3),
}
METHODS = {
    "Auto": fxgrow.Auto(),
    "Firefly": fxgrow.Firefly(),
    "RandomGrowth": fxgrow.RandomGrowth(),
    "ZeroOutgoing": fxgrow.ZeroOutgoing(),
}


def train(model: nn.Module, optimizer: Optimizer, stream: Iterator[Any], steps: int) -> list[float]:
    """The loss of every step, before it."""
    model.train()
    losses = []
    for _ in range(steps):
        images, labels = next(stream)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def stream(data: DataSet, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from batches(data, 32, shuffle=True, generator=generator, drop_last=True)


def draw(number: int, data: DataSet) -> dict[str, Any]:
    """One draw: what was drawn, and what came of it. Draw i is always the same."""
    rng = random.Random(number)
    torch.manual_seed(number)
    names = {"model": rng.choice(sorted(MODELS)), "optimizer": rng.choice(sorted(OPTIMIZERS))}
    names |= {"method": rng.choice(sorted(METHODS)), "state": rng.choice(sorted(STATE_RULES))}
    width, moment, budget = rng.randint(4, 24), rng.randint(0, 60), round(rng.uniform(0.05, 1.0), 2)
    told: dict[str, Any] = {"number": number, **names, "width": width, "moment": moment}
    told["neurons"] = budget
    model = MODELS[names["model"]](width)
    optimizer = OPTIMIZERS[names["optimizer"]](model.parameters())
    train(model, optimizer, stream(data, number), moment)
    kept = list(batches(data, 32, shuffle=True, limit=24))
    try:
        growth = fxgrow.grow(
            model,
            kept,
            F.cross_entropy,
            method=METHODS[names["method"]],
            budget=Budget(neurons=budget),
            optimizer=optimizer,
            state=names["state"],
            seed=number,
        )
    except GrowthError as error:
        return {**told, "refused": error.code}
    copied = copy.deepcopy((model, optimizer))
    plain_losses = train(*copied, stream(data, number + 1), AFTER)
    assert growth.optimizer is not None  # noqa: S101 - one was given
    losses = train(growth.module, growth.optimizer, stream(data, number + 1), AFTER)
    end, plain_end = mean(losses[-LAST:]), mean(plain_losses[-LAST:])
    finite = all(map(math.isfinite, losses))
    worse = end > 1.5 * plain_end and end > math.log(CLASSES)
    told |= {"jump": losses[0] - plain_losses[0], "end": end, "end_of_copy": plain_end}
    return {**told, "diverged": not finite or worse}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data = load_data("shapes", train_size=1024, test_size=64, size=16).train
    draws = []
    for number in range(chosen.draws):
        draws.append(draw(number, data))
        print(json.dumps(draws[-1]), flush=True)
    grown = [one for one in draws if "refused" not in one]
    result = {
        "torch": torch.__version__,
        "grown": len(grown),
        "refused": len(draws) - len(grown),
        "diverged": [one["number"] for one in grown if one["diverged"]],
        "largest_jump": max(one["jump"] for one in grown),
        "draws": draws,
    }
    print({key: value for key, value in result.items() if key != "draws"})
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
