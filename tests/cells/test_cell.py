import networkx as nx
import pytest
import torch
from torch import fx, nn

from fxgrow.cells import (
    GENOTYPES,
    Cell,
    CellKind,
    CellModule,
    CellPosition,
    Edge,
    Genotype,
    dag,
    drop_path,
)
from fxgrow.errors import ModelError

# 2 = older + newer, 3 = pool(newer) + 2 + 2, and the output is 3 and the older input again.
TINY = Cell.model_validate(
    {
        "nodes": (
            (
                {"operation": "skip_connect", "source": 0},
                {"operation": "skip_connect", "source": 1},
            ),
            (
                {"operation": "max_pool_3x3", "source": 1},
                {"operation": "skip_connect", "source": 2},
                {"operation": "skip_connect", "source": 2},
            ),
        ),
        "concat": (3, 0),
    }
)
NORMAL = CellPosition(CellKind.NORMAL, older=1, newer=1, channels=1, after_reduction=False)


def without_preprocessing(cell: Cell, place: CellPosition, probability: float = 0.0) -> CellModule:
    module = CellModule(cell, place, drop_path=probability)
    module.older = module.newer = nn.Identity()
    return module


def test_a_cell_by_hand() -> None:
    older = torch.tensor([[1.0, 2], [3, 4]]).view(1, 1, 2, 2)
    newer = torch.tensor([[10.0, -20], [30, 0]]).view(1, 1, 2, 2)
    output = without_preprocessing(TINY, NORMAL)(older, newer)
    # state 2: 11 -18 33 4; the maximum of all four of the newer input is 30
    assert output[0, 0].flatten().tolist() == [30 + 22, 30 - 36, 30 + 66, 30 + 8]
    assert torch.equal(output[0, 1], older[0, 0])


def test_a_reduction_cell_halves_its_inputs_and_nothing_else() -> None:
    place = CellPosition(CellKind.REDUCE, older=3, newer=5, channels=4, after_reduction=False)
    module = CellModule(GENOTYPES["DARTS_V2"].reduce, place)
    assert module(torch.randn(2, 3, 8, 8), torch.randn(2, 5, 8, 8)).shape == (2, 16, 4, 4)
    assert [[pool.stride for pool in node.children() if isinstance(pool, nn.MaxPool2d)] for node in module.nodes] == [
        [2, 2], [2], [2], [2],
    ]  # fmt: skip
    assert isinstance(module.nodes[1][0], nn.Identity)  # it starts at a node


def test_after_a_reduction_the_older_input_is_twice_as_large() -> None:
    place = CellPosition(CellKind.NORMAL, older=3, newer=5, channels=4, after_reduction=True)
    module = CellModule(GENOTYPES["DARTS_V2"].normal, place)
    assert module(torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)).shape == (2, 16, 4, 4)


def test_the_operation_is_chosen_by_the_caller() -> None:
    def choose(edge: Edge, place: CellPosition) -> nn.Module:
        return nn.Conv2d(place.channels, place.channels, 1)

    module = CellModule(TINY, NORMAL, choose=choose)
    assert [[type(part).__name__ for part in node.children()] for node in module.nodes] == [
        ["Conv2d"] * 2,
        ["Conv2d"] * 3,
    ]


def test_the_graph_of_a_cell() -> None:
    graph = dag(TINY)
    assert dict(graph.nodes(data="kind")) == {
        0: "input",
        1: "input",
        2: "node",
        3: "node",
        4: "output",
    }
    assert sorted(graph.edges(keys=True, data="operation"), key=str) == [
        (0, 2, 0, "skip_connect"),
        (0, 4, 1, None),
        (1, 2, 1, "skip_connect"),
        (1, 3, 0, "max_pool_3x3"),
        (2, 3, 1, "skip_connect"),
        (2, 3, 2, "skip_connect"),
        (3, 4, 0, None),
    ]


@pytest.mark.parametrize("genotype", GENOTYPES.values(), ids=GENOTYPES)
def test_the_graphs_of_the_known_cells(genotype: Genotype) -> None:
    for cell in (genotype.normal, genotype.reduce):
        graph = dag(cell)
        assert nx.is_directed_acyclic_graph(graph)
        assert list(nx.topological_sort(graph))[-1] == cell.states
        assert graph.in_degree(cell.states) == len(cell.concat)
        assert {graph.in_degree(state) for state in range(2, cell.states)} == {2}
        assert graph.in_degree(0) == graph.in_degree(1) == graph.out_degree(cell.states) == 0


def test_drop_path_drops_whole_images_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(4000, 2, 3, 3), 0.3)
    assert torch.equal(dropped, dropped[:, :1, :1, :1].expand_as(dropped))
    kept = dropped[:, 0, 0, 0] != 0
    assert torch.allclose(dropped[kept], torch.tensor(1 / 0.7))
    # four standard deviations of the mean of 4,000
    assert abs(float(dropped.mean()) - 1) < 4 * (0.3 / 0.7 / 4000) ** 0.5
    torch.manual_seed(0)
    assert torch.equal(drop_path(torch.ones(4000, 2, 3, 3), 0.3), dropped)


def test_a_cell_drops_in_training_all_but_identities() -> None:
    torch.manual_seed(0)
    module = without_preprocessing(TINY, NORMAL, 0.5)
    images = torch.ones(64, 1, 2, 2)
    twice = {4.0, 6.0}  # 2 + 2, and the pooled 1 that is dropped or doubled
    assert set(module(images, images)[:, 0].flatten().tolist()) == twice
    assert set(module.eval()(images, images)[:, 0].flatten().tolist()) == {5.0}


def test_drop_path_leaves_no_trace_in_evaluation_mode() -> None:
    texts = [
        str(fx.symbolic_trace(CellModule(TINY, NORMAL, drop_path=p).eval()).graph)
        for p in (0.0, 0.5)
    ]
    assert texts[0] == texts[1]
    assert "bernoulli" in str(fx.symbolic_trace(CellModule(TINY, NORMAL, drop_path=0.5)).graph)


@pytest.mark.parametrize("probability", [-0.1, 1, 1.5, float("nan")])
def test_a_probability_that_is_none(probability: float) -> None:
    with pytest.raises(ModelError, match="give 0 to below 1") as caught:
        CellModule(TINY, NORMAL, drop_path=probability)
    assert caught.value.code == "model-options"
