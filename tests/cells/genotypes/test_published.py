from collections import Counter
from pathlib import Path

import pytest

from fxgrow.cells import GENOTYPES, genotype_text, read_genotype

SHIPPED = Path(__file__).parents[3] / "specs" / "architectures" / "genotypes"


def test_every_known_genotype_is_shipped_and_no_other() -> None:
    assert {path.name for path in SHIPPED.iterdir()} == {f"{name}.json" for name in GENOTYPES}


@pytest.mark.parametrize("name", GENOTYPES)
def test_the_shipped_file_is_up_to_date(name: str) -> None:
    path = SHIPPED / f"{name}.json"
    assert path.read_text() == genotype_text(GENOTYPES[name]), "run: python -m tools.genotypes"
    assert read_genotype(path) == GENOTYPES[name]


def test_they_are_told_apart() -> None:
    assert len({genotype.fingerprint for genotype in GENOTYPES.values()}) == len(GENOTYPES) == 4


# Nodes, and how many edges of the normal cell carry parameters: facts of the papers' figures.
@pytest.mark.parametrize(
    ("name", "nodes", "convolutions"),
    [("NASNet", 5, 5), ("AmoebaNet", 5, 4), ("DARTS_V1", 4, 5), ("DARTS_V2", 4, 6)],
)
def test_their_size(name: str, nodes: int, convolutions: int) -> None:
    normal = GENOTYPES[name].normal
    kinds = Counter("conv" in edge.operation for node in normal.nodes for edge in node)
    assert (len(normal.nodes), kinds[True]) == (nodes, convolutions)
