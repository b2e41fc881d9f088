"""The arms: what happens to a network when its time to grow has come."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import nn
from torch.optim import Optimizer

import fxgrow
from fxgrow.growth import Budget, Method
from fxgrow.methods import Firefly, GradientPool, RandomGrowth, Splitting
from fxgrow.surgery import STATE_RULES, StateRuleName
from tools.experiments.pays.flops import FlopCounter
from tools.experiments.pays.task import Batch, Problem

Allocation = Mapping[str, int]
"""Neurons that each width gains."""


class Grown(NamedTuple):
    """A grown network and what the growth cost; without an optimizer, a new one is begun."""

    model: nn.Module
    allocation: Allocation
    flops: int
    seconds: float
    optimizer: Optimizer | None = None


@dataclass(frozen=True)
class Moment:
    """What an arm may use when it grows.

    Args:
        problem: gives the growth batches and the loss.
        widths: the names of the widths that may grow.
        neurons: how many to add to all of them together.
        allocation: the neurons that the reference arm gave to each width; none: as many to each.
        optimizer: of the model.
        seed: of random choices.
    """

    problem: Problem
    widths: Sequence[str]
    neurons: int
    allocation: Allocation
    optimizer: Optimizer
    seed: int

    @property
    def amounts(self) -> Allocation:
        """How many neurons each width gains where the arm does not choose."""
        return self.allocation or dict.fromkeys(self.widths, self.neurons // len(self.widths))

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


def by_widening(how: Literal["split", "new"], state: StateRuleName | None = None) -> Grow:
    """Exact growth without a search, in the reference arm's allocation.

    Args:
        how: what is new.
        state: the rule by which the optimizer goes on; None: it begins anew.
    """

    def grow(model: nn.Module, moment: Moment) -> Grown:
        (batch,) = moment.batches(1)
        started = time.process_time()
        kept = {} if state is None else {"optimizer": moment.optimizer, "state": state}
        with FlopCounter() as counter:
            wider = fxgrow.widen(model, moment.amounts, batch[0], how, moment.seed, **kept)
        seconds = time.process_time() - started
        return Grown(wider.module, moment.amounts, counter.total, seconds, wider.optimizer)

    return grow


GROWN_ARMS: dict[str, Grow] = {
    "firefly": by_method(Firefly(new=20), 4),
    # As many candidates as the results in docs/results were made with.
    "pool": by_method(GradientPool(new=64), 4),
    "random": by_method(RandomGrowth(new=20), 4),
    "splitting": by_method(Splitting(), 4),
    "zero": by_widening("new"),
    "net2net": by_widening("split"),
    **{f"zero, {state}": by_widening("new", state) for state in STATE_RULES},
}
