"""The best child's structure is taken, the model itself is not trained, and the cost is children x steps."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow import Budget
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective
from fxgrow.methods import NASH
from fxgrow.methods.morphisms import draw_order
from tests.methods.growing import (
    assert_kept,
    chosen_widths,
    grown,
    labelled,
    overgrown,
    same_weights,
)
from tests.networks import NETWORKS, network

BRIEF = NASH(children=2, steps=2)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_is_kept(name: str) -> None:
    assert_kept(BRIEF, Budget(neurons=5), name)


class TwoBranches(nn.Module):
    """Two hidden layers side by side; nothing that the second one computes reaches the output."""

    def __init__(self) -> None:
        super().__init__()
        self.useful, self.useless = nn.Linear(2, 4), nn.Linear(2, 4)
        self.reads_useful, self.reads_useless = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        useful = self.reads_useful(torch.relu(self.useful(x)))
        return useful + 0 * self.reads_useless(torch.relu(self.useless(x)))


def points(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(count):
        x = 4 * torch.rand(64, 2, generator=generator, dtype=torch.float64) - 2
        batches.append((x, (3 * x[:, :1]).sin() * x[:, 1:]))
    return batches


def test_the_child_whose_width_is_of_use_is_taken() -> None:
    """The budget buys one of the two; without a comparison each is taken half of the time."""
    torch.manual_seed(0)
    batches = points(12)
    method = NASH(children=4, steps=30, layers=0)
    model = TwoBranches().double()
    graph, choose = overgrown(method, Budget(neurons=4), model, batches[0][0])
    objective = Objective(batches[:8], F.mse_loss, scoring_batches=batches[8:])
    for seed, searched in ((0, method), (1, method), (2, method), (3, method)):
        generator = torch.Generator().manual_seed(seed)
        chosen = choose(searched.search(graph, objective, generator, choose))
        assert chosen_widths(graph, chosen) == {"useful": 4}
    first = {
        name
        for seed in range(4)
        for name in chosen_widths(
            graph, choose(draw_order(graph, torch.Generator().manual_seed(seed)))
        )
    }
    assert first == {"useful", "useless"}


def test_base_weights_and_statistics_are_left_to_the_bit() -> None:
    model = network("chain").train()
    graph, choose = overgrown(BRIEF, Budget(neurons=4), model)
    before = copy.deepcopy(graph.captured.model)
    objective = Objective(labelled()[:4], F.cross_entropy, scoring_batches=labelled()[4:])
    scores = BRIEF.search(graph, objective, torch.Generator().manual_seed(0), choose)
    assert int(choose(scores).new.sum()) == 4
    assert same_weights(graph.captured.model, before)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    outgoing = [p for name, p in graph.graph_module.named_parameters() if "outgoing_" in name]
    assert outgoing and not any(tensor.any() for tensor in outgoing)


def test_children_are_trained_on_batches_to_search_and_compared_on_others() -> None:
    """Every step of every child sees one growth batch; the scored ones are not stepped on."""
    seen: list[tuple[int, bool]] = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        seen.append((int(target[0]), output.requires_grad and torch.is_grad_enabled()))
        return output.square().sum()

    batches = [(torch.zeros(2, 2, dtype=torch.float64), torch.full((2,), n)) for n in range(5)]
    method = NASH(children=3, steps=4, lr=1e-6, layers=0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    graph, choose = overgrown(method, Budget(neurons=2), model, batches[0][0])
    objective = Objective(batches[:2], loss, scoring_batches=batches[2:])
    method.search(graph, objective, torch.Generator().manual_seed(0), choose)
    steps = [number for number, learns in seen if learns]
    compared = [number for number, learns in seen if not learns]
    assert steps == [0, 1, 0, 1] * 3
    assert compared == [2, 3, 4] * 3
    assert method.search_steps == 4


def test_the_same_seed_gives_the_same_network() -> None:
    """Dropout in the children draws from torch's own generators, whose state does not matter."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(64, 2),
    ).double()
    states = []
    for noise, seed in ((0, 1), (7, 1), (0, 2)):
        torch.manual_seed(noise)
        drawn = torch.get_rng_state()
        states.append(
            grown(
                NASH(children=3, steps=3, layers=0), Budget(neurons=3), model=model, seed=seed
            ).module
        )
        assert torch.equal(torch.get_rng_state(), drawn)
    assert same_weights(states[0], states[1])
    assert not same_weights(states[0], states[2])


def test_the_users_model_is_not_trained() -> None:
    model = network("chain")
    before = copy.deepcopy(model)
    grown(BRIEF, Budget(neurons=4), model=model)
    assert same_weights(model, before)


def test_training_that_diverges_for_every_child() -> None:
    with pytest.raises(GrowthError, match="each of the 2 children") as caught:
        grown(NASH(children=2, steps=20, lr=1e9), Budget(neurons=4))
    assert caught.value.code == "nan-loss"
