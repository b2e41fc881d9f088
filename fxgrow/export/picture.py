"""``dot``, ``svg``, ``png``: the graph as Graphviz draws it.

Containers are boxes, and colors show what growth changed.
"""

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from fxgrow.errors import ExportError, InternalError
from fxgrow.export.format import Check, Options
from fxgrow.export.graph_styles import NodeStyle, node_shapes, node_styles
from fxgrow.export.python.blocks import SourceProgram, all_blocks, block_operands, blocks
from fxgrow.export.source_model import ExportSource
from fxgrow.optional import require
from fxgrow.spec import NodeSpec, parent_of

PLAIN, TENSOR, ENDS, GROWN, INSERTED = "#f5f5f5", "#fff8e1", "#e3f2fd", "#c8e6c9", "#ffcc80"
_GRAPH = {
    "rankdir": "TB",
    "fontname": "Helvetica",
    "fontsize": "11",
    "nodesep": "0.2",
    "ranksep": "0.25",
}
_NODE = {
    "shape": "box",
    "style": "filled,rounded",
    "fontname": "Helvetica",
    "fontsize": "10",
    "margin": "0.12,0.05",
    "height": "0.3",
}
_CLUSTER = {
    "style": "rounded",
    "color": "#9e9e9e",
    "fontcolor": "#616161",
    "fontsize": "11",
    "labeljust": "l",
}


def picture_writer(
    kind: str, check: Callable[[Path], bool]
) -> Callable[[ExportSource, Path, Options], Check]:
    """Make the function that writes a picture of one kind.

    Args:
        kind: ``dot``, ``svg`` or ``png``.
        check: whether a file is such a picture; it is asked about what Graphviz wrote.

    Returns:
        A ``Write`` function, as ``FORMATS`` holds them.
    """

    def write(source: ExportSource, path: Path, options: Options) -> Check:
        del options  # no choice concerns a picture
        drawing = picture(source)
        if kind == "dot":
            drawing.write(str(path))
        else:
            drawing.draw(str(path), format=kind, prog="dot")
        if not check(path):
            raise InternalError(f"Graphviz wrote no {kind} file")
        return Check(f"{len(drawing.nodes())} nodes, {len(drawing.edges())} edges")

    return write


def picture(source: ExportSource) -> Any:
    """Draw the graph as a ``pygraphviz.AGraph``. Raises ``ExportError("missing-extra")``."""
    graphviz = require("pygraphviz", extra="draw", error=ExportError)
    drawing = graphviz.AGraph(directed=True, **_GRAPH)
    drawing.node_attr.update(_NODE)
    drawing.edge_attr.update(color="#757575", arrowsize="0.6")
    scene = _Scene(source)
    # Container path -> its subgraph; the whole drawing is the box of the model itself.
    clusters: dict[str, Any] = {"": drawing}
    for node in scene.nodes:
        box = _cluster(clusters, scene.container(node), scene.boxes)
        box.add_node(node.name, label=scene.label(node), **scene.colors(node))
    drawn = {node.name for node in scene.nodes}
    for node in scene.nodes:
        # One edge for an operand that is used twice, as in x * x.
        for operand in dict.fromkeys(block_operands(node)):
            if operand in drawn:
                drawing.add_edge(operand, node.name)
    return drawing


def _cluster(clusters: dict[str, Any], path: str, boxes: Container[str]) -> Any:
    """The box of a container, inside the boxes around it; one that others interrupt has none."""
    if path not in clusters and path not in boxes:
        return _cluster(clusters, parent_of(path), boxes)
    if path not in clusters:
        outer = _cluster(clusters, parent_of(path), boxes)
        clusters[path] = outer.add_subgraph(name=f"cluster_{path}", label=path, **_CLUSTER)
    return clusters[path]


class _Scene:
    """What is drawn: every node with its container, its label and its colors."""

    def __init__(self, source: ExportSource) -> None:
        self.program = SourceProgram(source.spec)
        # Sizes that nothing uses are left out, and so are tensors that nothing uses.
        used_tensors = self.program.tensors.keys() & self.program.last_use.keys()
        drawn = self.program.index.keys() | used_tensors
        self.nodes = [node for node in source.spec.nodes if node.name in drawn]
        self._types = {item.name: item.type.rpartition(".")[2] for item in source.spec.modules}
        self._shapes = node_shapes(source)
        self._styles = node_styles(source.spec)
        self.boxes: set[str] = set()
        self._containers: dict[str, str] = {}
        # Outer blocks come first, so the innermost one around a node is what stays.
        for block in all_blocks(blocks(self.program)):
            self.boxes.add(block.path)
            for node in self.program.nodes[block.start : block.stop]:
                self._containers[node.name] = block.path

    def container(self, node: NodeSpec) -> str:
        """The path of the container around a node."""
        if node.op in ("call_module", "get_attr"):
            return self.program.container_of(node.target)
        return self._containers[node.name]

    def label(self, node: NodeSpec) -> str:
        """What the node is, what shape it gives, and what growth made of it: a line each."""
        lines = [self._title(node), self._shapes.get(node.name, "")]
        style = self._style(node)
        if style is not None:
            lines.append(style.words)
        # Graphviz reads a backslash and an n as the end of a line.
        return "\\n".join(line for line in lines if line)

    def _title(self, node: NodeSpec) -> str:
        """``conv: Conv2d`` for a call of a module, else what is called or read."""
        if node.op == "placeholder":
            return node.target
        if node.target == "builtins.getattr":
            return str(node.args[1])
        name = node.target.rpartition(".")[2]
        if node.op == "call_module" and node.target in self._types:
            return f"{name}: {self._types[node.target]}"
        return name

    def colors(self, node: NodeSpec) -> dict[str, str]:
        """Color by what happened to the node, then by what it is; tensors are ovals."""
        if node.op == "get_attr":
            return {"fillcolor": TENSOR, "shape": "ellipse"}
        style = self._style(node)
        if style is not None:
            return {"fillcolor": INSERTED if style.inserted else GROWN}
        return {"fillcolor": ENDS if node.op in ("placeholder", "output") else PLAIN}

    def _style(self, node: NodeSpec) -> NodeStyle | None:
        if node.op == "call_module":
            return self._styles.get(node.target)
        # Only nodes that a growth step put in have a provenance.
        return NodeStyle("", inserted=True) if node.provenance is not None else None


def is_dot(path: Path) -> bool:
    """Whether pygraphviz reads the file."""
    graphviz = require("pygraphviz", extra="draw", error=ExportError)
    return len(graphviz.AGraph(str(path)).nodes()) > 0


def is_svg(path: Path) -> bool:
    """Whether the file is XML with a drawing in it."""
    return path.read_text(encoding="utf-8").rstrip().endswith("</svg>")


def is_png(path: Path) -> bool:
    """Whether the file starts and ends as the format wants."""
    data = path.read_bytes()
    # The last chunk is IEND, followed by its checksum of four bytes.
    return data.startswith(b"\x89PNG\r\n\x1a\n") and data[-8:-4] == b"IEND"
