import pytest
import torch

from fxgrow.cells.rivals import Chosen, expense, path_of, random_genotype
from fxgrow.spec import multiply_adds
from tests.cells.rivals.tiny import TINY, mixture, supernet

IMAGE = (1, 8, 8)


@pytest.mark.parametrize("seed", range(4))
def test_a_path_costs_what_counting_it_alone_says(seed: int) -> None:
    net = supernet()
    genotype = random_genotype(TINY, torch.Generator().manual_seed(seed))
    counted = multiply_adds(Chosen(net, path_of(TINY, genotype)), (torch.empty(1, *IMAGE),))
    costs = expense(TINY, net, IMAGE)
    assert costs.path(TINY, genotype) == counted
    assert counted < costs.mixture


def test_the_mixture_costs_what_counting_it_says() -> None:
    net = supernet()
    weights = torch.ones(TINY.edges, len(TINY.operations))
    counted = multiply_adds(Chosen(net, mixture(weights)), (torch.empty(1, *IMAGE),))
    assert expense(TINY, net, IMAGE).mixture == counted
    assert all(weight.device.type == "cpu" for weight in net.parameters())
