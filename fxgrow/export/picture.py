"""``dot``, ``svg``, ``png``: the graph as Graphviz draws it, containers as boxes, what growth changed in colour."""

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
    """The function that writes a picture of one kind and looks whether it is one."""

    def write(subject: ExportSource, path: Path, options: Options) -> Check:
        del options
        drawing = picture(subject)
        if kind == "dot":
            drawing.write(str(path))
        else:
            drawing.draw(str(path), format=kind, prog="dot")
        if not check(path):
            raise InternalError(f"Graphviz wrote no {kind} file")
        return Check(f"{len(drawing.nodes())} nodes, {len(drawing.edges())} edges")

    return write


def picture(subject: ExportSource) -> Any:
    """The graph as a ``pygraphviz.AGraph``. Raises ``ExportError("missing-extra")``."""
    graphviz = require("pygraphviz", extra="draw", error=ExportError)
    drawing = graphviz.AGraph(directed=True, **_GRAPH)
    drawing.node_attr.update(_NODE)
    drawing.edge_attr.update(color="#757575", arrowsize="0.6")
    scene = _Scene(subject)
    clusters: dict[str, Any] = {"": drawing}
    for node in scene.nodes:
        _cluster(clusters, scene.home(node), scene.boxes).add_node(
            node.name, label=scene.label(node), **scene.look(node)
        )
    known = {node.name for node in scene.nodes}
    for node in scene.nodes:
        drawing.add_edges_from(
            (name, node.name) for name in dict.fromkeys(block_operands(node)) if name in known
        )
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
    """What is drawn: every node with its place, its label and its colour."""

    def __init__(self, subject: ExportSource) -> None:
        self.program = SourceProgram(subject.spec)
        self.nodes = [node for node in subject.spec.nodes if node.name in self._drawn()]
        self._types = {item.name: item.type.rpartition(".")[2] for item in subject.spec.modules}
        self._shapes = node_shapes(subject)
        self._grown = node_styles(subject.spec)
        found = list(all_blocks(blocks(self.program)))
        self.boxes = frozenset(block.path for block in found)
        # Outer blocks come first, so the innermost one around a node is what stays.
        nodes = self.program.nodes
        self._homes = {
            node.name: block.path for block in found for node in nodes[block.start : block.stop]
        }

    def _drawn(self) -> set[str]:
        return {*self.program.index, *(self.program.got.keys() & self.program.last.keys())}

    def home(self, node: NodeSpec) -> str:
        """The container around a node."""
        if node.op not in ("call_module", "get_attr"):
            return self._homes[node.name]
        path = parent_of(node.target)
        while path and path not in self.program.containers:
            path = parent_of(path)
        return path

    def label(self, node: NodeSpec) -> str:
        """What it is, what shape it gives, and what growth made of it."""
        name = (
            str(node.args[1])
            if node.target == "builtins.getattr"
            else node.target.rpartition(".")[2]
        )
        kind = self._types.get(node.target) if node.op == "call_module" else None
        title = node.target if node.op == "placeholder" else f"{name}: {kind}" if kind else name
        change = self._change(node)
        return "\\n".join(
            part for part in (title, self._shapes.get(node.name), change and change.words) if part
        )

    def look(self, node: NodeSpec) -> dict[str, str]:
        """Colour by what happened to the node, then by what it is; tensors are ovals."""
        change = self._change(node)
        if node.op == "get_attr":
            return {"fillcolor": TENSOR, "shape": "ellipse"}
        ends = ENDS if node.op in ("placeholder", "output") else PLAIN
        return {"fillcolor": ends if change is None else INSERTED if change.inserted else GROWN}

    def _change(self, node: NodeSpec) -> NodeStyle | None:
        if node.op == "call_module":
            return self._grown.get(node.target)
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
    return data.startswith(b"\x89PNG\r\n\x1a\n") and data[-8:-4] == b"IEND"
