"""Both cells of a genotype as a picture: states are boxes, edges carry their operations.

Drawn by Graphviz, which the extra ``draw`` brings along (pygraphviz).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

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
# Fill and line of the boxes, by the kind of node; lines of the operations, by what their names begin with. All of them
# can be told apart without red or green (Okabe, Ito 2008).
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
"""Per inch; the other forms have no dots."""
DRAWN = {".svg": "", ".png": PNG_DOTS, ".pdf": ""}
TEXT = (".dot", ".gv")
_STRANGER = foreign_file(begins_with(b"<?xml", b"\x89PNG", b"%PDF", b"digraph"))

Numbers = Mapping[CellKind, Sequence[Sequence[int | None]]]
"""Channels inside the operation on each edge of each node, by kind of cell; None: nothing to say."""


def draw(
    genotype: Genotype, path: Path, channels: Numbers | None = None, *, force: bool = False
) -> None:
    """Write both cells to ``path``: .svg, .png or .pdf, or .dot, which Graphviz reads. ``channels`` stand on the edges.

    ``force``: replace an earlier picture. Raises ``RunError``: another ending (``picture-format``), no pygraphviz
    (``missing-extra``), ``path-exists``, ``foreign-path``, ``unsafe-path``, ``unwritable-run``.
    """
    with atomic_path(path, FILE_OUTPUT, _STRANGER, force=force, parents=False) as staging:
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
    graphviz = require("pygraphviz", extra="draw", error=RunError)
    data: bytes = graphviz.AGraph(string=text).draw(
        prog="dot", format=suffix[1:], args=DRAWN[suffix]
    )
    return data


def dot_text(genotype: Genotype, channels: Numbers | None = None) -> str:
    """The picture in the language of Graphviz."""
    lines = [
        "digraph cells {",
        "  rankdir=LR; nodesep=0.3; ranksep=0.75; pad=0.2; splines=true;",
        f'  graph [{FONT} fontsize=15 fontcolor="#555555" labeljust=l];',
        f'  node [{FONT} fontsize=13 fontcolor="#222222" shape=box style="rounded,filled" height=0.42 penwidth=1.3];',
        f"  edge [{FONT} fontsize=11 arrowsize=0.7 penwidth=1.3];",
    ]
    for kind in (CellKind.REDUCE, CellKind.NORMAL):  # laid out from the bottom up
        numbers = None if channels is None else channels.get(kind)
        lines += [f"  {line}" for line in _cluster(kind, cell_of(genotype, kind), numbers)]
    return "\n".join([*lines, "}", ""])


def _cluster(
    kind: CellKind, cell: Cell, channels: Sequence[Sequence[int | None]] | None
) -> Iterator[str]:
    graph = dag(cell)
    yield f'subgraph cluster_{kind} {{ label="{TITLES[kind]}"; color="#d0d0d0"; style=rounded; margin=14;'
    for state in graph:
        fill, line = BOXES[graph.nodes[state]["kind"]]
        yield f'  {kind}{state} [label=<{_name(state, cell)}> fillcolor="{fill}" color="{line}"];'
    yield f"  {{ rank=same; {kind}1 -> {kind}0 [style=invis]; }}"  # the older input at the top
    for source, target, number in graph.edges(keys=True):
        operation = graph.edges[source, target, number]["operation"]
        inside = (
            None
            if channels is None or operation is None
            else channels[target - INPUT_STATES][number]
        )
        yield f"  {kind}{source} -> {kind}{target} [{_line(operation, inside)}];"
    yield "}"


def _name(state: int, cell: Cell) -> str:
    """Graphviz's markup: the inputs and the output with an index below, nodes from 0 as papers number them."""
    words = (*INPUT_NAMES, *map(str, range(len(cell.nodes))), OUTPUT_NAME)[state]
    base, _, index = words.partition("_")
    return f"<i>{base}</i><sub>{index.strip('{}')}</sub>" if index else base


def _line(operation: Operation | None, channels: int | None) -> str:
    if operation is None:
        return 'color="#b5b5b5" penwidth=1.0'
    colour, style = LINES[operation.partition("_")[0]]
    more = "" if channels is None else f"\\n{channels} channels"
    return f'label="{operation}{more}" color="{colour}" fontcolor="{colour}" style={style}'
