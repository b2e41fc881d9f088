"""Both cells of a genotype as a picture: states are boxes, edges carry their operations.

Drawn by Graphviz, by way of pygraphviz, which the extra ``draw`` installs.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fxgrow.argument_checks import checked
from fxgrow.cells.cell import dag
from fxgrow.cells.genotype import INPUT_STATES, Cell, Genotype, Operation
from fxgrow.cells.stack import CellKind, cell_of
from fxgrow.documents import FILE_OUTPUT, atomic_path, begins_with, foreign_file, os_errors_as
from fxgrow.errors import RunError
from fxgrow.optional import require

TITLES: Mapping[CellKind, str] = MappingProxyType(
    {CellKind.NORMAL: "normal cell", CellKind.REDUCE: "reduction cell"}
)
INPUT_NAMES = ("c_{k-2}", "c_{k-1}")
OUTPUT_NAME = "c_{k}"
# Fill and line of the boxes, by the kind of node; lines of the operations, by the beginning of
# their names. All of them can be told apart without red or green (Okabe, Ito 2008).
BOXES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "input": ("#e3f1e9", "#009e73"),
        "node": ("#e6eef7", "#0072b2"),
        "output": ("#fdf0d5", "#b97a00"),
    }
)
LINES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "sep": ("#0072b2", "solid"),
        "dil": ("#a8447f", "solid"),
        "conv": ("#5b4bb5", "solid"),
        "max": ("#c65102", "solid"),
        "avg": ("#b97a00", "solid"),
        "skip": ("#555555", "dashed"),
    }
)
FONT = 'fontname="Helvetica"'
PNG_DOTS = "-Gdpi=160"
"""Dots per inch; the other formats have no dots."""
DRAWN = {".svg": "", ".png": PNG_DOTS, ".pdf": ""}
TEXT = (".dot", ".gv")
_FOREIGN_TO_PICTURE = foreign_file(begins_with(b"<?xml", b"\x89PNG", b"%PDF", b"digraph"))

EdgeChannels = Sequence[Sequence[int | None]]
"""Channels inside the operation on each edge of each node; None: the edge shows none."""
Channels = Mapping[CellKind, EdgeChannels]


@checked
def draw(
    genotype: Genotype, path: Path, channels: Channels | None = None, *, force: bool = False
) -> None:
    """Draw both cells.

    Args:
        genotype: the two cells.
        path: .svg, .png or .pdf, or .dot and .gv for the text that Graphviz reads.
        channels: numbers of channels that stand on the edges, by kind of cell, node and edge.
        force: replace an earlier picture.

    Raises:
        RunError: the ending is another one (``picture-format``), pygraphviz is not installed
            (``missing-extra``), or ``path`` cannot be written (``path-exists``, ``foreign-path``,
            ``unsafe-path``, ``unwritable-run``).

    Example:
        >>> draw(GENOTYPES["DARTS_V2"], Path("cells.svg"))
    """
    with atomic_path(path, FILE_OUTPUT, _FOREIGN_TO_PICTURE, force=force, parents=False) as staging:
        # Drawn before it is written: failures of Graphviz are no failures of writing.
        data = _picture(dot_text(genotype, channels), path.suffix.lower())
        with os_errors_as(path, FILE_OUTPUT):
            staging.write_bytes(data)


def _picture(text: str, suffix: str) -> bytes:
    if suffix in TEXT:
        return text.encode()
    if suffix not in DRAWN:
        endings = ", ".join((*DRAWN, *TEXT))
        raise RunError(
            "picture-format",
            f"pictures cannot be written as {suffix or 'a file without ending'}; use {endings}",
        )
    # Imported here alone: without the extra, text can be written still.
    graphviz = require("pygraphviz", extra="draw", error=RunError)
    graph = graphviz.AGraph(string=text)
    data: bytes = graph.draw(prog="dot", format=suffix[1:], args=DRAWN[suffix])
    return data


def dot_text(genotype: Genotype, channels: Channels | None = None) -> str:
    """The picture in the language of Graphviz."""
    node_style = 'shape=box style="rounded,filled" height=0.42 penwidth=1.3'
    lines = [
        "digraph cells {",
        "  rankdir=LR; nodesep=0.3; ranksep=0.75; pad=0.2; splines=true;",
        f'  graph [{FONT} fontsize=15 fontcolor="#555555" labeljust=l];',
        f'  node [{FONT} fontsize=13 fontcolor="#222222" {node_style}];',
        f"  edge [{FONT} fontsize=11 arrowsize=0.7 penwidth=1.3];",
    ]
    # Graphviz lays out clusters from the bottom up: the normal cell comes to the top.
    for kind in (CellKind.REDUCE, CellKind.NORMAL):
        of_kind = None if channels is None else channels.get(kind)
        for line in _cluster(kind, cell_of(genotype, kind), of_kind):
            lines.append(f"  {line}")
    return "\n".join([*lines, "}", ""])


def _cluster(kind: CellKind, cell: Cell, channels: EdgeChannels | None) -> Iterator[str]:
    """One cell. Its boxes are named by the kind of the cell and the number of the state."""
    graph = dag(cell)
    frame = 'color="#d0d0d0"; style=rounded; margin=14;'
    yield f'subgraph cluster_{kind} {{ label="{TITLES[kind]}"; {frame}'
    for state in graph:
        fill, line = BOXES[graph.nodes[state]["kind"]]
        label = _state_label(state, cell)
        yield f'  {kind}{state} [label=<{label}> fillcolor="{fill}" color="{line}"];'
    # An invisible edge keeps the older input above the newer one.
    yield f"  {{ rank=same; {kind}1 -> {kind}0 [style=invis]; }}"
    for source, target, number in graph.edges(keys=True):
        operation = graph.edges[source, target, number]["operation"]
        inside = None
        if channels is not None and operation is not None:
            inside = channels[target - INPUT_STATES][number]
        yield f"  {kind}{source} -> {kind}{target} [{_edge_style(operation, inside)}];"
    yield "}"


def _state_label(state: int, cell: Cell) -> str:
    """Graphviz's markup: inputs and output with an index, nodes from 0 as papers number them."""
    node_names = map(str, range(len(cell.nodes)))
    name = (*INPUT_NAMES, *node_names, OUTPUT_NAME)[state]
    base, _, index = name.partition("_")
    return f"<i>{base}</i><sub>{index.strip('{}')}</sub>" if index else base


def _edge_style(operation: Operation | None, channels: int | None) -> str:
    if operation is None:  # from a node to the output
        return 'color="#b5b5b5" penwidth=1.0'
    color, style = LINES[operation.partition("_")[0]]
    suffix = "" if channels is None else f"\\n{channels} channels"
    return f'label="{operation}{suffix}" color="{color}" fontcolor="{color}" style={style}'
