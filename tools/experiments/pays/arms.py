"""The arms: what happens to a network when its time to grow has come."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import nn
from torch.optim import Optimizer

import fxgrow
from fxgrow.growth import Budget, Method
from fxgrow.growth.deepen import HowToDeepen
from fxgrow.methods import (
    NASH,
    Auto,
    AutoGrow,
    FastSplitting,
    Firefly,
    GradMax,
    Net2Deeper,
    Net2Wider,
    RandomGrowth,
    Splitting,
    ZeroOutgoing,
)
from fxgrow.surgery import DEFAULT_STATE, STATE_RULES, StateRuleName
from tools.experiments.pays.flops import FlopCounter
from tools.experiments.pays.task import Batch, Problem

BLOCKS = "blocks"
"""The path of the list of residual blocks, in networks that get deeper."""

Allocation = Mapping[str, int]
"""Neurons that each width gains."""


class Grown(NamedTuple):
    """A grown network and what the growth cost; without an optimizer, a new one is begun.

    ``seconds`` are of the processor, ``wall`` those of the clock.
    """

    model: nn.Module
    allocation: Allocation
    flops: int
    seconds: float
    wall: float
    optimizer: Optimizer | None = None


@dataclass(frozen=True)
class Moment:
    """What an arm may use when it grows.

    Args:
        problem: gives the growth batches and the loss.
        widths: the names of the widths that may grow.
        neurons: how many to add to all of them together.
        blocks: how many residual blocks to add.
        allocation: the neurons that the reference arm gave to each width; none: as many to each.
        optimizer: of the model.
        seed: of random choices.
    """

    problem: Problem
    widths: Sequence[str]
    neurons: int
    blocks: int
    allocation: Allocation
    optimizer: Optimizer
    seed: int

    @property
    def amounts(self) -> Allocation:
        """How many neurons each width gains where the arm does not choose."""
        return self.allocation or dict.fromkeys(self.widths, self.neurons // len(self.widths))

    def goes_on(self, state: StateRuleName | None) -> dict[str, Any]:
        """The optimizer and the rule by which it goes on; nothing if there is none."""
        return {} if state is None else {"optimizer": self.optimizer, "state": state}

    def batches(self, count: int) -> list[Batch]:
        """Take batches off the stream, so that none is used twice."""
        return [next(self.problem.train) for _ in range(count)]


Grow = Callable[[nn.Module, Moment], Grown]


def by_method(
    method: Method,
    num_batches: int,
    layers: int | None = None,
    state: StateRuleName | None = None,
) -> Grow:
    """Growth that chooses its own allocation.

    Args:
        method: chooses what grows.
        num_batches: growth batches.
        layers: how many it may insert; None: as many as the method proposes.
        state: the rule by which the optimizer goes on; None: it begins anew.
    """

    def grow(model: nn.Module, moment: Moment) -> Grown:
        batches = moment.batches(num_batches)
        clock, started = time.perf_counter(), time.process_time()
        with FlopCounter() as counter:
            growth = fxgrow.grow(
                model,
                batches,
                moment.problem.loss_fn,
                example_inputs=batches[0][0],
                method=method,
                budget=Budget(neurons=moment.neurons, layers=layers),
                seed=moment.seed,
                accept_no_gain=True,
                **moment.goes_on(state),
            )
        seconds, wall = time.process_time() - started, time.perf_counter() - clock
        allocation: dict[str, int] = {}
        for change in growth.report.widths:
            allocation[change.width] = change.after - change.before
        return Grown(growth.module, allocation, counter.total, seconds, wall, growth.optimizer)

    return grow


def by_widening(how: Literal["split", "new"], state: StateRuleName | None = None) -> Grow:
    """Exact growth without a search, in the reference arm's allocation.

    Args:
        how: what is new.
        state: the rule by which the optimizer goes on; None: it begins anew.
    """

    def grow(model: nn.Module, moment: Moment) -> Grown:
        (batch,) = moment.batches(1)
        clock, started = time.perf_counter(), time.process_time()
        with FlopCounter() as counter:
            kept = moment.goes_on(state)
            wider = fxgrow.widen(model, moment.amounts, batch[0], how, moment.seed, **kept)
        seconds, wall = time.process_time() - started, time.perf_counter() - clock
        return Grown(wider.module, moment.amounts, counter.total, seconds, wall, wider.optimizer)

    return grow


def by_deepening(how: HowToDeepen) -> Grow:
    """Growth in depth, and in width where the task says so: zero-outgoing neurons, then blocks.

    The optimizer goes on; what is new in it begins from nothing.

    Args:
        how: what new blocks are.
    """

    def grow(model: nn.Module, moment: Moment) -> Grown:
        (batch,) = moment.batches(1)
        clock, started = time.perf_counter(), time.process_time()
        optimizer: Optimizer | None = moment.optimizer
        with FlopCounter() as counter:
            if moment.neurons > 0:
                kept = moment.goes_on("reset-grown")
                wider = fxgrow.widen(model, moment.amounts, batch[0], "new", moment.seed, **kept)
                model, optimizer = wider.module, wider.optimizer
            more = {BLOCKS: moment.blocks}
            deeper = fxgrow.deepen(
                model, more, batch[0], how, seed=moment.seed, optimizer=optimizer
            )
        seconds, wall = time.process_time() - started, time.perf_counter() - clock
        # No allocation of widths describes a deeper network: scratch is what the task makes.
        return Grown(deeper.module, {}, counter.total, seconds, wall, deeper.optimizer)

    return grow


SMALL: dict[str, Grow] = {
    # What fxgrow.grow does when nothing else is said.
    "default": by_method(Auto(), 4, state=DEFAULT_STATE),
    "firefly": by_method(Firefly(new=20), 4, state=DEFAULT_STATE),
    "random": by_method(RandomGrowth(new=20), 4, state=DEFAULT_STATE),
    "splitting": by_method(Splitting(), 4, state=DEFAULT_STATE),
    "zero": by_widening("new", DEFAULT_STATE),
    "net2net": by_widening("split", DEFAULT_STATE),
    **{f"zero, {state}": by_widening("new", state) for state in STATE_RULES},
}
"""For networks of a few neurons: few growth batches."""

BATCHES = 16
"""Growth batches of the paper's experiments: 8 to search on, 4 to score on, 4 held out."""
PAPER: dict[str, Grow] = {
    "firefly default": by_method(Firefly(), BATCHES),
    # m' = 50; one pass of step one, three points in step two, and no refinement after it.
    "firefly paper": by_method(Firefly(new=50, steps=BATCHES // 2, refine_steps=0), BATCHES),
    # A pass per weight of a neuron: half of the batches, or the search would take all FLOPs.
    "splitting exact": by_method(Splitting(), BATCHES // 2),
    "splitting fast": by_method(FastSplitting(), BATCHES),
    "net2net uniform": by_method(Net2Wider(), BATCHES),
    "zero uniform": by_method(ZeroOutgoing(), BATCHES),
    "random default": by_method(RandomGrowth(), BATCHES),
    "gradmax": by_method(GradMax(), BATCHES),
    # As many batches as one child takes steps.
    "nash": by_method(NASH(layers=0), NASH().steps + BATCHES),
}
"""Widths of larger networks, everything by methods that choose their own allocation."""

DEPTH: dict[str, Grow] = {
    "firefly layers": by_method(Firefly(split=False, new=0, layers=8), BATCHES, layers=1),
    "autogrow": by_method(AutoGrow(layers=8), BATCHES),
    "net2deeper": by_method(Net2Deeper(layers=8), BATCHES, layers=1),
    "nash layers": by_method(NASH(layers=8, wider=0.25), NASH().steps + BATCHES, layers=1),
}
"""Layers: one at a time."""

WAYS_TO_DEEPEN: tuple[HowToDeepen, ...] = ("new", "copied", "stack")
DEEPER: dict[str, Grow] = {f"blocks, {how}": by_deepening(how) for how in WAYS_TO_DEEPEN}
"""Blocks of the network's own kind."""

GROWN_ARMS: dict[str, Grow] = {**SMALL, **PAPER, **DEPTH, **DEEPER}
