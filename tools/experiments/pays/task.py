"""What a task of the experiment is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = tuple[Tensor, Any]
LossFunction = Callable[[Any, Any], Tensor]

SMALL_ARMS = (
    "firefly",
    "pool",
    "random",
    "splitting",
    "zero",
    "net2net",
    "scratch",
    "narrow",
    # "zero" begins the optimizer anew; these go on with it.
    "zero, padded",
    "zero, scaled",
    "zero, own-age",
    "zero, reset-grown",
)


FUSED_ADAM = partial(torch.optim.Adam, fused=True)


@dataclass(frozen=True)
class Problem:
    """One task with its data drawn.

    Args:
        train: batches without end.
        loss_fn: what is minimized.
        error: of a model, on data that was kept aside; lower is better.
    """

    train: Iterator[Batch]
    loss_fn: LossFunction
    error: Callable[[nn.Module], float]


@dataclass(frozen=True)
class Task:
    """A family of problems.

    Args:
        name: in results.
        make: a model with ``width`` neurons per hidden layer, its weights drawn anew.
        draw: the problem of a seed.
        widths: the sizes that a grown network passes.
        steps: plain training steps of the widest network that all the arms' FLOPs are worth.
        rates: learning rates to tune over.
        optimizer: from parameters and a learning rate.
        grown_widths: patterns of the names of the widths that grow.
        growth_ends: the share of all FLOPs after which nothing grows any more.
        arms: what is compared, the reference first: others follow its allocation.
    """

    name: str
    make: Callable[[int], nn.Module]
    draw: Callable[[int], Problem]
    widths: tuple[int, ...]
    steps: int
    rates: tuple[float, ...]
    optimizer: Callable[..., Optimizer] = FUSED_ADAM
    grown_widths: tuple[str, ...] = ("*",)
    growth_ends: float = 0.6
    arms: tuple[str, ...] = SMALL_ARMS


@torch.no_grad()
def mean_loss(
    model: nn.Module, loss_fn: LossFunction, inputs: Tensor, targets: Tensor, size: int = 1000
) -> float:
    """The loss of a model in evaluation mode, the mean over all targets."""
    model.eval()
    losses = []
    for some, target in zip(inputs.split(size), targets.split(size), strict=True):
        losses.append(float(loss_fn(model(some), target)) * len(target))
    model.train()
    return sum(losses) / len(targets)
