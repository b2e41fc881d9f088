from collections import Counter

import torch

from fxgrow.cells.baselines import RandomCells, random_genotype
from tests.cells.baselines.tiny import TINY, halves


def test_a_seed_draws_one_genotype_of_the_space() -> None:
    found = [RandomCells().search(TINY, *halves(), seed=seed) for seed in (0, 0, 1)]
    assert all(result.genotype in TINY for result in found)
    assert found[0].genotype == found[1].genotype != found[2].genotype
    assert found[0].multiply_adds == 0 and found[0].epochs == ()


def test_edges_and_operations_are_drawn_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    genotypes = [random_genotype(TINY, generator) for _ in range(300)]
    last = [
        edge
        for genotype in genotypes
        for cell in (genotype.normal, genotype.reduce)
        for edge in cell.nodes[-1]
    ]
    for counts in (Counter(edge.source for edge in last), Counter(edge.operation for edge in last)):
        assert len(counts) == 3  # earlier states; operations but none
        assert all(abs(count - 400) < 80 for count in counts.values())  # five standard deviations
    assert sum(genotype.normal == genotype.reduce for genotype in genotypes) < 30
