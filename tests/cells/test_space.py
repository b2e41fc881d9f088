from typing import Any

import pytest

from fxgrow.cells import GENOTYPES, Genotype
from fxgrow.cells.space import DARTS_OPERATIONS, SearchSpace
from fxgrow.errors import ArgumentError


def test_edges_are_numbered_state_by_state() -> None:
    space = SearchSpace()
    assert [list(space.incoming(state)) for state in space.states] == [
        [0, 1],
        [2, 3, 4],
        [5, 6, 7, 8],
        [9, 10, 11, 12, 13],
    ]
    assert space.edges == 14


def test_a_space_is_written_and_read() -> None:
    space = SearchSpace(operations=DARTS_OPERATIONS, nodes=3)
    assert SearchSpace.model_validate_json(space.model_dump_json()) == space
    assert "none" not in space.real
    assert len(space.real) == 7


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"operations": ()}, "at least 1"),
        ({"operations": ("none",)}, "nothing but none"),
        ({"operations": ("skip_connect", "skip_connect")}, "named twice"),
        ({"operations": ("conv",)}, "input should be"),
        ({"nodes": 0}, "greater than or equal to 1"),
        ({"cells": 2}, "greater than or equal to 3"),
        ({"channels": 0}, "greater than or equal to 1"),
    ],
)
def test_what_is_no_space(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        SearchSpace(**settings)


def test_what_a_space_holds() -> None:
    space = SearchSpace(operations=DARTS_OPERATIONS)
    found = GENOTYPES["DARTS_V2"]
    assert found in space
    assert found not in SearchSpace()  # it has poolings
    assert found not in SearchSpace(operations=DARTS_OPERATIONS, nodes=3)
    assert GENOTYPES["NASNet"] not in space  # two edges from the same state
    only_last = Genotype(
        schema_version=1,
        normal=found.normal.model_copy(update={"concat": (5,)}),
        reduce=found.reduce,
    )
    assert only_last not in space
