"""From what was observed to a coupling that a trial growth confirms.

A trial that fails shows what cannot grow as it was assumed to. Before it is given up, two remedies are tried: numbers
that the model's own code holds in attributes (``self.num_heads``) follow the neurons, and neurons whose copies arrive
elsewhere get their order from a replay. A remedy is kept if the next trial no longer complains of the same neurons.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from torch import nn

from fxgrow.coupling.grids import Direction
from fxgrow.coupling.labels import Ints, Pin
from fxgrow.coupling.patterns import Patterns
from fxgrow.coupling.trial import TrialFailure, trial_growth
from fxgrow.coupling.values import Context, Grid, Observed
from fxgrow.coupling.widths import Coupling, SizeAttributeGuess, Workarounds, build_widths, classify
from fxgrow.errors import InternalError

_MAX_TRIALS = 2
"""How many attributes of one kind of module may have to follow together (heads, and heads times head size)."""


@dataclass(frozen=True)
class _Assumed:
    """What is given up, and the remedies taken, so far."""

    banned: frozenset[Direction] = frozenset()
    pins: tuple[Pin, ...] = ()
    remedies: Workarounds = field(default_factory=Workarounds)

    def without(self, verdict: TrialFailure) -> "_Assumed":
        return replace(self, banned=self.banned | verdict.banned, pins=(*self.pins, *verdict.pins))


def resolve_coupling(ctx: Context, subject: Observed, patterns: Patterns) -> Coupling:
    """The neurons of the model that ``subject`` runs, refused where no trial of a growth succeeds."""
    assumed = _Assumed()
    coupling, verdict = _try(ctx, subject, patterns, assumed)
    for _ in range(len(ctx.grids) * 3 + len(ctx.shape_events) + 2):
        if verdict is None:
            return coupling
        given_up = assumed.without(verdict)
        for cured in _cures(ctx, subject.model, assumed, verdict):
            found, left = _try(ctx, subject, patterns, cured)
            if not _same_complaint(ctx, verdict, left):
                assumed, coupling, verdict = cured, found, left
                break
        else:
            assumed = given_up
            coupling, verdict = _try(ctx, subject, patterns, assumed)
    raise InternalError(f"the trial growth of {type(subject.model).__name__} never settles")


def _try(
    ctx: Context, subject: Observed, patterns: Patterns, assumed: _Assumed
) -> tuple[Coupling, TrialFailure | None]:
    classes = classify(ctx, assumed.banned, assumed.pins)
    coupling = build_widths(ctx, classes, patterns, subject, assumed.remedies)
    return coupling, trial_growth(subject, ctx, classes, coupling)


def _cures(
    ctx: Context, model: nn.Module, assumed: _Assumed, verdict: TrialFailure
) -> Iterator[_Assumed]:
    """What else could be assumed, the likeliest first."""
    known = assumed.remedies
    if len(verdict.mixed) and not ctx.numbers and not np.isin(verdict.mixed, known.mixed).all():
        mixed = np.union1d(known.mixed, verdict.mixed)
        yield replace(assumed, remedies=replace(known, mixed=mixed))
    taken = {(one.module, one.name) for one in known.attributes}
    for held in (*_held_sizes(ctx, model, verdict), *_own_sizes(ctx, model, verdict)):
        if not {(one.module, one.name) for one in held} & taken:
            yield replace(assumed, remedies=replace(known, attributes=(*known.attributes, *held)))


def _held_sizes(
    ctx: Context, model: nn.Module, verdict: TrialFailure
) -> Iterator[tuple[SizeAttributeGuess, ...]]:
    """The attributes that hold a banned grid's size along that direction, or the size of the whole grid.

    They are those of the modules that reshape it, alone and in pairs, the same ones in all modules of a kind.
    """
    banned = [(ctx.grids[number], direction) for number, direction in sorted(verdict.banned)]
    paths = dict(model.named_modules())
    banned = [
        (grid, d) for grid, d in banned if grid.module in paths and not _library(paths[grid.module])
    ]
    if not banned:
        return
    kind = type(paths[banned[0][0].module])
    same = [(grid, d) for grid, d in banned if type(paths[grid.module]) is kind]
    common = set.intersection(
        *(
            {name for name, value in _integers(paths[grid.module]) if value in _sizes(grid, d)}
            for grid, d in same
        )
    )
    for count in range(1, _MAX_TRIALS + 1):
        for names in combinations(sorted(common), count):
            yield tuple(
                SizeAttributeGuess(grid.module, name, grid.factors[d])
                for grid, d in same
                for name in names
            )


def _own_sizes(
    ctx: Context, model: nn.Module, verdict: TrialFailure
) -> Iterator[tuple[SizeAttributeGuess, ...]]:
    """The attributes that repeat a size of their own module's parameter (``nf`` of GPT-2's ``Conv1D``).

    They are those of the module that failed, the same one for the same axis in all modules of its kind.
    """
    paths = dict(model.named_modules())
    kinds = {
        type(paths[pin.node])
        for pin in verdict.pins
        if pin.node in paths and not _library(paths[pin.node])
    }
    own: dict[tuple[str, str, int], list[SizeAttributeGuess]] = defaultdict(list)
    alike = [path for path, module in paths.items() if type(module) in kinds]
    for axis in ctx.axes:
        path, _, leaf = axis.parameter.rpartition(".")
        if path in alike:
            for name, value in _integers(paths[path]):
                if value == len(axis.labels):
                    own[name, leaf, axis.axis].append(SizeAttributeGuess(path, name, axis.labels))
    yield from (tuple(held) for _, held in sorted(own.items()) if len(held) == len(alike))


def _sizes(grid: Grid, direction: int) -> tuple[int, int]:
    return len(grid.factors[direction]), grid.joint.size


def _integers(module: nn.Module) -> list[tuple[str, int]]:
    return [(name, value) for name, value in vars(module).items() if type(value) is int]


def _library(module: nn.Module) -> bool:
    """Torch's own modules: their sizes are in the table of ``surgery.attributes``."""
    return type(module).__module__.startswith("torch.")


def _same_complaint(ctx: Context, before: TrialFailure, after: TrialFailure | None) -> bool:
    """Whether a trial complains of some neuron that the one before complained of."""
    if after is None or _places(after) != _places(before):
        return False
    return bool(np.isin(_neurons(ctx, after), _neurons(ctx, before)).any())


def _places(verdict: TrialFailure) -> set[str]:
    """The modules in which a trial failed, where that is known."""
    return {pin.node for pin in verdict.pins if pin.node}


def _neurons(ctx: Context, verdict: TrialFailure) -> Ints:
    cells = [ctx.grids[number].joint.reshape(-1) for number, _ in verdict.banned]
    return np.concatenate([np.empty(0, np.int64), *cells, *(pin.labels for pin in verdict.pins)])
