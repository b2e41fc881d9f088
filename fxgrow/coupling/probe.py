"""Does the model's own code carry what coupling found? Grow every width on the meta device and watch once more.

Two things can go wrong. A reshape with a number in it (``view(-1, 512)``, ``num_heads`` in an attribute) cannot follow
its neurons: the run fails there, and everything that modules of that kind reshape is refused. Or the copies do not
arrive where IndexMaps expect them (a channel shuffle of indistinguishable neurons): then somewhere two different
copies are united, and their neurons are refused.
"""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fxgrow.coupling.grids import Direction
from fxgrow.coupling.labels import Pin
from fxgrow.coupling.trace import Run, meta_inputs, run_once, skeleton
from fxgrow.coupling.values import Axis, Context, Role
from fxgrow.coupling.widths import Classes, Coupling
from fxgrow.surgery.index_map import Change, IndexMap, axis_map
from fxgrow.surgery.resize import Maps, resize, tensors


MIXED = "the model mixes copies of its neurons, so there is no order in which to insert them"


@dataclass(frozen=True)
class Failure:
    """Where a trial run failed: the path of the innermost module that was running, and what it said."""

    module: str
    message: str


def change_maps(coupling: Coupling, changes: Mapping[int, Change]) -> dict[tuple[str, int], IndexMap]:
    """The IndexMap of every axis that the changed widths (by number) reach."""
    reads = {site.key for width in coupling.widths for site in width.sites if site.role is Role.READS}
    by_axis: dict[tuple[str, int], dict[int, Change]] = {}
    for number, change in changes.items():
        for site in coupling.widths[number].sites:
            by_axis.setdefault(site.key, {})[number] = change
    owners = coupling.owners
    return {key: axis_map(owners[key].width, owners[key].neuron, mine, key in reads) for key, mine in by_axis.items()}


def try_growing(
    model: nn.Module, example_inputs: tuple[Any, ...], run: Run, ctx: Context, classes: Classes, coupling: Coupling
) -> Failure | Pin | None:
    """Split every growable neuron on the meta device and run the model: a failed run, misplaced neurons, or None.

    The last neuron of each width is split in three, since that is where fresh neurons go.
    """
    bare = skeleton(model)
    changes = {n: Change((2,) * (w.size - 1) + (3,)) for n, w in enumerate(coupling.widths) if w.growable}
    found = tensors(bare)
    maps = {key: m for key, m in change_maps(coupling, changes).items() if key[0] in found}
    resize(bare, maps)
    trial = Context()
    trial.labels.count = 4 * (int(classes.of.max()) + 2)
    _label_copies(trial, bare, ctx.axes, classes, maps)
    error = run_once(trial, bare, meta_inputs(example_inputs), run, ctx.training)
    if error is not None:
        return Failure(trial.modules[-1], _where(error))
    if trial.outputs != ctx.outputs[-len(trial.outputs) :]:
        return Failure("", f"the output's shape changes from {ctx.outputs} to {trial.outputs}")
    return _misplaced(trial, classes)


def _label_copies(trial: Context, bare: nn.Module, axes: Sequence[Axis], classes: Classes, maps: Maps) -> None:
    """Label every index with its class and the number of its copy."""
    found = tensors(bare)
    by_name: dict[str, list[Axis]] = {}
    for axis in axes:
        index_map = maps.get((axis.parameter, axis.axis))
        labels = 4 * (classes.of[axis.labels] + 1)
        if index_map is not None:
            labels = labels[index_map.source.numpy()] + index_map.copy.numpy()
        by_name.setdefault(axis.parameter, []).append(Axis(axis.parameter, axis.axis, labels))
    for name, mine in by_name.items():
        if name in found:
            trial.label(found[name], tuple(mine))


def _misplaced(trial: Context, classes: Classes) -> Pin | None:
    """The neurons of which two different copies were united."""
    size = 4 * (int(classes.of.max()) + 2)
    if not trial.labels.pairs:
        return None
    left, right = (np.concatenate(side) for side in zip(*trial.labels.pairs, strict=True))
    ours = (np.minimum(left, right) >= 4) & (np.maximum(left, right) < size)  # not FIXED, not fresh in the trial
    bad = (left != right) & ours
    if not bad.any():
        return None
    labels = np.flatnonzero(np.isin(classes.of, np.concatenate([left[bad], right[bad]]) // 4 - 1))
    return Pin(labels, "order", MIXED, "")


def _where(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{what} ({Path(last.filename).name}:{last.lineno})"


def blame(ctx: Context, model: nn.Module, classes: Classes, failure: Failure) -> tuple[set[Direction], list[Pin]]:
    """The grid directions and labels to give up after a failed trial: what modules of the failing kind reshape.

    If the failing module reshapes nothing that grows, its surroundings are blamed, one level after the other.
    """
    kinds = {name: type(module) for name, module in model.named_modules()}
    place = failure.module
    while True:
        same = {name for name, kind in kinds.items() if kind is kinds[place]} if place else {""}
        directions = {(n, d) for n, d in classes.decision.chosen.items() if ctx.grids[n].module in same}
        directions = {(n, d) for n, d in directions if classes.free(ctx.grids[n].joint)}
        if directions:
            return directions, []
        events = [e.labels for e in ctx.shape_events if (e.module in same or not place)]
        labels = [one for one in events if classes.free(one)]
        if labels or not place:
            return set(), [_pin(labels or _everything(ctx), failure)]
        place = place.rpartition(".")[0]


def _everything(ctx: Context) -> list[Any]:
    return [axis.labels for axis in ctx.axes]


def _pin(labels: Sequence[Any], failure: Failure) -> Pin:
    reason = f"the model's own code cannot run with another size: {failure.message}"
    return Pin(np.concatenate(labels), "fixed-code", reason, failure.module or "model")
