"""Does the model's own code carry what coupling found? Grow every width on the meta device and watch once more.

Two things can go wrong. A reshape with a number in it (``view(-1, 512)``, ``num_heads`` in an attribute) cannot follow
its neurons: the run fails there, and everything that modules of that kind reshape is refused. Or the copies do not
arrive where IndexMaps expect them (a channel shuffle of indistinguishable neurons): then somewhere two different
copies are united, and their neurons are refused.
"""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fxgrow.coupling.grids import Direction
from fxgrow.coupling.labels import Pin
from fxgrow.coupling.trace import Run, meta_inputs, run_once, skeleton
from fxgrow.coupling.values import Axis, Context
from fxgrow.coupling.widths import Classes, Coupling, Role
from fxgrow.surgery.index_map import Change, IndexMap, axis_map
from fxgrow.surgery.resize import Maps, resize, tensors


@dataclass(frozen=True)
class Failure:
    """Where a trial run failed: the path of the innermost module that was running, and what it said."""

    module: str
    message: str


def change_maps(coupling: Coupling, changes: dict[int, Change]) -> dict[tuple[str, int], IndexMap]:
    """The IndexMap of every axis that the changed widths (by number) reach."""
    maps = {}
    reads = {site.key for width in coupling.widths for site in width.sites if site.role is Role.READS}
    for key, owners in coupling.owners.items():
        if set(np.unique(owners.width).tolist()) & changes.keys():
            pairs = list(zip(owners.width.tolist(), owners.neuron.tolist(), strict=True))
            maps[key] = axis_map(pairs, changes, key in reads)
    return maps


def try_growing(
    model: nn.Module, example_inputs: tuple[Any, ...], run: Run, ctx: Context, classes: Classes, coupling: Coupling
) -> Failure | Pin | None:
    """Split every growable neuron on the meta device and run the model: a failed run, misplaced neurons, or None.

    The last neuron of each width is split in three, since that is where fresh neurons go.
    """
    bare = skeleton(model)
    changes = {n: Change((2,) * (w.size - 1) + (3,)) for n, w in enumerate(coupling.widths) if w.growable}
    maps = change_maps(coupling, changes)
    resize(bare, {key: m for key, m in maps.items() if key[0] in tensors(bare)})
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
    bad = [pair[i][(pair[0] != pair[1]) & (pair[0] < size) & (pair[1] < size) & (pair[0] > 3) & (pair[1] > 3)] // 4 - 1
           for pair in trial.labels.pairs for i in (0, 1)]
    wrong = np.unique(np.concatenate([*bad, np.empty(0, np.int64)]))
    if not wrong.size:
        return None
    labels = np.flatnonzero(np.isin(classes.of, wrong))
    return Pin(labels, "order", "the model mixes copies of its neurons, so there is no order in which to insert them", "")


def _where(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{str(error).splitlines()[0] if str(error) else type(error).__name__} ({Path(last.filename).name}:{last.lineno})"


def blame(
    ctx: Context, model: nn.Module, coupling: Coupling, classes: Classes, failure: Failure
) -> tuple[set[Direction], list[Pin]]:
    """The grid directions and labels to give up after a failed trial: what modules of the failing kind reshape.

    If the failing module reshapes nothing that grows, its surroundings are blamed, one level after the other.
    """
    kinds = {name: type(module) for name, module in model.named_modules()}
    place = failure.module
    while True:
        same = {name for name, kind in kinds.items() if kind is kinds[place]} if place else {""}
        directions = {(n, d) for n, d in classes.decision.chosen.items() if ctx.grids[n].module in same}
        directions = {(n, d) for n, d in directions if _grows(ctx.grids[n].joint.reshape(-1), classes, coupling)}
        if directions:
            return directions, []
        events = [e.labels for e in ctx.shape_events if (e.module in same or not place)]
        labels = [one for one in events if _grows(one, classes, coupling)]
        if labels or not place:
            return set(), [_pin(labels or _everything(ctx), failure)]
        place = place.rpartition(".")[0]


def _grows(labels: Any, classes: Classes, coupling: Coupling) -> bool:
    """Whether some label is of a class that is not blamed for anything yet."""
    return any(one not in classes.blame for one in np.unique(classes.of[labels[labels > 0]]).tolist())


def _everything(ctx: Context) -> list[Any]:
    return [axis.labels for axis in ctx.axes]


def _pin(labels: Sequence[Any], failure: Failure) -> Pin:
    reason = f"the model's own code cannot run with another size: {failure.message}"
    return Pin(np.concatenate(labels), "fixed-code", reason, failure.module or "model")
