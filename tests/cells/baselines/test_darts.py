import pytest
import torch
from torch import Tensor

from fxgrow.cells import Edge
from fxgrow.cells.baselines import Darts, derive, search_cost
from fxgrow.cells.baselines.darts import DartsState
from fxgrow.cells.stack import CellKind
from fxgrow.errors import DataError, TrainingError
from tests.cells.baselines.tiny import TINY, halves, supernet

SHORT = {"epochs": 2, "batch_size": 12}


def weights(**rows: list[float]) -> Tensor:
    """By edge, over none, max_pool_3x3, skip_connect and sep_conv_3x3; even where nothing is said."""
    found = torch.full((TINY.edges, len(TINY.operations)), 0.25)
    for name, row in rows.items():
        found[int(name.removeprefix("edge"))] = torch.tensor(row)
    return found


def test_the_strongest_edges_and_operations_are_kept() -> None:
    normal = weights(
        edge0=[0.0, 0.1, 0.7, 0.2],
        edge1=[
            0.9,
            0.02,
            0.03,
            0.05,
        ],  # none does not count, the rest is weak, but there is no other edge
        edge2=[0.0, 0.2, 0.3, 0.5],
        edge3=[0.8, 0.1, 0.1, 0.0],  # none is strongest, so this edge is not among the two
        edge4=[0.1, 0.6, 0.2, 0.1],
    )
    found = derive(TINY, {CellKind.NORMAL: normal, CellKind.REDUCE: weights()})
    assert found.normal.nodes == (
        (Edge(operation="skip_connect", source=0), Edge(operation="sep_conv_3x3", source=1)),
        (Edge(operation="sep_conv_3x3", source=0), Edge(operation="max_pool_3x3", source=2)),
    )
    assert [edge.source for edge in found.reduce.nodes[1]] == [0, 1]
    assert found in TINY


def test_the_architecture_s_weights_are_what_is_derived() -> None:
    descent = DartsState.start(Darts(), TINY, supernet(), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for kind, column in ((CellKind.NORMAL, 1), (CellKind.REDUCE, 3)):
            descent.architecture[kind].zero_()[:, column] = 1
    for cell, name in (
        (descent.genotype.normal, "max_pool_3x3"),
        (descent.genotype.reduce, "sep_conv_3x3"),
    ):
        assert {edge.operation for edges in cell.nodes for edge in edges} == {name}


@pytest.mark.parametrize("order", [1, 2])
def test_a_search(order: int) -> None:
    train, valid = halves()
    method = Darts(order=order, **SHORT)
    state = torch.random.get_rng_state()
    heard: list[object] = []
    result = method.search(TINY, train, valid, seed=3, callback=heard.append)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert result.genotype in TINY and result.genotype == result.epochs[-1].genotype
    assert tuple(heard) == result.epochs and len(heard) == 2
    assert type(result).model_validate_json(result.model_dump_json()) == result
    assert result.seconds > 0 and result.cpu_seconds > 0
    again = method.search(TINY, train, valid, seed=3)
    assert (again.genotype, again.train_losses) == (result.genotype, result.train_losses)
    assert method.search(TINY, train, valid, seed=4).train_losses != result.train_losses
    passes = {1: 2 * 24 + 3 * 24, 2: 3 * 24 + 3 * 24 + 2 * 2 * 24 + 3 * 24}[order]
    assert result.multiply_adds == 2 * passes * search_cost(TINY, supernet(), (1, 8, 8)).mixture


def test_the_search_descends_on_both_losses() -> None:
    train, valid = halves(48)
    result = Darts(order=2, epochs=5, batch_size=48, lr=0.1, architecture_lr=0.05).search(
        TINY, train, valid
    )
    first, last = result.epochs[0], result.epochs[-1]
    assert last.train_loss < 0.8 * first.train_loss
    assert last.valid_loss < first.valid_loss


def test_the_architecture_alone_lowers_the_validation_loss() -> None:
    train, valid = ((data.images, data.labels) for data in halves())
    descent = DartsState.start(
        Darts(order=1, lr=1e-12, architecture_lr=0.1),
        TINY,
        supernet(),
        torch.Generator().manual_seed(0),
    )
    losses = [descent.step(train, valid).valid_loss for _ in range(8)]
    assert losses[-1] < losses[0] - 0.01


def test_what_cannot_be_searched() -> None:
    train, valid = halves()
    with pytest.raises(DataError, match="give at least two") as caught:
        Darts(**SHORT).search(TINY, train, valid.first(1))
    assert caught.value.code == "no-batches"
    train.images[0] = torch.inf
    with pytest.raises(TrainingError, match="lower the learning rate"):
        Darts(order=1, **SHORT).search(TINY, train, valid)
