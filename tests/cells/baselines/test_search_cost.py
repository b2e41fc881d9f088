import pytest
import torch

from fxgrow.cells.baselines import FixedChoiceNetwork, random_genotype, search_cost, single_path
from fxgrow.spec import multiply_adds
from tests.cells.baselines.tiny import TINY, mixture, supernet

IMAGE = (1, 8, 8)


@pytest.mark.parametrize("seed", range(4))
def test_a_path_costs_what_counting_it_alone_says(seed: int) -> None:
    net = supernet()
    genotype = random_genotype(TINY, torch.Generator().manual_seed(seed))
    counted = multiply_adds(
        FixedChoiceNetwork(net, single_path(TINY, genotype)), (torch.empty(1, *IMAGE),)
    )
    costs = search_cost(TINY, net, IMAGE)
    assert costs.path(TINY, genotype) == counted
    assert counted < costs.mixture


def test_the_mixture_costs_what_counting_it_says() -> None:
    net = supernet()
    weights = torch.ones(TINY.edges, len(TINY.operations))
    counted = multiply_adds(FixedChoiceNetwork(net, mixture(weights)), (torch.empty(1, *IMAGE),))
    assert search_cost(TINY, net, IMAGE).mixture == counted
    assert all(weight.device.type == "cpu" for weight in net.parameters())
