"""Does the model's own code carry what coupling found? Grow every width on the meta device and watch once more.

Three things can go wrong; ``settle`` says what is tried then. A reshape with a number in it (``view(-1, 512)``) cannot
follow its neurons: the run fails there, and everything that modules of that kind reshape is to blame. Or it does not
fail but cuts neurons apart, and the grid must grow in another direction. Or the copies do not arrive where IndexMaps
expect them (a channel shuffle of indistinguishable neurons): then somewhere two different copies are united.
"""

import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxgrow.capture import first_line
from fxgrow.coupling.changes import change_maps, set_attributes
from fxgrow.coupling.grids import Direction
from fxgrow.coupling.labels import FIXED, Ints, Pin
from fxgrow.coupling.meta_copy import meta_copy
from fxgrow.coupling.trace import attach_values, run_once
from fxgrow.coupling.values import Axis, Context, Observed
from fxgrow.coupling.widths import Coupling, NeuronClasses
from fxgrow.errors import GrowthError
from fxgrow.surgery import (
    Change,
    IndexMap,
    Maps,
    apply_maps,
    has_size_attributes,
    named_tensors,
    resize,
)

MIXED_ORDER = "the model mixes copies of its neurons, so there is no order in which to insert them"


@dataclass(frozen=True)
class TrialFailure:
    """What a trial shows to be impossible: grid directions and labels to give up.

    ``mixed``: the labels of neurons whose copies arrived elsewhere than the standard order says.
    """

    banned: frozenset[Direction] = frozenset()
    pins: tuple[Pin, ...] = ()
    mixed: Ints = field(default_factory=lambda: np.empty(0, np.int64))


def trial_growth(
    subject: Observed, ctx: Context, classes: NeuronClasses, coupling: Coupling
) -> TrialFailure | None:
    """Split every growable neuron on the meta device and run the model; None if all is well.

    The last neuron of each width is split in three, since that is where fresh neurons go.
    """
    bare = meta_copy(subject.model)
    changes = {
        n: Change((2,) * (w.size - 1) + (3,)) for n, w in enumerate(coupling.widths) if w.growable
    }
    found = named_tensors(bare)
    try:
        maps = {key: m for key, m in change_maps(coupling, changes).items() if key[0] in found}
    except GrowthError as mixed:
        labels = np.flatnonzero(np.isin(classes.of, _singly(coupling)))
        return TrialFailure(pins=(Pin(labels, "order", str(mixed), ""),))
    resize(bare, maps)
    set_attributes(bare, coupling, changes)
    trial = Context(numbers=ctx.numbers)
    trial.labels.count = _first_fresh(classes)
    _label_copies(trial, bare, ctx.axes, classes, maps, _singly(coupling))
    watch = not (
        ctx.steady and _on_meta(bare, subject)
    )  # what never moves cannot be misplaced: shapes suffice
    for training, before in ctx.modes(subject).items():
        attach_values(trial, bare, _resized_numbers(ctx, subject.model, maps))
        error = run_once(trial, bare, subject, training, watch)
        if error is not None:
            return attribute_failure(ctx, subject.model, classes, trial.modules[-1], _where(error))
        after = trial.passes[subject][training]
        if before != after:
            return attribute_failure(
                ctx,
                subject.model,
                classes,
                "",
                f"the output's shape changes from {before} to {after}",
            )
    return _torn(trial, ctx, classes) or _misplaced(trial, classes)


def _on_meta(bare: nn.Module, subject: Observed) -> bool:
    """Whether no number is involved, so that the model runs without an observer to compute it."""
    inputs = (leaf for leaf in tree_leaves(subject.example_inputs) if isinstance(leaf, Tensor))
    return all(one.is_meta for one in named_tensors(bare).values()) and all(
        one.is_floating_point() for one in inputs
    )


def _singly(coupling: Coupling) -> Ints:
    """The classes whose order a replay finds and checks; here they are nobody's."""
    return coupling.replay.classes if coupling.replay else np.empty(0, np.int64)


def _resized_numbers(ctx: Context, model: nn.Module, maps: Maps) -> dict[str, Tensor]:
    """The numbers of the grown model: its function is the old one, so its tokens take the same ways."""
    if not ctx.numbers:
        return {}
    axes: dict[str, dict[int, IndexMap]] = defaultdict(dict)
    for (name, axis), index_map in maps.items():
        axes[name][axis] = index_map
    return {
        name: apply_maps(tensor.detach(), axes[name])
        for name, tensor in named_tensors(model).items()
    }


def _first_fresh(classes: NeuronClasses) -> int:
    """In a trial, copy number c of class n has label 4 (n + 1) + c; this is the first label after all those."""
    return 4 * (len(classes.blame) + 1)


def _label_copies(
    trial: Context,
    bare: nn.Module,
    axes: Sequence[Axis],
    classes: NeuronClasses,
    maps: Maps,
    nobodys: Ints,
) -> None:
    """Label every index with its class and the number of its copy."""
    found = named_tensors(bare)
    by_name: dict[str, list[Axis]] = {}
    for axis in axes:
        index_map = maps.get((axis.parameter, axis.axis))
        of = classes.of[axis.labels]
        labels = 4 * (of + 1)  # see _first_fresh
        copies = 0 if index_map is None else index_map.copy.numpy()
        if index_map is not None:
            of, labels = of[index_map.source.numpy()], labels[index_map.source.numpy()]
        labels = np.where(np.isin(of, nobodys), FIXED, labels + copies)
        by_name.setdefault(axis.parameter, []).append(replace(axis, labels=labels))
    for name, mine in by_name.items():
        if name in found:
            trial.label(found[name], tuple(mine))


def _torn(trial: Context, ctx: Context, classes: NeuronClasses) -> TrialFailure | None:
    """The grid directions in which the model's own code does not follow, but cuts neurons apart.

    In a trial all cells of a line are copies of one neuron, so a grid that can grow looks like a vector: what is still
    seen as a grid there is cut in the wrong places (``view(2, -1)`` when the 2 should have become 4).
    """
    seen = np.concatenate(
        [np.empty(0, np.int64), *(grid.joint.reshape(-1) for grid in trial.grids)]
    )
    torn = np.unique(seen[(seen >= 4) & (seen < _first_fresh(classes))] // 4 - 1)
    torn = torn[classes.blame[torn] < 0]
    chosen = classes.decision.chosen.items()
    banned = frozenset(
        (n, d) for n, d in chosen if np.isin(classes.of[ctx.grids[n].joint], torn).any()
    )
    labels = np.concatenate(
        [np.empty(0, np.int64), *(ctx.grids[n].joint.reshape(-1) for n, _ in banned)]
    )
    return TrialFailure(banned, mixed=labels) if banned else None


def _misplaced(trial: Context, classes: NeuronClasses) -> TrialFailure | None:
    """The neurons of which two different copies were united."""
    if not trial.labels.pairs:
        return None
    left, right = (np.concatenate(side) for side in zip(*trial.labels.pairs, strict=True))
    ours = (np.minimum(left, right) >= 4) & (np.maximum(left, right) < _first_fresh(classes))
    bad = (left != right) & ours
    if not bad.any():
        return None
    labels = np.flatnonzero(np.isin(classes.of, np.concatenate([left[bad], right[bad]]) // 4 - 1))
    return TrialFailure(pins=(Pin(labels, "order", MIXED_ORDER, ""),), mixed=labels)


def _where(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{first_line(error)} ({Path(last.filename).name}:{last.lineno})"


def attribute_failure(
    ctx: Context, model: nn.Module, classes: NeuronClasses, place: str, message: str
) -> TrialFailure:
    """What to give up after a run that failed in module ``place``: what modules of that kind reshape.

    If they reshape nothing that grows, their surroundings are blamed, one level after the other.
    """
    kinds = {name: type(module) for name, module in model.named_modules()}
    reason = f"the model's own code cannot run with another size: {message}"
    inside = place
    while inside and has_size_attributes(
        kinds[inside]
    ):  # its sizes are its parameters' own, so the module around it is to blame
        inside = inside.rpartition(".")[0]
    while True:
        same = (
            {name for name, kind in kinds.items() if kind is kinds[inside]}
            if inside
            else kinds.keys()
        )
        chosen = classes.decision.chosen.items()
        banned = {
            (n, d)
            for n, d in chosen
            if ctx.grids[n].module in same and classes.free(ctx.grids[n].joint)
        }
        if banned:
            return TrialFailure(frozenset(banned))
        labels = [e.labels for e in ctx.shape_events if e.module in same and classes.free(e.labels)]
        if labels or not inside:
            labels = labels or [axis.labels for axis in ctx.axes]
            return TrialFailure(
                pins=(Pin(np.concatenate(labels), "fixed-code", reason, place or "model"),)
            )
        inside = inside.rpartition(".")[0]
