"""From unions and pins to neurons: classes of labels, each with the refusal that it has."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from fxgrow.coupling.context import Context
from fxgrow.coupling.grids import Decision, Direction, decide
from fxgrow.coupling.labels import (
    FIXED,
    Bools,
    Ints,
    Pin,
    components,
    touching_fixed,
)
from fxgrow.errors import Refusal

GRID = "seen as a grid that cannot grow along this direction"
WORDS = (
    "looked up by number and part of the model's output, as the words of a tied embedding are; "
    "fxgrow.grow_vocabulary adds words"
)


@dataclass(frozen=True, eq=False)
class NeuronClasses:
    """The neurons, as classes of labels.

    Args:
        of: the class of each label.
        blame: for each class which of ``refusals`` it has (-1: none).
        refusals: the refusals of all pins.
        decision: how grids grow.
    """

    of: Ints
    blame: Ints
    refusals: tuple[Refusal, ...]
    decision: Decision

    def refusal(self, labels: Ints) -> Refusal | None:
        """The refusal of the first of these labels that has one."""
        blamed = self.blame[self.of[labels]]
        blamed = blamed[blamed >= 0]
        return self.refusals[int(blamed[0])] if len(blamed) else None

    def free(self, labels: Ints) -> bool:
        """Whether some neuron among these labels is not refused."""
        return bool((self.blame[self.of[labels[labels != FIXED]]] < 0).any())


def classify(ctx: Context, banned: Set[Direction], extra: Sequence[Pin]) -> NeuronClasses:
    """Resolve unions, pins and grids to neurons.

    Args:
        ctx: what was observed.
        banned: directions of grids that failed in a trial.
        extra: pins that come from failed trials.

    Returns:
        The neurons, each with the first refusal that it has.
    """
    touching = touching_fixed(ctx.labels.pairs)
    reason = "combined with a value whose size there is fixed"
    pins = [*ctx.labels.pins, *extra, Pin(touching, "fixed-size", reason, "")]
    # Before grids are decided, labels are united to base classes; a decision unites some of these.
    base = components(ctx.labels.count, ctx.labels.pairs)
    decision = decide(ctx.grids, base, _pinned(base, pins), _written(ctx, base), banned)
    # Class 0 is a class like any other, but 0 means FIXED to components: so count from 1 there.
    unions = [(left + 1, right + 1) for left, right in decision.pairs]
    final = components(len(base) + 1, unions)[1:]
    refused = [(final[base[pin.labels]], pin) for pin in pins]
    for grid, classes in decision.fixed:
        refused.append((final[classes], Pin(classes, "grid", GRID, ctx.grids[grid].node)))
    blame = np.full(final.max() + 1, -1)
    # Written last to first, so that the first pin of a class is the one to blame.
    for number in reversed(range(len(refused))):
        blame[refused[number][0]] = number
    refusals = [_refusal_of(pin) for _, pin in refused]
    is_output = np.zeros(len(blame), bool)
    for classes, pin in refused:
        is_output[classes] |= pin.code == "output"
    for number, refusal in list(enumerate(refusals)):
        words = is_output & (blame == number)
        if refusal.code == "indexed" and words.any():
            blame[words] = len(refusals)
            refusals.append(Refusal("vocabulary", WORDS, refusal.nodes))
    return NeuronClasses(final[base], blame, tuple(refusals), decision)


def _pinned(base: Ints, pins: Sequence[Pin]) -> Bools:
    """For each base class whether a pin refuses it."""
    pinned = np.zeros(len(base), dtype=bool)
    pinned[base[np.concatenate([pin.labels for pin in pins])]] = True
    return pinned


def _written(ctx: Context, base: Ints) -> Bools:
    """For each base class whether some parameter writes it."""
    written = np.zeros(len(base), dtype=bool)
    for axis in ctx.axes:
        if axis.key in ctx.writers:
            written[base[axis.labels]] = True
    return written


def _refusal_of(pin: Pin) -> Refusal:
    return Refusal(pin.code, pin.reason, (pin.node,) if pin.node else ())
