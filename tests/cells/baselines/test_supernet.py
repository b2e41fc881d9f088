import pytest
import torch

from fxgrow.cells import GENOTYPES, Cell, Edge
from fxgrow.cells.baselines import (
    FixedChoiceNetwork,
    Mixture,
    SinglePath,
    random_genotype,
    single_path,
)
from fxgrow.cells.space import DARTS_OPERATIONS, SearchSpace
from fxgrow.cells.stack import CellKind
from fxgrow.errors import SpecError
from tests.cells.baselines.tiny import TINY, mixture, supernet

IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def one_hot(names: dict[int, str]) -> torch.Tensor:
    weights = torch.zeros(TINY.edges, len(TINY.operations))
    for edge, name in names.items():
        weights[edge, TINY.operations.index(name)] = 1
    return weights


def test_a_mixture_of_one_operation_per_edge_is_that_path() -> None:
    net = supernet()
    cell = Cell(
        nodes=(
            (Edge(operation="max_pool_3x3", source=0), Edge(operation="sep_conv_3x3", source=1)),
            (Edge(operation="skip_connect", source=0), Edge(operation="sep_conv_3x3", source=2)),
        ),
        concat=(2, 3),
    )
    weights = one_hot(
        {0: "max_pool_3x3", 1: "sep_conv_3x3", 2: "skip_connect", 3: "none", 4: "sep_conv_3x3"}
    )
    path = net(IMAGES, dict.fromkeys(CellKind, SinglePath.of(TINY, cell)))
    assert torch.allclose(net(IMAGES, mixture(weights)), path, atol=1e-5)
    weights[4] = one_hot({4: "max_pool_3x3"})[4]
    assert not torch.allclose(net(IMAGES, mixture(weights)), path, atol=1e-2)


def test_a_mixture_is_linear_in_its_weights() -> None:
    cell = supernet().cells[0]
    older, newer = (torch.randn(3, 12, 8, 8) for _ in range(2))
    one, other = (torch.rand(TINY.edges, len(TINY.operations)) for _ in range(2))
    first = [
        cell(older, newer, Mixture.of(TINY, weights))[:, :4]
        for weights in (one, other, one + 2 * other)
    ]
    assert torch.allclose(first[2], first[0] + 2 * first[1], atol=1e-5)


def test_none_gives_nothing() -> None:
    net = supernet()
    weights = torch.rand(TINY.edges, len(TINY.operations))
    more = weights.clone()
    more[:, TINY.operations.index("none")] += 5
    assert torch.equal(net(IMAGES, mixture(weights)), net(IMAGES, mixture(more)))


def test_cells_share_their_weights() -> None:
    net = supernet()
    generator = torch.Generator().manual_seed(3)
    first, second = (
        FixedChoiceNetwork(net, single_path(TINY, random_genotype(TINY, generator)))
        for _ in range(2)
    )
    assert {id(weight) for weight in first.parameters()} == {
        id(weight) for weight in second.parameters()
    }
    before = second(IMAGES)
    with torch.no_grad():
        for weight in first.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    assert not torch.allclose(second(IMAGES), before, atol=1e-3)


def test_a_pass_leaves_no_trace_and_evaluation_takes_the_batch_s_statistics() -> None:
    net = supernet()
    weights = torch.rand(TINY.edges, len(TINY.operations))
    assert not list(net.buffers())
    assert torch.equal(net.train()(IMAGES, mixture(weights)), net.eval()(IMAGES, mixture(weights)))


def test_batch_norms_in_the_cells_are_not_affine_and_follow_every_pooling() -> None:
    net = supernet(SearchSpace(operations=DARTS_OPERATIONS, nodes=2, cells=3, channels=4))
    norms = [module for module in net.cells.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and all(norm.weight is None for norm in norms)
    for name in ("max_pool_3x3", "avg_pool_3x3"):
        assert isinstance(net.cells[0].edges[0][name][1], torch.nn.BatchNorm2d)


@pytest.mark.parametrize(
    "space", [SearchSpace(), SearchSpace(operations=DARTS_OPERATIONS, nodes=2, channels=4)]
)
def test_a_cell_that_is_not_in_the_space(space: SearchSpace) -> None:
    with pytest.raises(SpecError, match="choose a cell from the space") as caught:
        single_path(space, GENOTYPES["DARTS_V2"])
    assert caught.value.code == "bad-value"
