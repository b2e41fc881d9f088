import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fxgrow.cells import GENOTYPES, CellKind, Genotype
from fxgrow.cells.draw import dot_text, draw
from fxgrow.errors import RunError

WORDS = {"normal cell", "reduction cell"}
# How a file of the form begins.
BEGINNINGS = {
    ".svg": b"<?xml",
    ".png": b"\x89PNG",
    ".pdf": b"%PDF",
    ".dot": b"digraph",
    ".gv": b"digraph",
}


def operations(genotype: Genotype) -> list[str]:
    return sorted(
        edge.operation
        for cell in (genotype.normal, genotype.reduce)
        for node in cell.nodes
        for edge in node
    )


@pytest.mark.parametrize("name", GENOTYPES)
def test_every_state_and_operation_is_in_the_picture(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pygraphviz")
    genotype = GENOTYPES[name]
    draw(genotype, tmp_path / "cells.svg")
    texts = [
        element.text or ""
        for element in ElementTree.parse(tmp_path / "cells.svg").iter()
        if "text" in element.tag
    ]
    assert sorted(text for text in texts if re.search("conv|pool|skip", text)) == operations(
        genotype
    )
    assert set(texts) > WORDS
    nodes = sorted(text for text in texts if text.isdecimal())
    assert nodes == sorted(
        str(number)
        for cell in (genotype.normal, genotype.reduce)
        for number in range(len(cell.nodes))
    )
    assert texts.count("c") == 6
    assert [texts.count(index) for index in ("k-2", "k-1", "k")] == [2, 2, 2]


def test_the_ends_of_every_edge() -> None:
    arrows = re.findall(r"(\w+) -> (\w+) \[label=\"(\w+)\"", dot_text(GENOTYPES["DARTS_V2"]))
    assert sorted(arrows) == sorted(
        (f"{kind}{edge.source}", f"{kind}{state}", edge.operation)
        for kind, cell in (
            ("normal", GENOTYPES["DARTS_V2"].normal),
            ("reduce", GENOTYPES["DARTS_V2"].reduce),
        )
        for state, node in enumerate(cell.nodes, 2)
        for edge in node
    )


def test_channels_stand_on_their_edge() -> None:
    numbers = {CellKind.NORMAL: [[24, 16], [None, 12], [9, 8], [17, None]]}
    text = dot_text(GENOTYPES["DARTS_V1"], numbers)
    assert re.findall(r"(\w+ -> \w+) \[label=\"(\w+)\\n(\d+) channels", text) == [
        ("normal0 -> normal2", "sep_conv_3x3", "16"),
        ("normal0 -> normal4", "skip_connect", "9"),
        ("normal0 -> normal5", "sep_conv_3x3", "17"),
        ("normal1 -> normal2", "sep_conv_3x3", "24"),
        ("normal1 -> normal3", "sep_conv_3x3", "12"),
        ("normal1 -> normal4", "sep_conv_3x3", "8"),
    ]


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_forms(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("pygraphviz")
    path = tmp_path / f"cells{suffix}"
    draw(GENOTYPES["DARTS_V2"], path)
    assert path.read_bytes().startswith(BEGINNINGS[suffix])


@pytest.mark.parametrize("name", ["cells.jpg", "cells"])
def test_forms_that_are_not_drawn(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"use .svg, .png, .pdf, .dot, .gv") as caught:
        draw(GENOTYPES["DARTS_V2"], tmp_path / name)
    assert caught.value.code == "picture-format"
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        draw(GENOTYPES["DARTS_V2"], tmp_path / "absent" / "cells.dot")
    assert caught.value.code == "unwritable-run"


def test_without_pygraphviz(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    draw(GENOTYPES["DARTS_V2"], tmp_path / "cells.dot")
    with pytest.raises(RunError, match=r"fxgrow\[draw\]") as caught:
        draw(GENOTYPES["DARTS_V2"], tmp_path / "cells.svg")
    assert caught.value.code == "missing-extra"
