"""What neurons cost in time, measured on the device where the model is."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any

import torch
from torch import nn

from fxgrow.copying import copy_module
from fxgrow.coupling import Coupling, Width, change_maps, set_attributes
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

    The estimate is a linear model. It knows nothing of both ends of a layer growing, nor of sizes
    that the device likes; hence ``measure``, which times the grown model itself.

    Args:
        current: the median of all passes of the model as it is.
        slopes: per number of a width, what one more neuron adds, from a width of twice the size.
        model: the model as it is.
        coupling: its widths.
        example_inputs: what it is timed on.
    """

    current: float
    slopes: Mapping[int, float]
    model: nn.Module = field(repr=False)
    coupling: Coupling = field(repr=False)
    example_inputs: tuple[Any, ...] = field(repr=False)

    def estimate(self, counts: Mapping[int, int]) -> float:
        """Microseconds by the linear model."""
        return sum(self.slopes[width] * count for width, count in counts.items())

    def measure(self, counts: Mapping[int, int]) -> float:
        """Microseconds by timing a model with copies of its neurons beside the model as it is."""
        return _difference(self.model, self.coupling, counts, self.example_inputs)[1]


def measure_latency(
    model: nn.Module, coupling: Coupling, example_inputs: tuple[Any, ...]
) -> LatencyCost:
    """Time every growable width at twice its size beside the model as it is.

    Fewer neurons would drown in noise. No width costs less than ``_MIN_MICROSECONDS`` of the mean
    cost: a clock that could not see a difference must not make a width free.

    Args:
        model: the model.
        coupling: its widths.
        example_inputs: what it is timed on.

    Returns:
        A linear cost model.
    """
    base_times: list[float] = []
    slopes: dict[int, float] = {}
    for number, width in enumerate(coupling.widths):
        if width.growable:
            # Twice as many neurons: fewer would be lost in the noise of the clock.
            base, added = _difference(model, coupling, {number: width.size}, example_inputs)
            base_times.append(base)
            # By noise a wider layer may seem faster.
            slopes[number] = max(0.0, added / width.size)
    # A width that costs nothing would be chosen without end.
    least = _MIN_MICROSECONDS * mean(slopes.values())
    for number, slope in slopes.items():
        slopes[number] = max(least, slope)
    return LatencyCost(median(base_times), slopes, model, coupling, example_inputs)


def _difference(
    model: nn.Module, coupling: Coupling, counts: Mapping[int, int], example_inputs: tuple[Any, ...]
) -> tuple[float, float]:
    """Microseconds of the model, and how many more the model with these neurons added takes.

    Both run in turn, so that whatever else the machine does hits both; medians over the rounds.
    """
    grown = copy_module(model)
    changes: dict[int, Change] = {}
    for number, count in counts.items():
        if count:
            changes[number] = _copies(coupling.widths[number], count)
    present = named_tensors(grown)
    maps = change_maps(coupling, changes)
    resize(grown, {key: index_map for key, index_map in maps.items() if key[0] in present})
    set_attributes(grown, coupling, changes)
    last_pair = 0.0
    for _ in range(WARM_UP):
        last_pair = _seconds(model, example_inputs) + _seconds(grown, example_inputs)
    # As many rounds as the time allows.
    rounds = min(MOST, max(FEWEST, int(MAX_ROUNDS / last_pair)))
    base_times: list[float] = []
    differences: list[float] = []
    for _ in range(rounds):
        base = _seconds(model, example_inputs)
        base_times.append(base)
        differences.append(_seconds(grown, example_inputs) - base)
    return median(base_times) * MICROSECONDS, median(differences) * MICROSECONDS


def _copies(width: Width, count: int) -> Change:
    """Copy every neuron equally often, the first ones once more."""
    every, more = divmod(count, width.size)
    times = []
    for neuron in range(width.size):
        times.append(1 + every + (neuron < more))
    return Change(tuple(times))


def _seconds(model: nn.Module, example_inputs: tuple[Any, ...]) -> float:
    """Seconds of one pass; the model is in evaluation mode.

    If one CPU thread does all the work it is that thread's own time, which other processes do not
    lengthen.
    """
    device = next(iter(model.parameters())).device
    is_single_thread = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if is_single_thread else time.perf_counter
    with torch.no_grad():
        _synchronize(device)
        start = clock()
        model(*example_inputs)
        _synchronize(device)
        return clock() - start


def _synchronize(device: torch.device) -> None:
    """Wait for an accelerator, which works on while Python goes ahead."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
