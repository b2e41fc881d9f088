"""What neurons cost in time, measured on the device where the model is."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any

import torch
from torch import nn

from fxgrow.coupling import Coupling, Width, change_maps
from fxgrow.surgery import Change, named_tensors, resize

MICROSECONDS = 1e6
WARM_UP, FEWEST, MOST = 2, 7, 41
"""Passes before timing starts, and the bounds of the number of timed rounds."""

_MIN_MICROSECONDS = 0.1
"""The least a neuron costs, as a share of what neurons cost on average."""

MAX_ROUNDS = 1.0
"""Seconds that timing one pair of models may take, within those bounds."""


@dataclass(frozen=True)
class LatencyCost:
    """Microseconds of one pass in evaluation mode over the example inputs.

    ``present``: the median of all passes of the model as it is; ``slopes[width]``: what one more neuron adds, a linear
    model fitted to a width of twice the size. It knows nothing of both ends of a layer growing, nor of sizes that the
    device likes; hence ``measured``, which times the grown model itself.
    """

    current: float
    slopes: Mapping[int, float]
    model: nn.Module = field(repr=False)
    coupling: Coupling = field(repr=False)
    example_inputs: tuple[Any, ...] = field(repr=False)

    def estimate(self, counts: Mapping[int, int]) -> float:
        """By the linear model."""
        return sum(self.slopes[width] * count for width, count in counts.items())

    def measure(self, counts: Mapping[int, int]) -> float:
        """By timing the model with copies of its neurons beside the model as it is."""
        return _difference(self.model, self.coupling, counts, self.example_inputs)[1]


def measure_latency(
    model: nn.Module, coupling: Coupling, example_inputs: tuple[Any, ...]
) -> LatencyCost:
    """Time every growable width at twice its size (less would drown in noise) beside the model as it is.

    No width costs less than ``NEARLY_FREE`` says: a clock that could not see a difference must not
    make a width free.
    """
    base, slopes = [], {}
    for number, width in enumerate(coupling.widths):
        if width.growable:
            current, estimate = _difference(model, coupling, {number: width.size}, example_inputs)
            base.append(current)
            slopes[number] = max(0.0, estimate / width.size)
    least = _MIN_MICROSECONDS * mean(slopes.values())
    return LatencyCost(
        median(base),
        {n: max(least, slope) for n, slope in slopes.items()},
        model,
        coupling,
        example_inputs,
    )


def _difference(
    model: nn.Module, coupling: Coupling, counts: Mapping[int, int], example_inputs: tuple[Any, ...]
) -> tuple[float, float]:
    """Microseconds of the model, and how many more the model with these neurons added takes.

    Both run in turn, so that whatever else the machine does hits both; medians over the rounds.
    """
    grown = copy.deepcopy(model)
    changes = {
        number: _copies(coupling.widths[number], count) for number, count in counts.items() if count
    }
    found = named_tensors(grown)
    resize(grown, {key: m for key, m in change_maps(coupling, changes).items() if key[0] in found})
    pair = (model, grown)
    warm = [_seconds(one, example_inputs) for _ in range(WARM_UP) for one in pair]
    rounds = min(MOST, max(FEWEST, int(MAX_ROUNDS / sum(warm[-2:]))))
    times = [[_seconds(one, example_inputs) for one in pair] for _ in range(rounds)]
    return (
        median(before for before, _ in times) * MICROSECONDS,
        median(after - before for before, after in times) * MICROSECONDS,
    )


def _copies(width: Width, count: int) -> Change:
    """Every neuron as often as it takes, the first ones once more."""
    every, more = divmod(count, width.size)
    return Change(tuple(1 + every + (neuron < more) for neuron in range(width.size)))


def _seconds(model: nn.Module, example_inputs: tuple[Any, ...]) -> float:
    """Seconds of one pass; the model is in evaluation mode.

    If one CPU thread does all the work it is that thread's own time, which other processes do not lengthen.
    """
    device = next(iter(model.parameters())).device
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter
    with torch.no_grad():
        _wait(device)
        start = clock()
        model(*example_inputs)
        _wait(device)
        return clock() - start


def _wait(device: torch.device) -> None:
    """Accelerators work on while Python goes ahead."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
