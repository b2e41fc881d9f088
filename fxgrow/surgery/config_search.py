"""Which fields of a config say the sizes that have changed? Found by building the model on the meta device.

No field is known by name. A field is *plausible* if it equals an old size, divides it or is a multiple of it; it is
*useful* if the model that is built with its new value has fewer wrong shapes and no other ones. The assignments tried
are the sets of useful fields that together put every wrong shape right.
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
ConfigChanges = Mapping[FieldPath, int | float]
WrongShapes = frozenset[tuple[str, int]]
"""(parameter or buffer, axis) with another size than wanted."""

_NO_VALUE: ConfigChanges = MappingProxyType({})
_MAX_BUILDS = 400
"""So many models are built at most."""


def parameter_shapes(module: nn.Module) -> ParameterShapes:
    """The shapes of all parameters and buffers."""
    return {name: tuple(tensor.shape) for name, tensor in named_tensors(module).items()}


def is_config(value: Any) -> bool:
    """A Hugging Face style config: an object that can write itself down as a dictionary."""
    return callable(getattr(value, "to_dict", None)) and not isinstance(value, type)


def config_leaves(node: Any, path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """The numbers and gaps (None) in a config, its sub-configs, lists and dictionaries."""
    if node is None or type(node) in (int, float):
        yield path, node
        return
    for key, value in _items(node):
        yield from config_leaves(value, (*path, key))


def _items(node: Any) -> Iterable[tuple[str | int, Any]]:
    if is_config(node):
        return ((key, value) for key, value in vars(node).items() if not key.startswith("_"))
    if isinstance(node, Mapping):
        numbering = list(node.values()) == list(range(len(node)))  # of labels: no sizes
        return (
            ()
            if numbering
            else ((key, value) for key, value in node.items() if isinstance(key, str))
        )
    return enumerate(node) if isinstance(node, (list, tuple)) else ()


def with_changes(config: Any, changes: ConfigChanges) -> Any:
    """A copy of the config with other values at these paths."""
    new = copy.deepcopy(config)
    for path, value in changes.items():
        new = _replaced(new, path, value)
    return new


def _replaced(node: Any, path: FieldPath, value: int | float) -> Any:
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(node, (list, tuple)):
        return type(node)(
            _replaced(one, rest, value) if i == key else one for i, one in enumerate(node)
        )
    if isinstance(node, Mapping):
        return {**node, key: _replaced(node[key], rest, value)}
    setattr(node, str(key), _replaced(getattr(node, str(key)), rest, value))
    return node


def build_from_config(
    kind: type[nn.Module], config: Any, changes: ConfigChanges = _NO_VALUE, device: str = "meta"
) -> nn.Module | None:
    """``kind(config)`` with ``changes``, on a device; None if there is no such model. The config itself stays."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind(with_changes(config, changes))
    except Exception:  # noqa: BLE001 - whatever a constructor or a config's check raises: it does not take these values
        return None


def is_plausible(old: Any, sizes: SizeChanges, known: frozenset[int]) -> list[int | float]:
    """The values that a field may have now; ``known`` are all sizes of the old model, for ratios of two of them."""
    if old is None:
        return sorted({new for _, new in sizes})
    if isinstance(old, float):
        if not math.isfinite(old):
            return []
        ratios = {
            old * new / was for was, new in sizes if any(int(old * size) == was for size in known)
        }
        return sorted(ratios - {old})
    fitting = ((was, new) for was, new in sizes if old > 0 and (was % old == 0 or old % was == 0))
    return sorted({old * new // was for was, new in fitting if old * new % was == 0} - {old})


@dataclass(frozen=True)
class ConfigMove:
    """One field, its new value, and the wrong shapes that this puts right."""

    path: FieldPath
    value: int | float
    fixes: WrongShapes


class ConfigSearch:
    """The assignments of ``config`` under which ``kind(config)`` has the shapes ``wanted``."""

    def __init__(self, kind: type[nn.Module], config: Any, wanted: ParameterShapes) -> None:
        self.kind, self.config, self.wanted = kind, config, wanted
        self.built = 0

    def wrong(self, changes: ConfigChanges) -> WrongShapes | None:
        """What is still wrong after these changes; None if there is no such model or it has other parameters."""
        self.built += 1
        model = (
            build_from_config(self.kind, self.config, changes)
            if self.built <= _MAX_BUILDS
            else None
        )
        found = {} if model is None else parameter_shapes(model)
        if found.keys() != self.wanted.keys() or any(
            len(found[n]) != len(self.wanted[n]) for n in found
        ):
            return None
        pairs = ((name, axis) for name, shape in found.items() for axis in range(len(shape)))
        return frozenset(
            (name, axis) for name, axis in pairs if found[name][axis] != self.wanted[name][axis]
        )

    def solutions(
        self, sizes: SizeChanges, known: frozenset[int]
    ) -> Iterator[dict[FieldPath, int | float]]:
        """All assignments that are right in every shape, those with fields near the top of the config first."""
        start = self.wrong({})
        if start is None:
            return
        moves = list(self._useful(start, sizes, known))
        for chosen in _covers(moves, start, ()):
            changes = {move.path: move.value for move in chosen}
            if self.wrong(changes) == frozenset():
                yield changes

    def _useful(
        self, start: WrongShapes, sizes: SizeChanges, known: frozenset[int]
    ) -> Iterator[ConfigMove]:
        for path, old in sorted(config_leaves(self.config), key=lambda leaf: len(leaf[0])):
            for value in is_plausible(old, sizes, known):
                left = self.wrong({path: value})
                if left is not None and left < start:
                    yield ConfigMove(path, value, start - left)


def _covers(
    moves: Sequence[ConfigMove], left: WrongShapes, chosen: tuple[ConfigMove, ...]
) -> Iterator[tuple[ConfigMove, ...]]:
    """The sets of moves, one per field, that put everything in ``left`` right."""
    if not left:
        yield chosen
        return
    first = min(left)
    taken = {move.path for move in chosen}
    for move in moves:
        if first in move.fixes and move.path not in taken:
            yield from _covers(moves, left - move.fixes, (*chosen, move))
