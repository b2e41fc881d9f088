"""Scores against finite differences, and the invariances that follow from their definition."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow.growth import Objective
from fxgrow.methods.firefly.importance import joint_scores, midpoints, single_scores
from fxgrow.methods.firefly.neighborhood import initialize
from fxgrow.rewrite import OverGrown
from tests.networks import images, network, randomised
from tests.rewrite.rewriting import over_grown, randomise_candidates


class Smooth(nn.Module):
    """No kinks, so that Taylor expansions hold: convolutions, batch norm, a residual, a depthwise layer, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.inner, self.back = nn.Conv2d(4, 3, 1), nn.Conv2d(3, 4, 1)
        self.depth, self.head = nn.Conv2d(4, 4, 3, groups=4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.stem(x)))
        x = x + self.back(torch.tanh(self.inner(x)))
        return self.head(F.gelu(self.depth(x)).mean((2, 3)))


Path = Callable[[OverGrown, Objective, int], tuple[Tensor, Tensor]]
PATHS: list[Path] = [joint_scores, single_scores]
LABELS = torch.tensor([0, 1, 0, 1])


def searched(eps: float, new: int = 2) -> tuple[OverGrown, Objective]:
    """A smooth over-grown network with every candidate at ``eps``."""
    torch.manual_seed(0)
    grown = over_grown(randomised(Smooth()), images(4), new=new)
    randomise_candidates(grown)
    with torch.no_grad():
        grown.candidates.split_eps.fill_(eps)
        grown.candidates.new_eps.fill_(eps)
    return grown, Objective([(images(4), LABELS)], F.cross_entropy)


def without(grown: OverGrown, objective: Objective, i: int) -> float:
    """The loss with candidate i switched off."""
    both = (grown.candidates.split_eps, grown.candidates.new_eps)
    target, place = (both[0], i) if i < len(both[0]) else (both[1], i - len(both[0]))
    with torch.no_grad():
        kept, target[place] = target[place].clone(), 0.0
        loss = objective.mean(grown.graph_module)
        target[place] = kept
    return loss


def test_single_path_is_the_finite_difference() -> None:
    """eps_i s_i = L(f) - L(f without i), by the fundamental theorem; midpoint rule with many points."""
    grown, objective = searched(0.05, new=1)
    total = objective.mean(grown.graph_module)
    scores = torch.cat(single_scores(grown, objective, 8)) * 0.05
    expected = torch.tensor(
        [total - without(grown, objective, i) for i in range(len(scores))], dtype=torch.float64
    )
    torch.testing.assert_close(scores, expected, rtol=2e-3, atol=1e-7)


def test_joint_path_sums_to_the_whole_difference() -> None:
    """Along the joint ray sum_i eps_i s_i = L(f_eps) - L(f_0), exactly but for the midpoint rule."""
    grown, objective = searched(0.05)
    split, new = joint_scores(grown, objective, 8)
    whole = objective.mean(grown.graph_module)
    kept = [p.detach().clone() for p in (grown.candidates.split_eps, grown.candidates.new_eps)]
    with torch.no_grad():
        grown.candidates.split_eps.zero_()
        grown.candidates.new_eps.zero_()
    base = objective.mean(grown.graph_module)
    total = float((kept[0] * split).sum() + (kept[1] * new).sum())
    assert total == pytest.approx(whole - base, rel=1e-3)


def test_paths_agree_to_second_order() -> None:
    """The two paths evaluate one gradient at points O(eps) apart: eps s differs by O(eps^2), s by O(eps) or less."""
    gaps = []
    for eps in (0.08, 0.04, 0.02):
        grown, objective = searched(eps)
        gaps.append(
            float(
                (joint_scores(grown, objective, 3)[1] - single_scores(grown, objective, 3)[1])
                .abs()
                .max()
            )
        )
    assert gaps[0] > 1e-6 and gaps[0] / gaps[1] > 1.8 and gaps[1] / gaps[2] > 1.8


def test_splits_are_second_order() -> None:
    """The loss is even in a split's eps, so its integrated slope is O(eps): halving eps halves s."""
    slopes = [joint_scores(*searched(eps, new=0), 3)[0].abs().max() for eps in (0.02, 0.01)]
    assert float(slopes[0] / slopes[1]) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("path", PATHS)
def test_slope_at_zero(path: Path) -> None:
    """As eps -> 0 the score of a new neuron is the slope of the loss in its eps there."""
    grown, objective = searched(1e-5)
    _, new = path(grown, objective, 3)
    with torch.no_grad():
        grown.candidates.split_eps.zero_()
        grown.candidates.new_eps.zero_()
        for i in range(len(new)):
            ends = []
            for sign in (1, -1):
                grown.candidates.new_eps[i] = sign * 1e-5
                ends.append(objective.mean(grown.graph_module))
            grown.candidates.new_eps[i] = 0.0
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(new[i]), rel=1e-2, abs=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_duplicating_the_batch_changes_nothing(path: Path) -> None:
    """Neither as a second batch nor within the batch: the objective is a mean, exponent 0 in the number of copies."""
    grown, once = searched(0.05, new=1)
    twice = Objective([*once.batches, *once.batches], F.cross_entropy)
    double = Objective(
        [(torch.cat([x, x]), torch.cat([y, y])) for x, y in once.batches], F.cross_entropy
    )
    expected = path(grown, once, 3)
    for objective in (twice, double):
        torch.testing.assert_close(path(grown, objective, 3), expected)


class Pair(nn.Module):
    """One hidden layer of ReLU neurons."""

    def __init__(self, hidden: int = 4) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, hidden), nn.Linear(hidden, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)))


Spread = tuple[Tensor, Tensor]
"""The weights and biases of some directions."""


def scores_of(module: nn.Module, path: Path, delta: Spread, eps: float = 1.0) -> Tensor:
    """The scores of the splits of a ``Pair`` along ``delta``, in the units of its weights."""
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    grown = over_grown(module, x)
    layer = grown.graph_module.get_submodule("fxgrow_grown.a")
    with torch.no_grad():
        grown.candidates.split_eps.fill_(eps)
        for held, values in zip(layer.delta, delta, strict=True):  # type: ignore[arg-type]
            held.copy_(values / layer.unit_row)
    return path(grown, Objective([(x, (x[:, 0] > 0).long())], F.cross_entropy), 3)[0]


def new_scores(
    module: nn.Module, path: Path, new: Spread, outgoing: Tensor, eps: float = 0.1
) -> Tensor:
    """The scores of two new neurons of a ``Pair`` with these directions, in units of its layers (splits are off)."""
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    grown = over_grown(module, x, split=False, new=2)
    writer, reader = (grown.graph_module.get_submodule(f"fxgrow_grown.{name}") for name in "ab")
    with torch.no_grad():
        grown.candidates.new_eps.fill_(eps)
        for held, values in zip(writer.new, new, strict=True):  # type: ignore[arg-type]
            held.copy_(values)
        reader.outgoing[0].copy_(outgoing)  # type: ignore[index, operator]
    return path(grown, Objective([(x, (x[:, 0] > 0).long())], F.cross_entropy), 3)[1]


def pair(seed: int) -> tuple[nn.Module, Spread]:
    torch.manual_seed(seed)
    module = Pair().double()
    return module, (
        0.1 * torch.randn(4, 3, dtype=torch.float64),
        0.1 * torch.randn(4, dtype=torch.float64),
    )


def two_new() -> tuple[Spread, Tensor]:
    incoming = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    return incoming, torch.randn(2, 2, dtype=torch.float64)


@pytest.mark.parametrize("path", PATHS)
def test_permuting_neurons_permutes_scores(path: Path) -> None:
    (module, (delta, bias)), order = pair(0), torch.tensor([1, 2, 0, 3])
    moved = permuted(module, order)
    expected = scores_of(module, path, (delta, bias))[order]
    assert expected.unique().numel() == 4
    torch.testing.assert_close(scores_of(moved, path, (delta[order], bias[order])), expected)


@pytest.mark.parametrize("path", PATHS)
def test_permuting_new_neurons_permutes_scores(path: Path) -> None:
    """And the order of the old ones does not matter to them."""
    (module, _), (new, outgoing), order = pair(0), two_new(), torch.tensor([1, 0])
    expected = new_scores(module, path, new, outgoing)[order]
    assert expected[0] != expected[1]
    turned = new_scores(module, path, (new[0][order], new[1][order]), outgoing[:, order])
    torch.testing.assert_close(turned, expected)
    old = permuted(module, torch.tensor([2, 0, 3, 1]))
    torch.testing.assert_close(new_scores(old, path, new, outgoing)[order], expected)


def permuted(module: nn.Module, order: Tensor) -> nn.Module:
    moved = copy.deepcopy(module)
    for tensor, axis in ((moved.a.weight, 0), (moved.a.bias, 0), (moved.b.weight, 1)):  # type: ignore[union-attr]
        tensor.data = tensor.data.index_select(axis, order)  # type: ignore[union-attr, operator]
    return moved


def rescaled(module: nn.Module, a: float) -> nn.Module:
    """Incoming weights and biases times a, outgoing weights divided by a: the same function."""
    scaled = copy.deepcopy(module)
    with torch.no_grad():
        scaled.a.weight *= a  # type: ignore[operator, union-attr]
        scaled.a.bias *= a  # type: ignore[operator, union-attr]
        scaled.b.weight /= a  # type: ignore[operator, union-attr]
    return scaled


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("a", [3.0, 0.25])
def test_relu_rescaling_of_splits(path: Path, a: float) -> None:
    """relu(a theta) = a relu(theta), so the loss L'(eps delta) of the rescaled network is L(eps delta / a).

    Hence s has exponent 0 where delta takes the a, and -1 where eps does: ds'/d(a eps) = (1/a) ds/d eps.
    """
    module, (delta, bias) = pair(1)
    expected, scaled = scores_of(module, path, (delta, bias)), rescaled(module, a)
    torch.testing.assert_close(scores_of(scaled, path, (a * delta, a * bias)), expected)
    torch.testing.assert_close(scores_of(scaled, path, (delta, bias), eps=a), expected / a)


@pytest.mark.parametrize("path", PATHS)
def test_relu_rescaling_of_new_neurons(path: Path) -> None:
    """In units of the layers exponent 0: what enters is a times as large, what leaves 1/a, and the product the same.

    With eps kept, s is linear in what leaves as eps -> 0: exponent 1 in its length, and in the length of what enters.
    """
    (module, _), (new, outgoing) = pair(1), two_new()
    expected = new_scores(module, path, new, outgoing)
    torch.testing.assert_close(new_scores(rescaled(module, 3.0), path, new, outgoing), expected)
    slope = new_scores(module, path, new, outgoing, eps=1e-9)
    torch.testing.assert_close(
        new_scores(module, path, new, 3 * outgoing, eps=1e-9), 3 * slope, rtol=1e-6, atol=0
    )
    longer = (3 * new[0], 3 * new[1])
    torch.testing.assert_close(
        new_scores(module, path, longer, outgoing, eps=1e-9), 3 * slope, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("path", PATHS)
def test_dead_neurons_score_zero(path: Path) -> None:
    """Neuron 1 never fires, nobody reads neuron 2."""
    module, delta = pair(2)
    with torch.no_grad():
        module.a.bias[1] = -100.0  # type: ignore[index, operator, union-attr]
        module.b.weight[:, 2] = 0.0  # type: ignore[index, operator, union-attr]
    scores = scores_of(module, path, delta)
    assert scores[1] == 0 and scores[2] == 0 and scores[0] != 0 and scores[3] != 0


def test_midpoints() -> None:
    assert midpoints(3) == pytest.approx([1 / 6, 1 / 2, 5 / 6])


def test_start_gives_unit_directions() -> None:
    grown = over_grown(network("residual"), images(), new=2)
    initialize(grown, 0.2, torch.Generator().manual_seed(0))
    layer = grown.graph_module.get_submodule("fxgrow_grown.a1")
    squares = layer.delta[0].flatten(1).square().sum(1) + layer.delta[1].square()  # type: ignore[index, operator, union-attr]
    torch.testing.assert_close(squares, torch.ones_like(squares))
    assert grown.candidates.split_eps.unique().tolist() == [0.2]


def test_unit_of_a_row_includes_its_bias() -> None:
    """theta_i is all that writes neuron i, so a layer whose biases dominate has a large ball."""
    module = Pair().double()
    torch.nn.init.constant_(module.a.bias, 30.0)
    grown = over_grown(module, torch.randn(4, 3, dtype=torch.float64))
    expected = torch.cat([module.a.weight, module.a.bias[:, None]], 1).norm(dim=1).mean()
    assert grown.graph_module.get_submodule("fxgrow_grown.a").unit_row == pytest.approx(
        float(expected)
    )
