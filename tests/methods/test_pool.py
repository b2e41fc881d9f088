"""New neurons from a pool: what the output needs is chosen first, and nothing twice."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget
from fxgrow.data import batches, load_data
from fxgrow.growth import Objective, Scores, Selection
from fxgrow.methods import GradientPool
from fxgrow.methods.pool import Features, pursue
from fxgrow.rewrite import OverGrown, OvergrownLayer
from fxgrow.rewrite.candidate_scaling import scaled_candidates
from tests.methods.toys import RBF, rbf, rbf_data
from tests.networks import NETWORKS, images, network
from tests.rewrite.rewriting import over_grown


def choose_nothing(scores: Scores) -> Selection:
    """The method has no use for a selection."""
    raise AssertionError(scores)


def scored(model: nn.Module, x: Tensor, y: Tensor, new: int) -> tuple[OverGrown, Scores]:
    grown = over_grown(model, x, split=False, new=new)
    objective = Objective([(x, y)], F.mse_loss)
    generator = torch.Generator().manual_seed(0)
    return grown, GradientPool(new=new).search(grown, objective, generator, choose_nothing)


def activations(grown: OverGrown, x: Tensor) -> Tensor:
    """What the candidates of an RBF network compute: [examples, candidates]."""
    layer = grown.graph_module.get_submodule("fxgrow_grown.inner")
    assert isinstance(layer, OvergrownLayer)
    (blocks,) = scaled_candidates([layer], None, None)
    assert blocks.incoming is not None and blocks.incoming.bias is not None
    weight, bias = blocks.incoming.weight, blocks.incoming.bias
    return torch.exp(-F.linear(x, weight, bias).square() / 2).detach()


@pytest.mark.parametrize("missing", range(6))
def test_the_neuron_that_is_missing_comes_first(missing: int) -> None:
    """The target is the model plus what one candidate says beyond the neurons that there are."""
    x, _ = rbf_data()
    model = rbf(2)
    grown, _ = scored(copy.deepcopy(model), x, torch.zeros(len(x), 1).double(), new=6)
    own = torch.exp(-model.inner(x).detach().square() / 2)  # [examples, 2]
    wanted = activations(grown, x)[:, missing, None]
    wanted = wanted - own @ torch.linalg.lstsq(own, wanted).solution
    y = model(x).detach() + 0.01 * wanted
    _, scores = scored(model, x, y, new=6)
    assert int(scores.new.argmax()) == missing
    rest = scores.new[torch.arange(6) != missing]
    assert rest.max() < 1e-6 * scores.new[missing]  # once it is there, nothing is left to explain


def best_subset_error(h: Tensor, residual: Tensor, chosen: list[int]) -> float:
    solution = torch.linalg.lstsq(h[:, chosen], residual).solution
    return float((h[:, chosen] @ solution - residual).square().sum())


def test_the_order_is_that_of_orthogonal_matching_pursuit() -> None:
    """Written out by least squares: each neuron is the one that explains most of what is left."""
    generator = torch.Generator().manual_seed(3)
    h = torch.randn(50, 8, generator=generator, dtype=torch.float64) @ torch.randn(
        8, 8, generator=generator, dtype=torch.float64
    )
    residual = torch.randn(50, 1, generator=generator, dtype=torch.float64)
    gradient = residual.T @ h / 50  # of 1/2 |z - y|^2 at c = 0, but for its sign
    scores = pursue([Features(gradient, h.T @ h / 50, 1.0)], 8)
    expected: list[int] = []
    for _ in range(4):
        q = torch.linalg.qr(h[:, expected]).Q if expected else h[:, :0]
        left = h - q @ (q.T @ h)
        gain = (residual.T @ left).square()[0] / left.square().sum(0).clamp(min=1e-9)
        gain[expected] = -1
        expected.append(int(gain.argmax()))
    assert scores.argsort(descending=True)[:4].tolist() == expected
    errors = [best_subset_error(h, residual, expected[: n + 1]) for n in range(4)]
    assert errors == sorted(errors, reverse=True)


def test_what_is_said_already_gains_nothing() -> None:
    """A copy of a candidate, and a linear function of the layer's own inputs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    h = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    h = torch.cat([h, h[:, :1], x[:, :1] - 2 * x[:, 1:2]], 1)
    everything = torch.cat([x, h], 1)
    residual = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    gradient = residual.T @ everything / 60  # not trained: x has something left to say
    scores = pursue([Features(gradient, everything.T @ everything / 60, 1.0)], 4)
    assert min(scores[0], scores[2]) < 1e-9 * max(scores[0], scores[2])
    assert scores[3] < 1e-9 * scores.max() and scores[1] > 1e-6 * scores.max()


def rectified(factors: tuple[float, float]) -> nn.Sequential:
    """Two hidden layers, multiplied by the factors; what reads them is divided, so it is one function."""
    torch.manual_seed(0)
    first, second, last = (nn.Linear(*size, bias=False) for size in ((3, 5), (5, 4), (4, 2)))
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last).double()
    with torch.no_grad():
        first.weight *= factors[0]
        second.weight *= factors[1] / factors[0]
        last.weight /= factors[1]
    return model


def test_scores_do_not_depend_on_the_units_of_layers() -> None:
    x, y = torch.randn(40, 3).double(), torch.randn(40, 2).double()
    _, expected = scored(rectified((1, 1)), x, y, new=6)
    _, rescaled = scored(rectified((100, 0.01)), x, y, new=6)
    torch.testing.assert_close(rescaled.new, expected.new, rtol=1e-6, atol=0)


def test_a_convolution_is_scored_as_the_linear_layer_that_it_is() -> None:
    """One pixel, one tap; then every weight lies on one pixel of an image that is 0 elsewhere."""
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    convolution = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Conv2d(5, 2, 1)).double()
    with torch.no_grad():
        for one, other in ((linear[0], convolution[0]), (linear[2], convolution[2])):
            other.weight.copy_(one.weight[..., None, None])
            other.bias.copy_(one.bias)
    x, y = torch.randn(40, 3).double(), torch.randn(40, 2).double()
    _, expected = scored(linear, x, y, new=6)
    _, found = scored(convolution, x[..., None, None], y[..., None, None], new=6)
    torch.testing.assert_close(found.new, expected.new, rtol=1e-9, atol=0)


def test_a_bottleneck_gets_most_neurons() -> None:
    """Three neurons lie before sixteen: what is lost there is lost."""
    torch.manual_seed(0)
    digits = load_data("digits", channels=1, size=8)
    layers = nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 10)
    model = nn.Sequential(nn.Flatten(), *layers)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(6):
        for images_, labels in batches(digits.train, 32, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(images_), labels).backward()
            optimizer.step()
    growth = fxgrow.grow(
        model, batches(digits.train, 64), F.cross_entropy, method=GradientPool(), budget=Budget(neurons=12)
    )  # fmt: skip
    assert growth.module[1].out_features >= 8


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_is_kept(name: str) -> None:
    model = network(name)
    growth = fxgrow.grow(
        model,
        [(images(8, seed), None) for seed in range(3)],
        lambda out, _: out.square().mean(),
        method=GradientPool(new=6),
        budget=Budget(neurons=5),
        refresh_statistics=False,
    )
    assert sum(width.new for width in growth.report.widths) == 5
    torch.testing.assert_close(growth.module(images()), model(images()))


class Tagger(nn.Module):
    """A recurrent layer, attention and weight normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.attention = nn.TransformerEncoderLayer(5, 1, 7, batch_first=True, dropout=0.0)
        self.hidden = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(self.lstm(x)[0])
        return self.last(torch.relu(self.hidden(x)))


def test_layers_that_compute_their_weights() -> None:
    torch.manual_seed(0)
    model = Tagger().double()
    batches = [(torch.randn(4, 3, 6).double(), None) for _ in range(2)]
    growth = fxgrow.grow(
        model, batches, lambda out, _: out.square().mean(),
        method=GradientPool(new=4), budget=Budget(neurons=6, per_width=2),
    )  # fmt: skip
    x = batches[0][0]
    torch.testing.assert_close(growth.module.eval()(x), model.eval()(x))
    grown = {width.width for width in growth.report.widths}
    assert grown <= {"attention.linear1", "hidden", "lstm"} and len(grown) >= 2


class Recurrent(nn.Module):
    """Layers whose outgoing weights lie inside a recurrent one, which is not watched."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5, num_layers=2, batch_first=True)
        self.last = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.rnn(x)[0])


def test_recurrent_layers_are_scored_by_their_gradients_alone() -> None:
    torch.manual_seed(0)
    model, x = Recurrent().double(), torch.randn(4, 6, 3).double()
    growth = fxgrow.grow(
        model, [(x, torch.randn(4, 6, 2).double())], F.mse_loss,
        method=GradientPool(new=4), budget=Budget(neurons=2),
    )  # fmt: skip
    (width,) = growth.report.widths
    assert (width.before, width.after) == (5, 7) and min(width.scores) > 0
    torch.testing.assert_close(growth.module.eval()(x), model.eval()(x))


def test_the_pool_is_as_large_as_the_one_that_was_measured() -> None:
    coupling = fxgrow.couple(rbf(2), rbf_data()[0])
    assert list(GradientPool().propose(coupling).new.values()) == [32]
    assert list(GradientPool(new=5).propose(coupling).new.values()) == [5]


def test_it_follows_the_budget() -> None:
    x, y = rbf_data()
    growth = fxgrow.grow(
        rbf(2), [(x, y)], F.mse_loss, method=GradientPool(), budget=Budget(neurons=70)
    )
    assert isinstance(growth.module, RBF) and growth.module.inner.out_features == 72
    assert not growth.report.unspent
