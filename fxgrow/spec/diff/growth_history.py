"""The widths and layers that differ between two specifications, with what their history knows of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import prod

from fxgrow.spec.diff.align import Alignment
from fxgrow.spec.diff.graph_view import node_operands
from fxgrow.spec.diff.records import LayerDiff, WidthDiff
from fxgrow.spec.models import ArchitectureSpec, GrowthStep, LayerInsertion, WidthSpec

StepRange = tuple[GrowthStep, ...]


def steps_between(a: ArchitectureSpec, b: ArchitectureSpec) -> tuple[StepRange, bool]:
    """The growth steps from one to the other, and whether they lead from ``a`` to ``b``; none if neither descends."""
    backward = _steps(b, a)
    return (backward, False) if backward else (_steps(a, b), True)


def _steps(a: ArchitectureSpec, b: ArchitectureSpec) -> StepRange:
    starts = [index for index, step in enumerate(b.history) if step.parent == a.fingerprint]
    return b.history[starts[0] :] if starts and a.fingerprint != b.fingerprint else ()


def layer_diffs(
    a: ArchitectureSpec, b: ArchitectureSpec, alignment: Alignment, steps: StepRange, forward: bool
) -> tuple[LayerDiff, ...]:
    """The layers that the steps put in and that are still there, with the nodes that they consist of."""
    grown = b if forward else a
    old = set(alignment.nodes.values() if forward else alignment.nodes)
    found = (_layer(grown, layer, old) for step in steps for layer in step.layers)
    change = {} if forward else {"change": "removed"}
    return tuple(layer.model_copy(update=change) for layer in found if layer is not None)


def _layer(spec: ArchitectureSpec, record: LayerInsertion, old: set[str]) -> LayerDiff | None:
    """The layer's modules' nodes and the sum that reads them: new nodes, all of them."""
    new = [node for node in spec.nodes if node.name not in old]
    own = {
        node.name
        for node in new
        if node.op == "call_module" and is_inside(node.target, record.name)
    }
    sums = {node.name for node in new if node.op != "call_module" and own & {*node_operands(node)}}
    read = [
        name for node in new if node.name in own for name in node_operands(node) if name not in own
    ]
    if not own or not read:
        return None
    sizes = [width.size for width in spec.widths if is_inside(width.name, record.name)]
    return LayerDiff(
        name=record.name,
        after=read[0],
        neurons=sizes[0] if sizes else record.neurons,
        form=record.form,
        norm=record.norm,
        score=record.score,
        nodes=tuple(node.name for node in new if node.name in own | sums),
        parameters=sum(
            prod(item.shape) for item in spec.parameters if is_inside(item.name, record.name)
        ),
    )


def is_inside(name: str, outer: str) -> bool:
    """Whether a name is that of something within a module."""
    return name.startswith(f"{outer}.")


def width_diffs(
    a: ArchitectureSpec,
    b: ArchitectureSpec,
    alignment: Alignment,
    steps: StepRange,
    layers: Sequence[LayerDiff],
) -> Mapping[str, WidthDiff]:
    """The widths whose sizes differ, or that grew on the way; those within a layer are part of the layer."""
    before, after = ({width.name: width for width in spec.widths} for spec in (a, b))
    partners = _partners(a.widths, b.widths, alignment.tensors)
    back = {new: old for old, new in partners.items()}
    news = [(back.get(name), name) for name in after]
    olds = [(name, None) for name in before if name not in partners]
    found: dict[str, WidthDiff] = {}
    for old, new in (*sorted(news, key=lambda pair: pair[0] is None), *olds):
        name = new or old or ""
        if not any(is_inside(name, layer.name) for layer in layers):
            one = _width(before.get(old or ""), after.get(new or ""), steps)
            if one.before != one.after or one.origin == "history":
                found[name] = one
    costs = _costs(a, b, alignment.tensors, found)
    return {name: one.model_copy(update={"parameters": costs[name]}) for name, one in found.items()}


def _width(old: WidthSpec | None, new: WidthSpec | None, steps: StepRange) -> WidthDiff:
    name = new.name if new else old.name if old else ""
    own = [
        change
        for step in steps
        for change in step.widths
        if new is not None and change.width == name
    ]
    scores = tuple(score for change in own for score in change.scores)
    return WidthDiff(
        name=name,
        was=old.name if old and old.name != name else None,
        before=old.size if old else None,
        after=new.size if new else None,
        origin="history" if own else "unknown",
        split=sum(change.split for change in own),
        new=sum(change.new for change in own),
        neurons=tuple(neuron for change in own for neuron in change.neurons),
        scores=scores,
        score=sum(scores) if scores else None,
    )


def _partners(
    olds: Iterable[WidthSpec], news: Sequence[WidthSpec], tensors: Mapping[str, str]
) -> dict[str, str]:
    """The width of the second that shares most sites with one of the first, that of its own name if there is a tie."""
    at = sites_of(news)
    free = {width.name for width in news}
    found: dict[str, str] = {}
    for width in olds:
        places = ((tensors.get(site.parameter, ""), site.axis) for site in width.sites)
        votes = Counter(name for place in places for name in at.get(place, ()) if name in free)
        best = max(votes, key=lambda name: (votes[name], name == width.name), default=width.name)
        if best in free:
            found[width.name] = best
            free.remove(best)
    return found


def _costs(
    a: ArchitectureSpec,
    b: ArchitectureSpec,
    tensors: Mapping[str, str],
    changes: Mapping[str, WidthDiff],
) -> Counter[str]:
    """How many parameters more each width costs, all others as they were. Widths on one axis share its new indices."""
    old = {tensors.get(item.name): item.shape for item in a.parameters if item.tied_to is None}
    new = {item.name: item.shape for item in b.parameters}
    found: Counter[str] = Counter()
    for (name, axis), widths in sites_of(b.widths).items():
        x, y = old.get(name, ()), new.get(name, ())
        more = {width: growth_summary(changes[width]) for width in widths if width in changes}
        if len(x) == len(y) and x and x[axis] and sum(more.values()):
            for width, neurons in more.items():
                found[width] += (
                    prod(x) // x[axis] * (y[axis] - x[axis]) * neurons // sum(more.values())
                )
    return found


def sites_of(widths: Iterable[WidthSpec]) -> dict[tuple[str, int], list[str]]:
    """The names of the widths on each axis of each tensor."""
    at: dict[tuple[str, int], list[str]] = {}
    for width in widths:
        for site in width.sites:
            at.setdefault((site.parameter, site.axis), []).append(width.name)
    return at


def growth_summary(change: WidthDiff) -> int:
    """How many neurons a width has more; 0 if it does not exist on both sides."""
    return 0 if change.before is None or change.after is None else change.after - change.before
