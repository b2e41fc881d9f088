from dataclasses import replace

import torch

from fxgrow.cells.baselines import (
    Darts,
    FixedChoiceNetwork,
    WeightSharing,
    random_genotype,
    search_cost,
    single_path,
)
from fxgrow.cells.baselines.weight_sharing import WeightSharingState
from fxgrow.data import batches
from fxgrow.training import cross_entropy, evaluate
from fxgrow.training.sgd import sgd_step
from tests.cells.baselines.tiny import TINY, halves, supernet

SHORT = WeightSharing(epochs=2, batch_size=12, candidates=5)


def shared(settings: WeightSharing = SHORT) -> WeightSharingState:
    net = supernet()
    costs = search_cost(TINY, net, (1, 8, 8))
    return WeightSharingState(
        settings, TINY, net, costs, settings.optimizer(net), torch.Generator().manual_seed(0)
    )


def test_a_search() -> None:
    train, valid = halves()
    state = torch.random.get_rng_state()
    result = SHORT.search(TINY, train, valid, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(ranked.genotype in TINY for ranked in result.ranked) and len(result.ranked) == 5
    assert result.genotype == result.ranked[0].genotype
    assert [ranked.accuracy for ranked in result.ranked] == sorted(
        (r.accuracy for r in result.ranked), reverse=True
    )
    assert type(result).model_validate_json(result.model_dump_json()) == result
    again = SHORT.search(TINY, train, valid, seed=3)
    assert (again.ranked, again.train_losses) == (result.ranked, result.train_losses)
    assert SHORT.search(TINY, train, valid, seed=4).ranked != result.ranked
    assert (
        result.multiply_adds
        < Darts(order=1, epochs=2, batch_size=12).search(TINY, train, valid).multiply_adds
    )


def test_a_batch_trains_one_path_and_leaves_the_rest() -> None:
    search = shared()
    before = [weight.detach().clone() for weight in search.supernet.parameters()]
    data = batches(halves()[0], 24, limit=1)
    _, spent = search.epoch(data)
    moved = [
        not torch.equal(a, b) for a, b in zip(before, search.supernet.parameters(), strict=True)
    ]
    assert any(moved) and not all(moved)
    assert 0 < spent < 3 * 24 * search.costs.mixture


def test_what_a_batch_does_not_use_keeps_still_though_it_has_momentum() -> None:
    search = shared()
    images, labels = halves()[0].images, halves()[0].labels
    for seed in (1, 2):
        before = {
            name: weight.detach().clone() for name, weight in search.supernet.named_parameters()
        }
        path = single_path(TINY, random_genotype(TINY, torch.Generator().manual_seed(seed)))
        sgd_step(search.optimizer, cross_entropy(search.supernet(images, path), labels), clip=5.0)
    moved = {
        name for name, w in search.supernet.named_parameters() if not torch.equal(before[name], w)
    }
    on_path = {
        name
        for name in before
        if ".edges." not in name
        or any(
            f".edges.{edge}.{operation}." in name
            for edge, operations in path[
                search.supernet.cells[int(name.split(".")[1])].kind
            ].chosen.items()
            for operation in operations
        )
    }
    assert moved == on_path < set(before)


def test_training_lowers_the_loss() -> None:
    search = shared(SHORT.model_copy(update={"lr": 0.1}))
    data = batches(halves(48)[0], 24)
    losses = [search.epoch(data)[0] for _ in range(20)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_candidates_are_judged_with_the_shared_weights() -> None:
    search = shared()
    data = list(batches(halves()[1], 12))
    ranked, spent = search.rank(data)
    for found in ranked:
        again = evaluate(
            FixedChoiceNetwork(search.supernet, single_path(TINY, found.genotype)), data
        )
        assert (again.accuracy, again.loss) == (found.accuracy, found.loss)
    assert spent == 24 * sum(search.costs.path(TINY, found.genotype) for found in ranked)
    assert (
        len(replace(search, settings=SHORT.model_copy(update={"candidates": 2})).rank(data)[0]) == 2
    )
