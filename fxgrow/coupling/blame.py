"""Which widths are to blame when a grown model does not run: those that fail, and no others.

An operator that fails says which neurons it met. Of these, the widths are to blame that fail when
they grow alone; all of them if only together they do. Where no operator failed (``assert``, a
number in Python) the widths that the module reshapes are tried, then those around it. What fails
in the same line elsewhere is found at once: a model of many alike blocks needs no trial after the
other, and of their widths no run for each.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
from torch import nn

from fxgrow.coupling.context import Context
from fxgrow.coupling.grids import Direction
from fxgrow.coupling.labels import Ints
from fxgrow.coupling.neuron_classes import NeuronClasses
from fxgrow.coupling.widths import Coupling
from fxgrow.surgery import has_size_attributes


@dataclass(frozen=True, eq=False)
class RunFailure:
    """How a grown model failed to run.

    Args:
        place: path of the module in which it failed.
        line: the user's line, ``file.py:line``; "" if there is none.
        message: what happened.
        classes: the neurons that the operator met that failed, if one did.
        steps: how many operators had run by then.
    """

    place: str
    line: str
    message: str
    classes: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    steps: int = 0

    def is_that_of(self, other: "RunFailure | None") -> bool:
        """Whether another run failed in the same line, or in the same module if there is none."""
        if other is None or self.line != other.line:
            return False
        return bool(self.line) or self.place == other.place


@dataclass(frozen=True)
class Blamed:
    """What a failure is blamed on.

    Args:
        widths: the numbers of the widths.
        modules: paths of the modules whose reshapes do not follow.
        line: the user's line in which they fail.
    """

    widths: frozenset[int]
    modules: frozenset[str]
    line: str


@dataclass(frozen=True)
class WidthLabels:
    """The labels, events and grids of widths."""

    ctx: Context
    classes: NeuronClasses
    coupling: Coupling

    @cached_property
    def of_class(self) -> Ints:
        """The number of the width of each class (-1: none)."""
        numbers = np.full(len(self.classes.blame), -1)
        for axis in self.ctx.axes:
            owners = self.coupling.owners.get(axis.key)
            if owners is not None:
                numbers[self.classes.of[axis.labels]] = owners.width
        return numbers

    def widths(self, labels: Ints) -> set[int]:
        """The widths that some labels belong to."""
        return set(self.of_class[self.classes.of[labels]].tolist()) - {-1}

    def labels(self, widths: Collection[int]) -> Ints:
        """All labels of some widths."""
        is_of_width = np.isin(self.of_class, list(widths))
        return np.flatnonzero(is_of_width[self.classes.of])

    @cached_property
    def reshaped(self) -> Sequence[tuple[str, str, set[int]]]:
        """(module, user's line, widths) of every reshape, and of every grid that grows."""
        reshaped = []
        for event in self.ctx.shape_events:
            reshaped.append((event.module, event.line, self.widths(event.labels)))
        for number in self.classes.decision.chosen:
            grid = self.ctx.grids[number]
            reshaped.append((grid.module, grid.line, self.widths(grid.joint.reshape(-1))))
        return reshaped

    def alike(self, widths: Iterable[int]) -> list[list[int]]:
        """Widths in groups: those at the same place of alike blocks, of one size, together."""
        groups: dict[tuple[str, int], list[int]] = defaultdict(list)
        for number in sorted(widths):
            width = self.coupling.widths[number]
            groups[_ITEM.sub(r"\1*", width.name), width.size].append(number)
        return list(groups.values())

    def failing(self, widths: Iterable[int], fails: Callable[[int], bool]) -> set[int]:
        """The widths that fail alone, with few runs of those that are alike.

        Args:
            widths: their numbers.
            fails: grows one of them.

        Returns:
            The numbers of those that fail.
        """
        return set().union(*(_failing(alike, cache(fails)) for alike in self.alike(widths)))

    def grids(self, blamed: Blamed) -> frozenset[Direction]:
        """The directions of the grids that grow with widths that are to blame.

        Those that were made in the line that failed, else those of the modules to blame.
        """
        in_line, in_modules = set(), set()
        for number, direction in self.classes.decision.chosen.items():
            grid = self.ctx.grids[number]
            if blamed.widths.isdisjoint(self.widths(grid.joint.reshape(-1))):
                continue
            if blamed.line and grid.line == blamed.line:
                in_line.add((number, direction))
            if grid.module in blamed.modules:
                in_modules.add((number, direction))
        return frozenset(in_line or in_modules)


_ITEM = re.compile(r"(^|\.)\d+(?=[.#]|$)")
"""The number of a block in the name of a width (``blocks.3.fc``)."""


def _failing(alike: Sequence[int], fails: Callable[[int], bool]) -> set[int]:
    """Of alike widths those that fail: where the first and the last agree, so do all between."""
    if fails(alike[0]) == fails(alike[-1]):
        return set(alike) if fails(alike[0]) else set()
    middle = len(alike) // 2
    return _failing(alike[:middle], fails) | _failing(alike[middle:], fails)


@dataclass(frozen=True)
class Blame:
    """Finds what a failed run is blamed on.

    Args:
        model: the model.
        widths: its widths.
        grown: the numbers of those that grew.
        run: grows some of them, and gives back how the model failed.
    """

    model: nn.Module
    widths: WidthLabels
    grown: Sequence[int]
    run: Callable[[Collection[int]], RunFailure | None]

    def attribute(self, failure: RunFailure) -> Blamed:
        """Find the widths and modules to blame.

        Args:
            failure: how the model failed when all widths grew.

        Returns:
            At least one width.
        """
        # What the operator that failed had met is likelier than what lies around it.
        met = set(self.widths.of_class[failure.classes].tolist()).intersection(self.grown)
        guilty = self._alone(sorted(met), failure) or self._around(failure)
        guilty |= self._elsewhere(guilty, failure)
        modules: set[str] = set()
        # From the module that failed outwards, up to the first that reshapes what is to blame.
        for path in self._surroundings(failure.place):
            kind = self._same_kind(path)
            for module, _, reshaped in self.widths.reshaped:
                if module in kind and not guilty.isdisjoint(reshaped):
                    modules.add(module)
            if modules:
                break
        return Blamed(frozenset(guilty), frozenset(modules), failure.line)

    def _alone(self, candidates: Sequence[int], failure: RunFailure) -> set[int]:
        """The widths that fail in the same way when they grow alone; all if none does."""
        if len(candidates) < 2:
            return set(candidates)
        alone = self.widths.failing(candidates, self._fails_like(failure))
        return alone or set(candidates)

    def _fails_like(self, failure: RunFailure) -> Callable[[int], bool]:
        return lambda width: failure.is_that_of(self.run([width]))

    def _around(self, failure: RunFailure) -> set[int]:
        """The widths to blame among those that the module reshapes, or those around it."""
        for path in self._surroundings(failure.place):
            kind = self._same_kind(path)
            candidates: set[int] = set()
            for module, _, reshaped in self.widths.reshaped:
                if module in kind:
                    candidates |= reshaped.intersection(self.grown)
            if candidates and failure.is_that_of(self.run(candidates)):
                return self._least(sorted(candidates), failure)
        return self._least(self.grown, failure)

    def _least(self, candidates: Sequence[int], failure: RunFailure) -> set[int]:
        """The widths that fail alone, of alike ones the first where it fails."""
        first = [alike[0] for alike in self.widths.alike(candidates)]
        if len(first) < len(candidates) and failure.is_that_of(self.run(first)):
            candidates = first
        return self._halved(candidates, failure)

    def _halved(self, candidates: Sequence[int], failure: RunFailure) -> set[int]:
        """The widths that fail alone, found by halving a set that fails together."""
        if len(candidates) == 1:
            return set(candidates)
        # 2 log n runs for each width to blame, not one run for every width.
        middle = len(candidates) // 2
        found: set[int] = set()
        for half in (candidates[:middle], candidates[middle:]):
            if failure.is_that_of(self.run(half)):
                found |= self._halved(half, failure)
        return found or set(candidates)

    def _elsewhere(self, guilty: set[int], failure: RunFailure) -> set[int]:
        """The widths that fail in the same line, reshaped there or alike to those to blame."""
        if not failure.line:
            return set()
        others: set[int] = set()
        for _, line, reshaped in self.widths.reshaped:
            if line == failure.line:
                others |= reshaped
        for alike in self.widths.alike(self.grown):
            if not guilty.isdisjoint(alike):
                others |= set(alike)
        others = others.intersection(self.grown) - guilty
        return self.widths.failing(others, self._fails_like(failure))

    def _surroundings(self, place: str) -> Iterator[str]:
        """Paths of the module that failed and of those around it, innermost first."""
        kinds = self._kinds
        path = place
        # The sizes of torch's own layers are their parameters' own: the one around is to blame.
        while path and has_size_attributes(kinds[path]):
            path = _parent(path)
        while path:
            yield path
            path = _parent(path)
        yield ""

    @cached_property
    def _kinds(self) -> Mapping[str, type[nn.Module]]:
        return {name: type(module) for name, module in self.model.named_modules()}

    def _same_kind(self, path: str) -> set[str]:
        """The modules of the kind of the one at ``path``; all if that is the model itself."""
        if not path:
            return set(self._kinds)
        return {name for name, kind in self._kinds.items() if kind is self._kinds[path]}


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
