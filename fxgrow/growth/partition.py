"""Over-growth within a memory bound: widths in groups, one over-grown graph each, and one selection over all of them.

Every group is searched with the same method, eps, steps and batches, so scores are comparable. What differs from one
graph with everything in it: candidates of different groups were not relaxed beside each other, and in every group
those of the others are off. Both change scores by O(eps^2), relative to the first order that they are.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fxgrow.errors import BudgetError, InternalError
from fxgrow.growth.budget import ResolvedBudget
from fxgrow.growth.method import Method, Scores
from fxgrow.growth.objective import Objective
from fxgrow.growth.prepare import PreparedModel
from fxgrow.growth.select import Selection, select
from fxgrow.rewrite import Candidates, Entry, OverGrown, OvergrownLayer, Slots, overgrow
from fxgrow.spec import activation_terms

ADAM_COPIES = 4
"""Of everything that Adam moves: the value, its gradient and two moments."""

SearchGroup = tuple[int, ...]
"""Numbers of widths whose candidates share a graph."""


@dataclass(frozen=True)
class SearchResult:
    """The selected candidates in one over-grown graph, the others off; ``peak``: bytes of the largest graph searched.

    ``refusals`` of ``grown`` are those of all widths. ``memory``: bytes that ``grown`` itself would need to be refined.
    """

    grown: OverGrown
    selection: Selection
    groups: tuple[SearchGroup, ...]
    peak: int
    memory_limit: int


def overgrow_group(
    base: PreparedModel, widths: Iterable[int], generator: torch.Generator
) -> OverGrown:
    """The over-grown graph with those candidates of ``base`` alone that belong to ``widths``."""
    mine = frozenset(widths)
    new = {width: count for width, count in base.proposed.new.items() if width in mine}
    return overgrow(
        base.captured, base.coupling, base.proposed.split & mine, new, generator, base.layers.keys()
    )


def step_memory(grown: OverGrown, objective: Objective) -> int:
    """Bytes that one step over ``grown`` keeps on the largest growth batch, counted on the meta device.

    What autograd keeps for the backward pass, the inputs included, and four copies of every candidate parameter (Adam).
    The model's own parameters, and what lives only while one operator runs, are not counted.
    """
    inputs = max(
        (inputs for inputs, _ in objective.batches), key=lambda some: sum(x.numel() for x in some)
    )
    kept = sum(
        term.value for term in activation_terms(grown.graph_module, inputs, as_they_are=True)
    )
    moved = [p for p in grown.graph_module.parameters() if p.requires_grad]
    return kept + ADAM_COPIES * sum(p.numel() * p.element_size() for p in moved)


def search_groups(
    base: PreparedModel, whole: OverGrown, objective: Objective, memory_limit: float | None
) -> tuple[SearchGroup, ...]:
    """The fewest runs of consecutive widths whose over-grown graphs each stay within ``memory`` bytes.

    Raises ``BudgetError`` if one width alone does not.
    """
    everyone = tuple(sorted(whole.candidates.split.keys() | whole.candidates.new.keys()))
    if memory_limit is None or step_memory(whole, objective) <= memory_limit:
        return (everyone,)

    def needs(widths: Sequence[int]) -> int:
        return step_memory(overgrow_group(base, widths, torch.Generator()), objective)

    found: list[SearchGroup] = []
    while everyone:
        count = _most(everyone, lambda some: needs(some) <= memory_limit)
        if not count:
            name = base.coupling.widths[everyone[0]].name
            raise BudgetError(
                "memory-bound",
                f"memory={memory_limit:g} bytes do not hold one step over the candidates of width {name!r} alone, which "
                f"keeps {needs(everyone[:1])}; allow more, or take smaller growth batches or fewer candidates",
            )
        found.append(everyone[:count])
        everyone = everyone[count:]
    return tuple(found)


def _most(widths: SearchGroup, fits: Callable[[SearchGroup], bool]) -> int:
    """How many widths from the first on fit; more widths never need less."""
    low, high = 0, len(widths)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(widths[:middle]) else (low, middle - 1)
    return low


def search_and_select(
    base: PreparedModel,
    whole: OverGrown,
    groups: tuple[SearchGroup, ...],
    method: Method,
    objective: Objective,
    resolved: ResolvedBudget,
    generator: torch.Generator,
) -> SearchResult:
    """Search every group, and select once over all scores.

    The result holds ``whole`` itself if there is one group, else a graph with the selected candidates alone.
    """
    parts, scores = search_all(base, whole, groups, method, objective, resolved, generator)
    selection, peak = (
        select(scores, whole.candidates, resolved),
        max(step_memory(part, objective) for part in parts),
    )
    if parts[0] is whole:
        selection.switch_off_others(whole.candidates)
        return SearchResult(whole, selection, groups, peak, peak)
    grown = _only_selected(base, whole, selection)
    for part in parts:
        copy_candidates(
            part, grown, {w: selection.new[places] for w, places in whole.candidates.new.items()}
        )
    chosen = _narrowed(selection, whole.candidates, grown.candidates)
    chosen.switch_off_others(grown.candidates)
    return SearchResult(grown, chosen, groups, peak, step_memory(grown, objective))


def search_all(
    base: PreparedModel,
    whole: OverGrown,
    groups: tuple[SearchGroup, ...],
    method: Method,
    objective: Objective,
    resolved: ResolvedBudget,
    generator: torch.Generator,
) -> tuple[list[OverGrown], Scores]:
    """The graph of every group after its search, and all scores in the order of ``whole``."""
    parts: list[OverGrown] = []
    found: list[Scores] = []
    for group in groups:
        part = whole if len(groups) == 1 else overgrow_group(base, group, generator)
        _require_same(whole.candidates, part.candidates, group)
        choose = partial(select, candidates=part.candidates, resolved=resolved)
        found.append(method.search(part, objective, generator, choose))
        parts.append(part)
    return parts, found[0] if len(groups) == 1 else _together(whole.candidates, parts, found)


def _require_same(whole: Candidates, part: Candidates, group: SearchGroup) -> None:
    wanted = [{w for w in group if w in slices} for slices in (whole.split, whole.new)]
    if [part.split.keys(), part.new.keys()] != wanted:
        raise InternalError(f"widths {group} have other candidates alone than beside the others")


def _together(whole: Candidates, parts: Sequence[OverGrown], scores: Sequence[Scores]) -> Scores:
    """The scores of all groups in the order of ``whole``."""
    split, new = (
        torch.zeros(len(eps)).to(eps) for eps in (whole.split_eps.detach(), whole.new_eps.detach())
    )
    for part, mine in zip(parts, scores, strict=True):
        for width, places in part.candidates.split.items():
            split[whole.split[width]] = mine.split[places]
        for width, places in part.candidates.new.items():
            new[whole.new[width]] = mine.new[places]
    return Scores(split, new)


def _only_selected(base: PreparedModel, whole: OverGrown, selection: Selection) -> OverGrown:
    """A graph with the widths that gain neurons, and of the new neurons those alone that were selected."""
    candidates = whole.candidates
    split = [w for w, places in candidates.split.items() if selection.split[places].any()]
    new = {w: int(selection.new[places].sum()) for w, places in candidates.new.items()}
    grown = overgrow(
        base.captured, base.coupling, split, new, torch.Generator(), base.layers.keys()
    )
    kept = {w for w, count in new.items() if count}
    if grown.candidates.split.keys() != set(split) or grown.candidates.new.keys() != kept:
        raise InternalError("a selected width has no candidates beside the other selected ones")
    return replace(grown, refusals=whole.refusals)


def _narrowed(selection: Selection, whole: Candidates, some: Candidates) -> Selection:
    """A selection over ``whole`` as one over the candidates that are left."""
    split = [range(whole.split[w].start, whole.split[w].stop) for w in some.split]
    new = [range(whole.new[w].start, whole.new[w].stop) for w in some.new]
    at_split = torch.tensor([i for places in split for i in places], dtype=torch.long)
    at_new = torch.tensor(
        [i for places in new for i in places if selection.new[i]], dtype=torch.long
    )
    scores = Scores(selection.scores.split[at_split], selection.scores.new[at_new])
    return Selection(selection.split[at_split], selection.new[at_new], scores, selection.spent)


@torch.no_grad()
def copy_candidates(source: OverGrown, target: OverGrown, kept: Mapping[int, Tensor]) -> None:
    """Copy eps and directions of the candidates in both graphs; ``kept[width]``: which new ones ``target`` has."""
    ours, theirs = target.candidates, source.candidates
    for width in ours.split.keys() & theirs.split.keys():
        ours.split_eps[ours.split[width]] = theirs.split_eps[theirs.split[width]]
    for width in ours.new.keys() & theirs.new.keys():
        ours.new_eps[ours.new[width]] = theirs.new_eps[theirs.new[width]][kept[width]]

    def places(slots: Slots) -> Tensor:
        """The places of the kept new neurons among those that the source has."""
        found = (
            kept[slots.width][slots.candidate - theirs.new[slots.width].start].nonzero().reshape(-1)
        )
        return found.to(theirs.new_eps.device)

    layers = _layers(target)
    for names, layer in _layers(source).items():
        if names in layers:
            _carry_layer(layer, layers[names], places)
    carriers = _carriers(target)
    for key, (entry, slots) in _carriers(source).items():
        if key in carriers:
            values = _value(entry, source).index_select(entry.axis, places(slots))
            _value(carriers[key][0], target).copy_(values)


def _carry_layer(
    source: OvergrownLayer, target: OvergrownLayer, places: Callable[[Slots], Tensor]
) -> None:
    if source.delta is not None and target.delta is not None:
        both = (source.split >= 0) & (target.split >= 0)  # type: ignore[operator]
        for ours, theirs in zip(target.delta, source.delta, strict=True):
            ours[both] = theirs[both]
    rows = _starts(target.rows)
    for slots, start in _starts(source.rows).values():
        if slots.width in rows:
            at = start + places(slots)
            for ours, theirs in zip(target.new or (), source.new or (), strict=True):
                ours.narrow(0, rows[slots.width][1], len(at)).copy_(theirs[at])
    columns = {slots.width: number for number, slots in enumerate(target.columns)}
    for theirs, slots in zip(source.outgoing, source.columns, strict=True):
        if slots.width in columns:
            target.outgoing[columns[slots.width]].copy_(theirs.index_select(1, places(slots)))


def _starts(rows: Sequence[Slots]) -> dict[int, tuple[Slots, int]]:
    """Where the rows of every width begin."""
    found, start = {}, 0
    for slots in rows:
        found[slots.width] = (slots, start)
        start += len(slots.candidate)
    return found


def _layers(grown: OverGrown) -> dict[tuple[str, ...], OvergrownLayer]:
    found = [
        module for module in grown.graph_module.modules() if isinstance(module, OvergrownLayer)
    ]
    return {layer.product.names: layer for layer in found}


def _carriers(grown: OverGrown) -> dict[tuple[str, int, int], tuple[Entry, Slots]]:
    """The values that new neurons have in parameters and buffers other than weights of products."""
    products = {name for names in _layers(grown) for name in names}
    return {
        (entry.parameter, entry.axis, entry.slots.width): (entry, entry.slots)
        for entry in grown.entries
        if entry.slots is not None and entry.parameter not in products
    }


def _value(entry: Entry, grown: OverGrown) -> Tensor:
    """The tensor itself, as carriers are in no unit and have no eps."""
    return entry.values(grown.candidates.split_eps, grown.candidates.new_eps)
