"""Random growth keeps the best of its draws, and with one draw it looks at no loss."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, RandomGrowth
from fxgrow.growth import Objective, Scores, Selection
from fxgrow.rewrite import OverGrown
from tests.methods.toys import rbf, rbf_data
from tests.rewrite.rewriting import over_grown

OBJECTIVE = Objective([rbf_data()], F.mse_loss)


def best_one(scores: Scores) -> Selection:
    """What a budget of one neuron keeps."""
    together = torch.cat([scores.split, scores.new])
    chosen = together == together.max()
    return Selection(chosen[: len(scores.split)], chosen[len(scores.split) :], scores)


def all_of_them(scores: Scores) -> Selection:
    return Selection(scores.split.isfinite(), scores.new.isfinite(), scores)


def searched(draws: int, generator: torch.Generator, new: int = 3) -> tuple[OverGrown, Scores]:
    grown = over_grown(rbf(3), rbf_data()[0], new=new)
    return grown, RandomGrowth(new=new, draws=draws).search(grown, OBJECTIVE, generator, best_one)


def selected_loss(grown: OverGrown, scores: Scores) -> float:
    best_one(scores).switch_off_others(grown.candidates)
    return OBJECTIVE.mean(grown.graph_module)


@pytest.mark.parametrize("seed", range(4))
def test_best_of_three_is_the_best_of_three_single_draws(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    alone = [selected_loss(*searched(1, generator)) for _ in range(3)]
    assert len(set(alone)) == 3
    assert selected_loss(*searched(3, torch.Generator().manual_seed(seed))) == pytest.approx(
        min(alone), rel=1e-12
    )


def test_one_draw_looks_at_no_loss() -> None:
    def refuse(output: Tensor, target: Tensor) -> Tensor:
        raise AssertionError("looked")

    grown = over_grown(rbf(3), rbf_data()[0], new=2)
    blind = Objective([rbf_data()], refuse)
    scores = RandomGrowth(new=2, draws=1).search(
        grown, blind, torch.Generator().manual_seed(0), best_one
    )
    assert len(scores.split) == 3 and len(scores.new) == 2
    with pytest.raises(fxgrow.GrowthError, match="looked"):
        RandomGrowth(new=2, draws=2).search(
            grown, blind, torch.Generator().manual_seed(0), best_one
        )


def test_directions_are_of_norm_one_and_all_candidates_on() -> None:
    grown, _ = searched(3, torch.Generator().manual_seed(1))
    layer = grown.graph_module.get_submodule("fxgrow_grown.inner")
    norms = layer.delta[0].square().sum(1) + layer.delta[1].square()
    torch.testing.assert_close(norms, torch.ones_like(norms))
    for eps in (grown.candidates.split_eps, grown.candidates.new_eps):
        assert eps.unique().tolist() == [0.1]


@pytest.mark.parametrize(
    ("method", "kind"), [(RandomGrowth(new=0), "split"), (RandomGrowth(split=False), "new")]
)
def test_kinds_of_candidates(method: RandomGrowth, kind: str) -> None:
    x, y = rbf_data()
    growth = fxgrow.grow(
        rbf(3), [(x, y)], F.mse_loss, example_inputs=(x,), method=method, budget=Budget(neurons=2)
    )
    assert sum(getattr(width, kind) for width in growth.report.widths) == 2


def normalized_net() -> nn.Module:
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 1))
        .double()
        .eval()
    )


def best_of(draws: int, generator: torch.Generator) -> tuple[float, Tensor]:
    """The loss of what is selected, and the running variances in the graph that was searched."""
    x, y = 5 * rbf_data()[0], rbf_data()[1]
    objective = Objective([(x, y)], F.mse_loss)
    grown = over_grown(normalized_net(), x, new=3)
    method = RandomGrowth(new=3, draws=draws, eps=1.0)
    scores = method.search(grown, objective, generator, best_one)
    best_one(scores).switch_off_others(grown.candidates)
    buffers = dict(grown.graph_module.named_buffers())
    variances = [buffer for name, buffer in sorted(buffers.items()) if "running_var" in name]
    return objective.mean(grown.graph_module), torch.cat(variances)


@pytest.mark.parametrize("seed", range(4))
def test_draws_are_compared_and_kept_with_statistics_of_their_own(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    loss, variances = min((best_of(1, generator) for _ in range(3)), key=lambda pair: pair[0])
    best_loss, best_variances = best_of(3, torch.Generator().manual_seed(seed))
    assert best_loss == pytest.approx(loss, rel=1e-9)
    torch.testing.assert_close(best_variances, variances)


def test_what_is_compared_is_what_is_kept() -> None:
    """The losses of all draws are taken with statistics of their own, as the last one is."""
    losses: list[float] = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        losses.append(float(F.mse_loss(output, target)))
        return F.mse_loss(output, target)

    x, y = 5 * rbf_data()[0], rbf_data()[1]
    grown = over_grown(normalized_net(), x, new=3)
    objective = Objective([(x, y)], loss)
    method = RandomGrowth(split=False, new=3, draws=3, eps=1.0)
    scores = method.search(grown, objective, torch.Generator().manual_seed(0), all_of_them)
    best = min(losses)
    assert len(losses) == 3
    all_of_them(scores).switch_off_others(grown.candidates)
    assert objective.mean(grown.graph_module) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("draws", [1, 3])
def test_new_channels_are_normalized_by_what_they_see(draws: int) -> None:
    """Their weights were several times too large: emission made up for statistics of 0 and 1."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )
    images, labels = 5 * torch.randn(16, 3, 8, 8), torch.arange(16) % 2
    method = RandomGrowth(split=False, new=3, draws=draws)
    budget = fxgrow.Budget(neurons=3)
    loss = nn.functional.cross_entropy
    grown = fxgrow.grow(
        model, [(images, labels)], loss, method=method, budget=budget, accept_no_gain=True
    ).module
    norm = grown.get_submodule("1")
    assert norm.weight.shape == (7,)
    torch.testing.assert_close(norm.weight[4:], torch.ones(3), rtol=1e-3, atol=0)
    assert norm.running_var[4:].min() > 2
