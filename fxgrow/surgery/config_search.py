"""Which fields of a config give the sizes that have changed? Found by building the model.

The model is built on the meta device, so this costs no memory. No field is known by name. A field
is *plausible* if it equals an old size, divides it or is a multiple of it; it is *useful* if the
model that is built with its new value has fewer wrong shapes and no other ones. The assignments
tried are the sets of useful fields that together put every wrong shape right.
"""

import copy
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from fxgrow.surgery.resize import named_tensors

FieldPath = tuple[str | int, ...]
ParameterShapes = dict[str, tuple[int, ...]]
SizeChanges = frozenset[tuple[int, int]]
"""(Old, new) sizes."""
ConfigChanges = Mapping[FieldPath, Any]
WrongShapes = frozenset[tuple[str, int]]
"""(parameter or buffer, axis) with another size than wanted."""

_NO_CHANGES: ConfigChanges = MappingProxyType({})
_MAX_BUILDS = 400
"""So many models are built at most."""


def parameter_shapes(module: nn.Module) -> ParameterShapes:
    """The shapes of all parameters and buffers."""
    return {name: tuple(tensor.shape) for name, tensor in named_tensors(module).items()}


def is_config(value: Any) -> bool:
    """Whether something is a Hugging Face style config: it can write itself as a dictionary."""
    return callable(getattr(value, "to_dict", None)) and not isinstance(value, type)


def config_leaves(node: Any, path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """The numbers and gaps (None) in a config, its sub-configs, lists and dictionaries.

    Args:
        node: a config, or something inside one.
        path: where it is.

    Returns:
        (Path, value) of each leaf.
    """
    # Exactly these types: True and False are numbers, too, but no sizes.
    if node is None or type(node) in (int, float):
        yield path, node
        return
    for key, value in _items(node):
        yield from config_leaves(value, (*path, key))


def _items(node: Any) -> Iterable[tuple[str | int, Any]]:
    """What may hold sizes inside a config, list or dictionary."""
    if is_config(node):
        return [(key, value) for key, value in vars(node).items() if not key.startswith("_")]
    if isinstance(node, Mapping):
        if list(node.values()) == list(range(len(node))):
            return ()  # a numbering (of labels): no sizes
        return [(key, value) for key, value in node.items() if isinstance(key, str)]
    return enumerate(node) if isinstance(node, (list, tuple)) else ()


def with_changes(config: Any, changes: ConfigChanges) -> Any:
    """A changed copy of a config.

    Args:
        config: the config; it stays as it is.
        changes: the new value at each path.

    Returns:
        The copy.
    """
    changed = copy.deepcopy(config)
    for path, value in changes.items():
        changed = _replaced(changed, path, value)
    return changed


def _replaced(node: Any, path: FieldPath, value: Any) -> Any:
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(node, (list, tuple)):
        entries = list(node)
        entries[int(key)] = _replaced(entries[int(key)], rest, value)
        return type(node)(entries)
    if isinstance(node, Mapping):
        return {**node, key: _replaced(node[key], rest, value)}
    setattr(node, str(key), _replaced(getattr(node, str(key)), rest, value))
    return node


def build_from_config(
    kind: type[nn.Module], config: Any, changes: ConfigChanges = _NO_CHANGES, device: str = "meta"
) -> nn.Module | None:
    """Call ``kind(config)``. Neither the config nor torch's random numbers change.

    Args:
        kind: the class of the model.
        config: its config.
        changes: made to a copy of the config first.
        device: where the model is built.

    Returns:
        The model; None if there is no such model.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind(with_changes(config, changes))
    except Exception:  # noqa: BLE001 - the constructor does not take these values
        return None


def plausible_values(old: Any, sizes: SizeChanges, known: frozenset[int]) -> list[int | float]:
    """The values that a field of a config may have after growth.

    Args:
        old: its value before.
        sizes: the sizes that have changed.
        known: all sizes of the old model, for fields that are the ratio of two of them.

    Returns:
        The values, ascending, without the old one.
    """
    if old is None:
        return sorted({new for _, new in sizes})
    values: set[int | float] = set()
    if isinstance(old, float):
        if not math.isfinite(old):
            return []
        for before, new in sizes:
            # The field is a ratio to some size of the old model: int(ratio * size) == before.
            if any(int(old * size) == before for size in known):
                values.add(old * new / before)
        return sorted(values - {old})
    for before, new in sizes:
        is_divisor_or_multiple = old > 0 and (before % old == 0 or old % before == 0)
        if is_divisor_or_multiple and old * new % before == 0:
            values.add(old * new // before)
    return sorted(values - {old})


@dataclass(frozen=True)
class ConfigMove:
    """One field, its new value, and the wrong shapes that this puts right."""

    path: FieldPath
    value: int | float
    fixes: WrongShapes


class ConfigSearch:
    """The assignments of a config under which a model has the wanted shapes.

    Args:
        kind: the class of the model.
        config: its config before growth.
        wanted: the shapes after growth.
    """

    def __init__(self, kind: type[nn.Module], config: Any, wanted: ParameterShapes) -> None:
        self.kind = kind
        self.config = config
        self.wanted = wanted
        self.built = 0

    def wrong_shapes(self, changes: ConfigChanges) -> WrongShapes | None:
        """What is still wrong after some changes.

        None if there is no such model, it has other parameters, or too many models were built.
        """
        self.built += 1
        if self.built > _MAX_BUILDS:
            return None
        model = build_from_config(self.kind, self.config, changes)
        shapes = {} if model is None else parameter_shapes(model)
        if shapes.keys() != self.wanted.keys():
            return None
        wrong = set()
        for name, shape in shapes.items():
            if len(shape) != len(self.wanted[name]):
                return None
            for axis, size in enumerate(shape):
                if size != self.wanted[name][axis]:
                    wrong.add((name, axis))
        return frozenset(wrong)

    def solutions(
        self, sizes: SizeChanges, known: frozenset[int]
    ) -> Iterator[dict[FieldPath, int | float]]:
        """All assignments that give every shape, those with fields near the top first.

        Args:
            sizes: see ``plausible_values``.
            known: see ``plausible_values``.

        Returns:
            One after the other, the new value at each path.
        """
        start = self.wrong_shapes({})
        if start is None:
            return
        moves = list(self._useful_moves(start, sizes, known))
        for chosen in _covers(moves, start, ()):
            changes = {move.path: move.value for move in chosen}
            # Fields may interact, so what each puts right alone is no proof.
            if self.wrong_shapes(changes) == frozenset():
                yield changes

    def _useful_moves(
        self, start: WrongShapes, sizes: SizeChanges, known: frozenset[int]
    ) -> Iterator[ConfigMove]:
        leaves = sorted(config_leaves(self.config), key=lambda leaf: len(leaf[0]))
        for path, old in leaves:
            for value in plausible_values(old, sizes, known):
                left = self.wrong_shapes({path: value})
                if left is not None and left < start:
                    yield ConfigMove(path, value, start - left)


def _covers(
    moves: Sequence[ConfigMove], left: WrongShapes, chosen: tuple[ConfigMove, ...]
) -> Iterator[tuple[ConfigMove, ...]]:
    """The sets of moves, at most one per field, that put everything in ``left`` right."""
    if not left:
        yield chosen
        return
    # Some move must put the first wrong shape right: branch over those that do.
    first = min(left)
    taken = {move.path for move in chosen}
    for move in moves:
        if first in move.fixes and move.path not in taken:
            yield from _covers(moves, left - move.fixes, (*chosen, move))
