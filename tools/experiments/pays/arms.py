"""The arms: what happens to a network when its time to grow has come."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

import fxgrow
from fxgrow.growth import Budget, Method
from fxgrow.methods import Firefly, GradientPool, RandomGrowth, Splitting
from tools.experiments.pays.flops import FlopCounter
from tools.experiments.pays.tasks import Batch, Problem

Allocation = Mapping[str, int]
"""Neurons that each width gains."""


class Grown(NamedTuple):
    """A grown network and what the growth cost."""

    model: nn.Module
    allocation: Allocation
    flops: int
    seconds: float


@dataclass(frozen=True)
class Moment:
    """What an arm may use when it grows.

    Args:
        problem: gives the growth batches and the loss.
        neurons: how many to add in all.
        allocation: the neurons that the reference arm gave to each width.
        seed: of random choices.
    """

    problem: Problem
    neurons: int
    allocation: Allocation
    seed: int

    def batches(self, count: int) -> list[Batch]:
        """Take batches off the stream, so that none is used twice."""
        return [next(self.problem.train) for _ in range(count)]


Grow = Callable[[nn.Module, Moment], Grown]


def by_method(method: Method, num_batches: int) -> Grow:
    """Growth that chooses its own allocation."""

    def grow(model: nn.Module, moment: Moment) -> Grown:
        batches = moment.batches(num_batches)
        started = time.process_time()
        with FlopCounter() as counter:
            growth = fxgrow.grow(
                model,
                batches,
                moment.problem.loss_fn,
                example_inputs=batches[0][0],
                method=method,
                budget=Budget(neurons=moment.neurons),
                seed=moment.seed,
                accept_no_gain=True,
            )
        seconds = time.process_time() - started
        allocation: dict[str, int] = {}
        for change in growth.report.widths:
            allocation[change.width] = change.after - change.before
        return Grown(growth.module, allocation, counter.total, seconds)

    return grow


def by_widening(how: str) -> Grow:
    """Exact growth without a search, in the reference arm's allocation."""

    def grow(model: nn.Module, moment: Moment) -> Grown:
        (batch,) = moment.batches(1)
        started = time.process_time()
        with FlopCounter() as counter:
            wider = fxgrow.widen(model, moment.allocation, batch[0], how=how, seed=moment.seed)
        seconds = time.process_time() - started
        return Grown(wider.module, moment.allocation, counter.total, seconds)

    return grow


GROWN_ARMS: dict[str, Grow] = {
    "firefly": by_method(Firefly(new=20), 4),
    "pool": by_method(GradientPool(), 4),
    "random": by_method(RandomGrowth(new=20), 4),
    "splitting": by_method(Splitting(), 4),
    "zero": by_widening("new"),
    "net2net": by_widening("split"),
}
UNGROWN_ARMS: Sequence[str] = ("scratch", "narrow")
