"""What changed between two architectures."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fxgrow.report.numbers import NO_VALUE, count_text, number_text, quantity_text, ratio_text
from fxgrow.report.style import DIM, cell_texts, make_table
from fxgrow.spec import LayerDiff, RenameDiff, SpecDiff, WidthDiff

# So many names stand on a line; more are cut off.
MAX_LISTED = 12


def diff_tables(diff: SpecDiff) -> tuple[RenderableType, ...]:
    """A diff as tables and lines.

    A change that follows from a width, a layer or a new module is counted, not listed.

    Args:
        diff: what ``fxgrow.diff`` found.

    Returns:
        Growth steps, widths, layers, what else changed, what follows from it, and the cost; a line
        if nothing differs.
    """
    if diff.empty:
        return (Text("The two architectures are the same."),)
    if diff.cosmetic:
        return (Text("The two architectures differ in nothing but names and order."), *_nodes(diff))
    tables = []
    for table in (_widths(diff), _layers(diff), _attributes(diff), _tensors(diff)):
        if table.row_count:
            tables.append(table)
    return (*_steps(diff), *tables, *_nodes(diff), *_consequences(diff), _cost(diff))


def _steps(diff: SpecDiff) -> Iterator[Text]:
    direction = "" if diff.forward else " (undone)"
    for index, step in enumerate(diff.steps, start=1):
        widths = quantity_text(len(step.widths), "width")
        layers = quantity_text(len(step.layers), "layer")
        if step.blocks:
            layers = quantity_text(step.num_blocks, "block")
        losses = f"loss {number_text(step.loss_before)} -> {number_text(step.loss_after)}"
        yield Text(
            f"growth step {index} of {len(diff.steps)}{direction}: {step.method.name}, "
            f"{widths} and {layers}, {losses}"
        )


def _widths(diff: SpecDiff) -> Table:
    right = ("before", "after", "split", "new", "score", "parameters")
    table = make_table("Widths", "width", *right, right=right)
    for width in diff.widths:
        numbers = (
            _text_or_dash(width.before),
            _text_or_dash(width.after),
            *_origin(width),
            number_text(width.score),
            signed_count_text(width.parameters),
        )
        table.add_row(*cell_texts(_name(width), *numbers))
    return table


def _text_or_dash(value: object | None) -> str:
    return NO_VALUE if value is None else str(value)


def _name(width: WidthDiff) -> str:
    return width.name if width.was is None else f"{width.name} (was {width.was})"


def _origin(width: WidthDiff) -> tuple[str, str]:
    """How many neurons are split and new; dashes if no history tells."""
    return (NO_VALUE, NO_VALUE) if width.origin == "unknown" else (str(width.split), str(width.new))


def signed_count_text(parameters: int) -> str:
    """A difference with its sign: +1.2 k; a dash for none."""
    if not parameters:
        return NO_VALUE
    sign = "+" if parameters > 0 else "-"
    return f"{sign}{count_text(abs(parameters))}"


def _layers(diff: SpecDiff) -> Table:
    right = ("neurons", "nodes", "score", "parameters")
    table = make_table("Layers", "layer", "change", "after", "form", *right, right=right)
    for layer in diff.layers:
        numbers = (
            str(layer.neurons),
            str(len(layer.nodes)),
            number_text(layer.score),
            signed_count_text(_added_parameters(layer)),
        )
        words = (layer.name, layer.change, layer.after, layer.form or NO_VALUE)
        table.add_row(*cell_texts(*words, *numbers))
    return table


def _added_parameters(layer: LayerDiff) -> int:
    """The parameters that a layer adds; a removed one adds a negative number."""
    return layer.parameters if layer.change == "inserted" else -layer.parameters


def _attributes(diff: SpecDiff) -> Table:
    table = make_table("Modules", "module", "attribute", "before", "after")
    for module in diff.modules:
        if not module.caused_by:
            values = (_text_or_dash(module.before), _text_or_dash(module.after))
            table.add_row(*cell_texts(module.name, module.attribute, *values))
    return table


def _tensors(diff: SpecDiff) -> Table:
    table = make_table("Tensors and inputs", "name", "before", "after", "else")
    for item in diff.inputs:
        shapes = (item.before or NO_VALUE, item.after or NO_VALUE)
        table.add_row(*cell_texts(f"{item.name} (input)", *shapes, ""))
    for tensor in diff.tensors:
        if not tensor.caused_by:
            shapes = (_shape(tensor.before), _shape(tensor.after))
            table.add_row(*cell_texts(tensor.name, *shapes, ", ".join(tensor.properties)))
    return table


def _shape(shape: tuple[int, ...] | None) -> str:
    return NO_VALUE if shape is None else str(list(shape))


def _nodes(diff: SpecDiff) -> tuple[Text, ...]:
    """A line per kind of change of nodes."""
    modules = [item for item in diff.renamed if item.what == "module"]
    lines = [
        *_line("inserted nodes", diff.inserted),
        *_line("removed nodes", diff.removed),
        *_line("moved nodes", diff.moved),
        *_line("rewired nodes", _changed_nodes(diff, "rewired")),
        *_line("other arguments", _changed_nodes(diff, "arguments")),
        *_line("renamed modules", shortest_renames(modules)),
        *_line("renamed nodes", _renamed_nodes(diff, modules)),
    ]
    if not lines and not diff.layers:
        lines.append(Text("no layers inserted or removed"))
    return tuple(lines)


def _line(title: str, names: Sequence[str]) -> list[Text]:
    """The names in a line, cut to ``MAX_LISTED``; no line for none."""
    if not names:
        return []
    more = ", ..." if len(names) > MAX_LISTED else ""
    return [Text(f"{title} ({len(names)}): {', '.join(names[:MAX_LISTED])}{more}")]


def _changed_nodes(diff: SpecDiff, kind: str) -> list[str]:
    """The nodes that changed in this way, unless it follows from another change."""
    names = []
    for node in diff.changed:
        if node.kind == kind and not node.caused_by:
            names.append(f"{node.after} (was {node.before})")
    return names


def _renamed_nodes(diff: SpecDiff, modules: Sequence[RenameDiff]) -> list[str]:
    """The nodes with another name, unless the module that they call has another one, too."""
    names = []
    for node in diff.renamed:
        if node.what == "node" and not _follows_module(node, modules):
            names.append(f"{node.before} -> {node.after}")
    return names


def _follows_module(node: RenameDiff, modules: Iterable[RenameDiff]) -> bool:
    for module in modules:
        # A node is called after the path of its module, with _ for every dot.
        old, new = module.before.replace(".", "_"), module.after.replace(".", "_")
        if old in node.before and node.after == node.before.replace(old, new):
            return True
    return False


def shortest_renames(renamed: Iterable[RenameDiff]) -> list[str]:
    """Renamed modules without the ends of their paths that stayed.

    ``layer1.0.conv1 -> stage.0.conv1`` becomes ``layer1 -> stage``, once for all modules in it.
    """
    shortened: dict[str, None] = {}
    for item in renamed:
        old, new = item.before.split("."), item.after.split(".")
        while len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
            old, new = old[:-1], new[:-1]
        shortened[f"{'.'.join(old)} -> {'.'.join(new)}"] = None
    return [*shortened]


def _consequences(diff: SpecDiff) -> tuple[Text, ...]:
    """How many changes follow from others."""
    counts = {
        "node": sum(bool(node.caused_by) for node in diff.changed),
        "module attribute": sum(bool(module.caused_by) for module in diff.modules),
        "tensor": sum(bool(tensor.caused_by) for tensor in diff.tensors),
    }
    words = [quantity_text(count, name) for name, count in counts.items() if count]
    return (Text(f"what follows from these: {', '.join(words)}", style=DIM),) if words else ()


def _cost(diff: SpecDiff) -> Table:
    table = make_table("Cost", "", "before", "after", "ratio", right=("before", "after", "ratio"))
    before, after = diff.cost_before, diff.cost_after
    rows = (
        ("parameters", before.parameters, after.parameters),
        ("multiply-adds", before.multiply_adds, after.multiply_adds),
    )
    for name, old, new in rows:
        table.add_row(*cell_texts(name, count_text(old), count_text(new), ratio_text(old, new)))
    return table
