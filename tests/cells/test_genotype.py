import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from fxgrow.cells import Cell, Edge, Genotype, genotype_text, read_genotype
from fxgrow.cells.genotype import GENOTYPE_DOCUMENT
from fxgrow.errors import ArgumentError, SpecError
from tests.cells.sample_genotypes import ANY

EDGE = {"operation": "skip_connect", "source": 0}
CELL = {
    "nodes": [
        [EDGE, {"operation": "sep_conv_3x3", "source": 1}],
        [{"operation": "skip_connect", "source": 2}],
    ],
    "concat": [2, 3],
}


def text(change: Any = None) -> str:
    data = {"schema_version": 1, "normal": CELL, "reduce": json.loads(json.dumps(CELL))}
    if change is not None:
        change(data)
    return json.dumps(data)


@given(ANY)
def test_what_is_written_is_read(genotype: Genotype) -> None:
    assert GENOTYPE_DOCUMENT.read(genotype_text(genotype)) == genotype
    assert GENOTYPE_DOCUMENT.read(genotype_text(genotype)).fingerprint == genotype.fingerprint


def test_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "cell.json").write_text(text())
    genotype = read_genotype(tmp_path / "cell.json")
    assert genotype.normal.states == 4
    assert [[edge.source for edge in node] for node in genotype.normal.nodes] == [[0, 1], [2]]
    (tmp_path / "cell.json").write_text("{")
    with pytest.raises(SpecError) as caught:
        read_genotype(tmp_path / "cell.json")
    assert (caught.value.code, caught.value.path) == ("bad-json", str(tmp_path / "cell.json"))


@pytest.mark.parametrize(
    ("place", "value", "code", "words"),
    [
        (
            ("nodes", 0, 0, "source"),
            2,
            "bad-value",
            "state 2 needs state 2, which is not there yet",
        ),
        (("nodes", 1, 0, "source"), 9, "bad-value", "state 3 needs state 9"),
        (("nodes", 0, 0, "source"), -1, "bad-value", "greater than or equal to 0"),
        (("nodes", 0, 0, "source"), True, "bad-value", "valid integer"),
        (("nodes", 0, 0, "operation"), "none", "bad-value", "Input should be 'max_pool_3x3'"),
        (("nodes", 1), [], "bad-value", "at least 1"),
        (("nodes", 1), [EDGE] * 513, "too-large", "at most 512"),
        (("nodes",), [], "bad-value", "at least 1"),
        (("nodes",), [[EDGE]] * 63, "too-large", "at most 62"),
        (("concat",), [], "bad-value", "at least 1"),
        (("concat",), [4], "bad-value", "needs state 4 of 4"),
        (("concat",), [2, 3, 2], "bad-value", "names a state twice"),
        (("concat",), "23", "bad-value", "valid array"),
        (("extra",), 1, "unknown-key", "not permitted"),
        (("nodes", 0, 0, "weight"), 1, "unknown-key", "not permitted"),
    ],
)
def test_what_is_wrong_is_named(
    place: tuple[Any, ...], value: object, code: str, words: str
) -> None:
    def change(data: Any) -> None:
        inner = data["reduce"]
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value

    with pytest.raises(SpecError, match=words) as caught:
        GENOTYPE_DOCUMENT.read(text(change))
    assert caught.value.code == code
    assert caught.value.path.startswith("reduce")


def test_the_version_is_required_and_known() -> None:
    for value, code in ((None, "missing-key"), (2, "schema-version")):
        with pytest.raises(SpecError) as caught:
            GENOTYPE_DOCUMENT.read(
                text(
                    lambda data, v=value: (
                        data.update(schema_version=v) if v else data.pop("schema_version")
                    )
                )
            )
        assert caught.value.code == code


def test_a_cell_in_python_is_checked_too() -> None:
    with pytest.raises(ArgumentError, match="state 2 needs state 5"):
        Cell(nodes=((Edge(operation="skip_connect", source=5),),), concat=(2,))


def test_the_fingerprint_sees_every_edge_and_no_layout() -> None:
    sound = GENOTYPE_DOCUMENT.read(text())
    assert (
        GENOTYPE_DOCUMENT.read(json.dumps(json.loads(text()), indent=7)).fingerprint
        == sound.fingerprint
    )
    changes = [
        lambda data: data["reduce"]["nodes"][1][0].update(source=1),
        lambda data: data["reduce"]["nodes"][1][0].update(operation="sep_conv_5x5"),
        lambda data: data["normal"]["concat"].reverse(),
        lambda data: data["normal"]["nodes"][0].reverse(),
        lambda data: data["reduce"]["nodes"][0].append(EDGE),
    ]
    found = {GENOTYPE_DOCUMENT.read(text(change)).fingerprint for change in changes}
    assert len(found | {sound.fingerprint}) == len(changes) + 1
