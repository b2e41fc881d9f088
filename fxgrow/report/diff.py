"""What changed between two architectures."""

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fxgrow.report.numbers import NO_VALUE, count_text, number_text, quantity_text, ratio_text
from fxgrow.report.style import DIM, cell_texts, make_table
from fxgrow.spec import LayerDiff, RenameDiff, SpecDiff, WidthDiff

LISTED = 12


def diff_tables(diff: SpecDiff) -> tuple[RenderableType, ...]:
    """Growth steps, widths, layers, what else changed, what follows from it, and the cost; a line if nothing differs.

    A change that follows from a width, a layer or a new module is counted, not listed.
    """
    if diff.empty:
        return (Text("The two architectures are the same."),)
    if diff.cosmetic:
        return (Text("The two architectures differ in nothing but names and order."), *_nodes(diff))
    tables = (
        part
        for part in (_widths(diff), _layers(diff), _attributes(diff), _tensors(diff))
        if part.row_count
    )
    return (*_steps(diff), *tables, *_nodes(diff), *_follows(diff), _cost(diff))


def _steps(diff: SpecDiff) -> Iterable[Text]:
    way = "" if diff.forward else " (undone)"
    for index, step in enumerate(diff.steps, start=1):
        losses = f"loss {number_text(step.loss_before)} -> {number_text(step.loss_after)}"
        grown = f"{quantity_text(len(step.widths), 'width')} and {quantity_text(len(step.layers), 'layer')}"
        yield Text(
            f"growth step {index} of {len(diff.steps)}{way}: {step.method.name}, {grown}, {losses}"
        )


def _widths(diff: SpecDiff) -> Table:
    right = ("before", "after", "split", "new", "score", "parameters")
    made = make_table("Widths", "width", *right, right=right)
    for width in diff.widths:
        sizes = (NO_VALUE if size is None else str(size) for size in (width.before, width.after))
        made.add_row(
            *cell_texts(
                _name(width),
                *sizes,
                *_origin(width),
                number_text(width.score),
                more_text(width.parameters),
            )
        )
    return made


def _name(width: WidthDiff) -> str:
    return width.name if width.was is None else f"{width.name} (was {width.was})"


def _origin(width: WidthDiff) -> tuple[str, str]:
    return (NO_VALUE, NO_VALUE) if width.origin == "unknown" else (str(width.split), str(width.new))


def more_text(parameters: int) -> str:
    """A difference with its sign: +1.2 k."""
    return (
        NO_VALUE
        if not parameters
        else f"{'+' if parameters > 0 else '-'}{count_text(abs(parameters))}"
    )


def _layers(diff: SpecDiff) -> Table:
    right = ("neurons", "nodes", "score", "parameters")
    made = make_table("Layers", "layer", "change", "after", "form", *right, right=right)
    for layer in diff.layers:
        numbers = (
            str(layer.neurons),
            str(len(layer.nodes)),
            number_text(layer.score),
            more_text(_signed(layer)),
        )
        made.add_row(
            *cell_texts(layer.name, layer.change, layer.after, layer.form or NO_VALUE, *numbers)
        )
    return made


def _signed(layer: LayerDiff) -> int:
    return layer.parameters if layer.change == "inserted" else -layer.parameters


def _attributes(diff: SpecDiff) -> Table:
    made = make_table("Modules", "module", "attribute", "before", "after")
    for module in diff.modules:
        if not module.caused_by:
            words = (
                NO_VALUE if value is None else value for value in (module.before, module.after)
            )
            made.add_row(*cell_texts(module.name, module.attribute, *words))
    return made


def _tensors(diff: SpecDiff) -> Table:
    made = make_table("Tensors and inputs", "name", "before", "after", "else")
    for item in diff.inputs:
        made.add_row(
            *cell_texts(f"{item.name} (input)", item.before or NO_VALUE, item.after or NO_VALUE, "")
        )
    for tensor in diff.tensors:
        if not tensor.caused_by:
            shapes = (
                NO_VALUE if shape is None else str(list(shape))
                for shape in (tensor.before, tensor.after)
            )
            made.add_row(*cell_texts(tensor.name, *shapes, ", ".join(tensor.properties)))
    return made


def _nodes(diff: SpecDiff) -> tuple[Text, ...]:
    """A line per kind of change of nodes."""
    changed = [node for node in diff.changed if not node.caused_by]
    modules, nodes = ([r for r in diff.renamed if r.what == what] for what in ("module", "node"))
    # A renamed module renames the nodes that call it; what is left is worth a line.
    own = [node for node in nodes if not _follows_module(node, modules)]
    parts = (
        ("inserted nodes", diff.inserted),
        ("removed nodes", diff.removed),
        ("moved nodes", diff.moved),
        (
            "rewired nodes",
            [f"{node.after} (was {node.before})" for node in changed if node.kind == "rewired"],
        ),
        (
            "other arguments",
            [f"{node.after} (was {node.before})" for node in changed if node.kind == "arguments"],
        ),
        ("renamed modules", longest_prefixes(modules)),
        ("renamed nodes", [f"{node.before} -> {node.after}" for node in own]),
    )
    lines = [Text(f"{word} ({len(names)}): {_listed(names)}") for word, names in parts if names]
    return tuple(lines) or (() if diff.layers else (Text("no layers inserted or removed"),))


def _follows_module(node: RenameDiff, modules: Iterable[RenameDiff]) -> bool:
    pairs = ((m.before.replace(".", "_"), m.after.replace(".", "_")) for m in modules)
    return any(
        old in node.before and node.after == node.before.replace(old, new) for old, new in pairs
    )


def longest_prefixes(renamed: Iterable[RenameDiff]) -> list[str]:
    """Renamed modules without the ends that stayed: layer1.0.conv1 -> stage.0.conv1 is layer1 -> stage."""
    found: dict[str, None] = {}
    for each in renamed:
        old, new = each.before.split("."), each.after.split(".")
        while len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
            old, new = old[:-1], new[:-1]
        found[f"{'.'.join(old)} -> {'.'.join(new)}"] = None
    return [*found]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


def _follows(diff: SpecDiff) -> tuple[Text, ...]:
    """How many changes follow from others."""
    parts = (("node", diff.changed), ("module attribute", diff.modules), ("tensor", diff.tensors))
    counts = Counter({word: sum(bool(each.caused_by) for each in found) for word, found in parts})
    words = [quantity_text(counts[word], word) for word, _ in parts if counts[word]]
    return (Text(f"what follows from these: {', '.join(words)}", style=DIM),) if words else ()


def _cost(diff: SpecDiff) -> Table:
    made = make_table("Cost", "", "before", "after", "ratio", right=("before", "after", "ratio"))
    before, after = diff.cost_before, diff.cost_after
    rows = (
        ("parameters", before.parameters, after.parameters),
        ("multiply-adds", before.multiply_adds, after.multiply_adds),
    )
    for name, old, new in rows:
        made.add_row(*cell_texts(name, count_text(old), count_text(new), ratio_text(old, new)))
    return made
