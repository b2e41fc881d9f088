"""Which integers in a model's own modules count the neurons of a width that does not follow.

``h.view(n, self.c, ...)`` fails in a trial growth as long as ``self.c`` keeps its value. Every
integer that equals a number of neurons there may be what is read, in the module that failed, in
its children (``self.conv.in_channels``) and in the modules around it. Which one it is, a trial
says: with the right one the grown model runs farther.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import nn

from fxgrow.coupling.context import Context
from fxgrow.coupling.labels import Ints
from fxgrow.coupling.neuron_classes import NeuronClasses
from fxgrow.coupling.size_numbers import SizeAttributeGuess
from fxgrow.coupling.size_records import SizeRecord
from fxgrow.coupling.trial import TrialFailure
from fxgrow.surgery import has_size_attributes

Keys = tuple[int | str, ...]
Guesses = list[SizeAttributeGuess]

_MAX_SINGLE = 24
"""How many guesses are made for one failure, of those that set one integer per module."""

_MAX_TOGETHER = 6
"""Of how many of them pairs are tried (heads, and heads x head size)."""

_MAX_DEPTH = 3
"""How deep in tuples, lists and dicts an integer may be."""

_NORMS = (nn.LayerNorm, nn.RMSNorm)
"""Layers that check their sizes against their parameters, or must not change them."""

_CONTAINERS = (tuple, list, dict, torch.Size)
_MAX_ITEMS = 64
"""How long a container may be whose integers are looked at."""


@dataclass(frozen=True)
class _Integer:
    """An integer, or several equal ones in a container, that a module or a child of it holds."""

    child: str
    name: str
    keys: tuple[Keys, ...]
    value: int


def attribute_guesses(
    ctx: Context, model: nn.Module, classes: NeuronClasses, failure: TrialFailure
) -> Iterator[Guesses]:
    """What else could follow its neurons, so that a trial growth goes farther.

    Args:
        ctx: what was observed.
        model: the model.
        classes: its neurons.
        failure: how the trial failed.

    Returns:
        Sets of integers that are to follow together, the likeliest first: the same ones in all
        modules of a kind.
    """
    modules = dict(model.named_modules())
    failed = failed_classes(ctx, classes, failure)
    singles: list[Guesses] = []
    together: list[Guesses] = []
    for path in _places(ctx, modules, failure):
        of_place = list(_guesses_at(ctx, modules, classes, path, failed))
        # What fits in more modules of the kind is less likely a coincidence.
        singles += sorted(of_place, key=len, reverse=True)
        # Sizes of parts and of their sum: ``split(x, (self.c, self.c - self.k, self.k))``.
        joint = _compatible(of_place)
        if len(of_place) > 2 and joint not in singles:
            together.append(joint)
    singles = singles[:_MAX_SINGLE]
    yield from singles
    for pair in combinations(singles[:_MAX_TOGETHER], 2):
        both = _compatible(pair)
        if len(both) > max(map(len, pair)):
            yield both
    yield from together


def confirmed_records(
    ctx: Context, records: Sequence[SizeRecord], classes: NeuronClasses
) -> tuple[SizeAttributeGuess, ...]:
    """The records that follow their neurons.

    Args:
        ctx: what was observed.
        records: the integers that may be records.
        classes: the neurons.

    Returns:
        Those that no code reads and of which runs show what they count.
    """
    confirmed = []
    for record in records:
        if (record.module, record.name) in ctx.read_records:
            continue
        labels = _counted(ctx, record, classes)
        if labels is not None:
            guess = SizeAttributeGuess(record.module, record.name, record.keys, labels)
            confirmed.append(guess)
    return tuple(confirmed)


def _counted(ctx: Context, record: SizeRecord, classes: NeuronClasses) -> Ints | None:
    """The labels that a record counts; None if there are none, or different ones."""
    found: dict[bytes, Ints] = {}
    for place in record.places:
        for labels in ctx.passing.get(place, []):
            if len(labels) == record.value:
                found[np.sort(classes.of[labels]).tobytes()] = labels
    return next(iter(found.values())) if len(found) == 1 else None


def _compatible(several: Sequence[Guesses]) -> Guesses:
    """Guesses that can hold together: of those that set one integer, the first."""
    targets: set[tuple[str, str, Keys]] = set()
    joint: Guesses = []
    for guesses in several:
        if targets.isdisjoint(_targets(guesses)):
            targets |= _targets(guesses)
            joint += guesses
    return joint


def failed_classes(ctx: Context, classes: NeuronClasses, failure: TrialFailure) -> Ints:
    """The neurons that a trial failed with.

    Args:
        ctx: what was observed.
        classes: the neurons.
        failure: how the trial failed.

    Returns:
        Their classes, ascending.
    """
    labels = [ctx.grids[number].joint.reshape(-1) for number, _ in failure.banned]
    labels += [pin.labels for pin in failure.pins]
    return np.unique(classes.of[np.concatenate(labels)])


def _targets(guesses: Guesses) -> set[tuple[str, str, Keys]]:
    return {(guess.module, guess.name, guess.keys) for guess in guesses}


def _places(ctx: Context, modules: Mapping[str, nn.Module], failure: TrialFailure) -> Iterator[str]:
    """Paths of the modules that failed and of those around them, the innermost first."""
    places = [] if failure.place is None else [failure.place]
    places += [ctx.grids[number].module for number, _ in sorted(failure.banned)[:1]]
    seen: set[str] = set()
    for place in places:
        path = place if place in modules else ""
        while path not in seen:
            seen.add(path)
            yield path
            path = path.rpartition(".")[0]


def _guesses_at(
    ctx: Context,
    modules: Mapping[str, nn.Module],
    classes: NeuronClasses,
    path: str,
    failed: Ints,
) -> Iterator[Guesses]:
    """The guesses that set one integer of a module, and the same one in others of its kind."""
    kind = type(modules[path])
    of_kind = [other for other in modules if type(modules[other]) is kind]
    lines = {other: _lines_at(ctx, other) for other in of_kind}
    seen: set[tuple[str, str, tuple[Keys, ...], bytes]] = set()
    for integer in _integers(modules[path]):
        for line, labels in lines[path].items():
            if len(labels) != integer.value:
                continue
            counted = np.sort(classes.of[labels])
            key = (integer.child, integer.name, integer.keys, counted.tobytes())
            if key in seen or not np.isin(counted, failed).any():
                continue
            seen.add(key)
            guesses: Guesses = []
            for other in of_kind:
                guesses += _guess(modules[other], other, integer, lines[other].get(line))
            yield guesses


def _guess(module: nn.Module, path: str, integer: _Integer, labels: Ints | None) -> Guesses:
    """The guess for one module, if it holds the integer and it equals the number of labels."""
    if labels is None:
        return []
    found = []
    for other in _integers(module):
        same_place = (other.child, other.name, other.keys)
        if same_place == (integer.child, integer.name, integer.keys) and other.value == len(labels):
            holder = ".".join(part for part in (path, integer.child) if part)
            for keys in integer.keys:
                found.append(SizeAttributeGuess(holder, integer.name, keys, labels))
    return found


def _lines_at(ctx: Context, path: str) -> dict[tuple[str | int, ...], Ints]:
    """The rows of labels that a module's code may count.

    They are the lines and cells of its grids, what it reshapes and splits, and the axes of its
    parameters, with names that are the same in all modules of its kind.
    """
    lines: dict[tuple[str | int, ...], Ints] = {}
    grids = [grid for grid in ctx.grids if grid.module == path]
    for number, grid in enumerate(grids):
        for direction, factor in enumerate(grid.factors):
            lines["grid", number, direction] = factor
        lines["cells", number] = grid.joint.reshape(-1)
    events = [event for event in ctx.shape_events if event.module == path]
    for number, event in enumerate(events):
        lines["event", number] = event.labels
    prefix = f"{path}." if path else ""
    for axis in ctx.axes:
        if axis.parameter.startswith(prefix):
            lines["axis", axis.parameter.removeprefix(prefix), axis.axis] = axis.labels
    return lines


def _integers(module: nn.Module) -> list[_Integer]:
    """The integers in a module and its children, but for those that torch's own layers keep."""
    found = []
    for child, holder in (("", module), *module.named_children()):
        # Sizes of torch's layers must agree with their parameters, or describe space.
        is_torch = type(holder).__module__.startswith("torch.")
        if has_size_attributes(type(holder)) or isinstance(holder, _NORMS) or (child and is_torch):
            continue
        for name, value in vars(holder).items():
            if not name.startswith("_"):
                found += _grouped(child, name, value)
    return found


def _grouped(child: str, name: str, value: Any) -> list[_Integer]:
    """The integers of one attribute: equal ones together, then each by itself."""
    by_value: dict[int, list[Keys]] = {}
    for keys, number in _flat(value, ()):
        by_value.setdefault(number, []).append(keys)
    found = []
    for number, all_keys in by_value.items():
        found.append(_Integer(child, name, tuple(all_keys), number))
        if len(all_keys) > 1:
            for keys in all_keys:
                found.append(_Integer(child, name, (keys,), number))
    return found


def _flat(value: Any, keys: Keys) -> Iterator[tuple[Keys, int]]:
    """The integers in a value, with the keys that lead to them; a bool is none."""
    if type(value) is int:
        yield keys, value
    elif type(value) in _CONTAINERS and len(keys) < _MAX_DEPTH and len(value) <= _MAX_ITEMS:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if isinstance(key, (int, str)):
                yield from _flat(item, (*keys, key))
