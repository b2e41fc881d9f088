"""What a task of the experiment is."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = tuple[Tensor, Any]
LossFunction = Callable[[Any, Any], Tensor]

SMALL_ARMS = (
    "default",
    "firefly",
    "random",
    "splitting",
    "zero",
    "net2net",
    "scratch",
    "narrow",
    "zero, scaled",
    "zero, own-age",
    "zero, reset-grown",
    "zero, reset",
)


FUSED_ADAM = partial(torch.optim.Adam, fused=True)


class Progress(NamedTuple):
    """Where a run is: shares of the FLOPs of the whole run, and of the time since it last grew."""

    run: float
    stage: float


class Shortened(NamedTuple):
    """An arm that gets a share of the FLOPs: does it end as low as scratch that gets all of them?"""

    arm: str
    share: float


DECAY_STARTS = 0.7


def late_decay(progress: Progress) -> float:
    """Constant, and from ``DECAY_STARTS`` of the run on linear to 0."""
    return min(1.0, (1 - progress.run) / (1 - DECAY_STARTS))


def cosine_of_stage(progress: Progress) -> float:
    """Half a cosine between two growths, so that every size ends with a rate of 0."""
    return (1 + math.cos(math.pi * min(progress.stage, 1.0))) / 2


@dataclass(frozen=True)
class Problem:
    """One task with its data drawn.

    Args:
        train: batches without end.
        loss_fn: what is minimized.
        error: of a model, on data that was kept aside; lower is better.
        accuracy: of a model, at the end of every size; None: there is none.
        held_out_loss: of a model right before and after growth; None: it is not looked at.
    """

    train: Iterator[Batch]
    loss_fn: LossFunction
    error: Callable[[nn.Module], float]
    accuracy: Callable[[nn.Module], float] | None = None
    held_out_loss: Callable[[nn.Module], float] | None = None


@dataclass(frozen=True)
class Task:
    """A family of problems.

    Args:
        name: in results.
        make: a model with ``width`` neurons per hidden layer, its weights drawn anew.
        draw: the problem of a seed.
        widths: the sizes that a grown network passes.
        steps: plain training steps of the widest network that all the arms' FLOPs are worth.
        rates: learning rates to tune over, rising.
        optimizer: from parameters and a learning rate.
        grown_widths: patterns of the names of the widths that grow.
        blocks: how many residual blocks the network has at each size; empty: its depth stays.
        growth_ends: the share of all FLOPs after which nothing grows any more.
        moments: values of ``growth_ends`` to tune over; empty: it is as it is.
        arms: what is compared, the reference first: others follow its allocation.
        shortened: arms that are another one with a share of the FLOPs, and its learning rate.
        rate_at: the learning rate along the run, as a share of the largest.
        full: a network of full size, for the arm ``full``.
        tuning_steps: like ``steps``, for the runs that choose the rates; None: as many.
        neurons_per_unit: neurons that a growth may add for a difference of 1 in ``widths``; None:
            one for each width that grows.
        tuning_seeds: that choose the rates, and are not in the result.
        extensions: how often ``rates`` is made longer while the best one is at its edge.
        seeds: of the result, unless the command says how many.
    """

    name: str
    make: Callable[[int], nn.Module]
    draw: Callable[[int], Problem]
    widths: tuple[int, ...]
    steps: int
    rates: tuple[float, ...]
    optimizer: Callable[..., Optimizer] = FUSED_ADAM
    grown_widths: tuple[str, ...] = ("*",)
    blocks: tuple[int, ...] = ()
    growth_ends: float = 0.6
    moments: tuple[float, ...] = ()
    arms: tuple[str, ...] = SMALL_ARMS
    shortened: Mapping[str, Shortened] = field(default_factory=dict)
    rate_at: Callable[[Progress], float] = late_decay
    full: Callable[[], nn.Module] | None = None
    tuning_steps: int | None = None
    neurons_per_unit: int | None = None
    tuning_seeds: tuple[int, ...] = (900, 901)
    extensions: int = 3
    seeds: int = 5


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
