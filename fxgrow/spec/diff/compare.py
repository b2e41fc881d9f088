"""What changed between two specifications: they are aligned, then every change is classified and explained."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from fxgrow.spec.arguments import argument_text
from fxgrow.spec.diff.align import Alignment, align, position
from fxgrow.spec.diff.attribution import Attribution
from fxgrow.spec.diff.graph_view import node_constants, node_operands
from fxgrow.spec.diff.growth_history import layer_diffs, steps_between, width_diffs
from fxgrow.spec.diff.records import (
    InputDiff,
    ModuleDiff,
    NodeDiff,
    RenameDiff,
    SpecDiff,
    TensorDiff,
)
from fxgrow.spec.models import ArchitectureSpec, InputSpec, ModuleSpec, NodeSpec


def diff(a: ArchitectureSpec, b: ArchitectureSpec) -> SpecDiff:
    """What has to be done to ``a`` to get ``b``.

    Nodes, modules, tensors and widths that were renamed or moved are found again by what they compute. Costs are those
    of the example inputs of each.
    """
    alignment = align(a, b)
    steps, forward = steps_between(a, b)
    layers = layer_diffs(a, b, alignment, steps, forward)
    widths = width_diffs(a, b, alignment, steps if forward else (), layers)
    reasons = Attribution(a, b, alignment, widths, layers)
    grown = {name for layer in layers for name in layer.nodes}
    return SpecDiff(
        inputs=tuple(_inputs(a.inputs, b.inputs)),
        widths=tuple(widths.values()),
        layers=layers,
        inserted=tuple(
            n.name for n in b.nodes if n.name not in {*alignment.nodes.values(), *grown}
        ),
        removed=tuple(n.name for n in a.nodes if n.name not in {*alignment.nodes, *grown}),
        renamed=tuple(_renamed(a, alignment)),
        moved=_moved(a, b, alignment.nodes),
        changed=tuple(_changed(a, b, alignment.nodes, reasons)),
        modules=tuple(_modules(a, b, alignment.modules, reasons)),
        tensors=tuple(_tensors(a, b, alignment.tensors, reasons)),
        steps=steps,
        forward=forward,
        cost_before=a.cost,
        cost_after=b.cost,
    )


def _inputs(a: Sequence[InputSpec], b: Sequence[InputSpec]) -> Iterable[InputDiff]:
    texts = [
        [(item.name, f"{item.dtype}{list(item.shape)}") for item in inputs] for inputs in (a, b)
    ]
    before, after = texts
    for index in range(max(len(before), len(after))):
        old = before[index] if index < len(before) else None
        new = after[index] if index < len(after) else None
        if old is None or new is None or old[1] != new[1]:
            yield InputDiff(
                name=(new or old or ("",))[0], before=old and old[1], after=new and new[1]
            )


def _renamed(a: ArchitectureSpec, alignment: Alignment) -> Iterable[RenameDiff]:
    for item in a.modules:
        new = alignment.modules.get(item.name, item.name)
        if new != item.name:
            yield RenameDiff(what="module", before=item.name, after=new)
    for node in a.nodes:
        new = alignment.nodes.get(node.name, node.name)
        if new != node.name:
            yield RenameDiff(what="node", before=node.name, after=new)


def _moved(a: ArchitectureSpec, b: ArchitectureSpec, names: Mapping[str, str]) -> tuple[str, ...]:
    """The fewest nodes without which all others are in the same order, by their names in ``b``."""
    places = {node.name: index for index, node in enumerate(b.nodes)}
    news = [names[node.name] for node in a.nodes if node.name in names]
    if position(a) > position(b):  # where there is a choice, the same nodes are chosen both ways
        order = {new: index for index, new in enumerate(news)}
        stay = _rising([order[node.name] for node in b.nodes if node.name in order])
        return tuple(new for index, new in enumerate(news) if index not in stay)
    stay = _rising([places[new] for new in news])
    return tuple(new for new in news if places[new] not in stay)


def _rising(numbers: Sequence[int]) -> set[int]:
    """A longest rising subsequence of distinct numbers (patience sorting)."""
    ends: list[int] = []
    before: dict[int, int | None] = {}
    for number in numbers:
        pile = bisect_left(ends, number)
        before[number] = ends[pile - 1] if pile else None
        ends[pile : pile + 1] = [number]
    found: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        found.add(last)
        last = before[last]
    return found


def _changed(
    a: ArchitectureSpec, b: ArchitectureSpec, names: Mapping[str, str], reasons: Attribution
) -> Iterable[NodeDiff]:
    after = {node.name: node for node in b.nodes}
    for old in a.nodes:
        new = after.get(names.get(old.name, ""))
        if new is None:
            continue
        texts = {"name": new.name, "before": _text(old), "after": _text(new)}
        if [names.get(name) for name in node_operands(old)] != [*node_operands(new)]:
            yield NodeDiff(kind="rewired", **texts, caused_by=reasons.of_operands(old, new))
        if node_constants(old) != node_constants(new):
            yield NodeDiff(
                kind="arguments",
                **texts,
                caused_by=reasons.of_numbers(node_constants(old), node_constants(new)),
            )


def _text(node: NodeSpec) -> str:
    arguments = (
        *map(argument_text, node.args),
        *(f"{key}={argument_text(value)}" for key, value in sorted(node.kwargs.items())),
    )
    return f"{node.op} {node.target}({', '.join(arguments)})"


def _modules(
    a: ArchitectureSpec, b: ArchitectureSpec, names: Mapping[str, str], reasons: Attribution
) -> Iterable[ModuleDiff]:
    before, after = ({item.name: _attributes(item) for item in spec.modules} for spec in (a, b))
    for old, new in _couples(before, after, names):
        x, y = before.get(old or "", {}), after.get(new or "", {})
        name, whole = new or old or "", bool(x and y)
        for key in (
            dict.fromkeys((*x, *y)) if whole else ("type",)
        ):  # the rest of a new module is no change of its own
            was, now = x.get(key), y.get(key)
            if was != now:
                caused_by = (
                    reasons.of_attribute(name, key, was or "", now or "")
                    if whole
                    else reasons.of_new(name)
                )
                yield ModuleDiff(
                    name=name, attribute=key, before=was, after=now, caused_by=caused_by
                )


def _couples(
    before: Iterable[str], after: Iterable[str], names: Mapping[str, str]
) -> Iterable[tuple[str | None, str | None]]:
    """Every name of the first with its partner, then what only the second has."""
    yield from ((name, names.get(name)) for name in before)
    partners = set(names.values())
    yield from ((None, name) for name in after if name not in partners)


def _attributes(item: ModuleSpec) -> Mapping[str, str]:
    return {"type": item.type, **{key: argument_text(value) for key, value in item.config.items()}}


def _tensors(
    a: ArchitectureSpec, b: ArchitectureSpec, names: Mapping[str, str], reasons: Attribution
) -> Iterable[TensorDiff]:
    before, after = ({item.name: item for item in spec.tensors} for spec in (a, b))
    for old, new in _couples(before, after, names):
        x, y = before.get(old or ""), after.get(new or "")
        shapes = (x.shape if x else None, y.shape if y else None)
        properties = tuple(_properties(x.model_dump(), y.model_dump(), names)) if x and y else ()
        if shapes[0] != shapes[1] or properties:
            name = new or old or ""
            caused_by = (
                () if properties else reasons.of_shape(name) if x and y else reasons.of_new(name)
            )
            yield TensorDiff(
                name=name,
                before=shapes[0],
                after=shapes[1],
                properties=properties,
                caused_by=caused_by,
            )


def _properties(
    before: dict[str, object], after: dict[str, object], names: Mapping[str, str]
) -> Iterable[str]:
    """What else than name and shape differs: dtype, requires_grad, persistent, tied_to."""
    tied = before["tied_to"]
    before = {**before, "tied_to": names.get(tied, tied) if isinstance(tied, str) else None}
    for key in dict.fromkeys((*before, *after)):
        if key not in ("name", "shape") and before.get(key) != after.get(key):
            yield f"{key} {before.get(key)} -> {after.get(key)}"
