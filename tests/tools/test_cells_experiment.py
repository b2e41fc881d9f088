"""The table of the cell experiment: networks of the same cells are one sample, not several."""

from typing import Any

from tools.experiments.cells import table
from tools.experiments.cells_picture import by_cells


def network(name: str, seed: int, right: float, repeat: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "seed": seed,
        "repeat": repeat,
        "test_accuracy": right,
        "parameters": 1000,
    }


NETWORKS = [
    network("firefly", 1, 0.9),
    network("firefly", 1, 0.8, 1),
    network("firefly", 2, 0.65),
    network("random0", 0, 0.5),
    network("random0", 1, 0.7),
    network("random1", 0, 0.6),
]


def test_networks_are_gathered_by_their_cells() -> None:
    found = by_cells(NETWORKS)
    assert [len(rows) for rows in found["firefly"]] == [2, 1]
    assert [len(rows) for rows in found["random"]] == [1, 1, 1]


def test_the_standard_error_is_that_of_cells() -> None:
    """Cells of 0.85 and 0.65: mean 0.75, deviation 0.1414, over the root of 2; of the difference sqrt(10² + 5.77²)."""
    lines = table({"searches": [], "networks": NETWORKS}).splitlines()
    assert "| firefly | 2 | 3 | 75.00 % | 10.00 % | +15.00 ± 11.55 % | 1,000 |" in lines
    assert "| random | 3 | 3 | 60.00 % | 5.77 % |  | 1,000 |" in lines


def test_a_single_cell_has_no_standard_error() -> None:
    lines = table(
        {"searches": [], "networks": [network("firefly", 1, 0.9), network("random0", 0, 0.5)]}
    ).splitlines()
    assert "| firefly | 1 | 1 | 90.00 % |  |  | 1,000 |" in lines
