"""The splitting matrix against the formula and against second differences, and what a split along it gains."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective, Scores, Selection
from fxgrow.methods import Splitting, splitting
from fxgrow.methods.entries import NeuronEntries
from fxgrow.methods.splitting import lowest_eigenpair, splitting_matrices
from fxgrow.rewrite import OverGrown
from tests.methods.firefly.test_importance import LABELS, Smooth
from tests.methods.toys import RBF, rbf, rbf_data
from tests.networks import images, network, randomised
from tests.rewrite.rewriting import over_grown

STEP = 1e-5


def not_asked(scores: Scores) -> Selection:
    raise AssertionError("splitting does not try selections out")


def by_hand(model: RBF, x: Tensor, y: Tensor) -> Tensor:
    """S_i = E[ 2 (f(x) - y) w_i sigma''(t_i) X X^T ], t_i = theta_i . X, X = [x, 1], sigma'' = (t^2 - 1) sigma."""
    ones = torch.cat([x, torch.ones_like(x)], 1)
    t = ones @ torch.stack([model.inner.weight[:, 0], model.inner.bias])
    factor = 2 * (model(x) - y) * model.outer.weight * (t.square() - 1) * torch.exp(-t.square() / 2)
    return torch.einsum("ni,na,nb->iab", factor, ones, ones).detach() / len(x)


def test_matrix_is_the_formula() -> None:
    model, (x, y) = rbf(3), rbf_data()
    grown = over_grown(model, x)
    found = splitting_matrices(
        grown, Objective([(x, y)], F.mse_loss), NeuronEntries.splits(grown), STEP
    )
    unit = grown.graph_module.get_submodule("fxgrow_grown.inner").unit_row
    expected = by_hand(model, x, y)
    assert expected.abs().min() > 1e-4
    torch.testing.assert_close(found / unit**2, expected, rtol=1e-6, atol=1e-9)


def second_difference(grown: OverGrown, objective: Objective, i: int, h: float) -> float:
    """d^2 L / d eps_i^2 at 0, by an even function's two values."""
    with torch.no_grad():
        grown.candidates.split_eps.zero_()
        at_zero = objective.mean(grown.graph_module)
        grown.candidates.split_eps[i] = h
        moved = objective.mean(grown.graph_module)
    return 2 * (moved - at_zero) / h**2


def test_matrix_of_a_residual_network_is_the_second_derivative() -> None:
    """Neurons with rows in several layers, batch norm, depthwise carriers: v^T S v along random directions v."""
    torch.manual_seed(0)
    grown = over_grown(randomised(Smooth()), images(4))
    objective = Objective([(images(4), LABELS)], F.cross_entropy)
    entries = NeuronEntries.splits(grown)
    matrices = splitting_matrices(grown, objective, entries, STEP)
    vectors = torch.randn(entries.count, entries.size, dtype=torch.float64)
    entries.write(vectors)
    own = entries.read(entries.parts)  # a neuron with fewer coordinates has zeros at the end
    forms = torch.einsum("ia,iab,ib->i", own, matrices, own)
    expected = [second_difference(grown, objective, i, 1e-3) for i in range(entries.count)]
    assert forms.abs().min() > 1e-4 and len(set(own.count_nonzero(1).tolist())) > 1
    torch.testing.assert_close(
        forms, torch.tensor(expected, dtype=torch.float64), rtol=1e-3, atol=1e-5
    )


def test_gain_is_what_the_split_gains() -> None:
    model, (x, y) = rbf(4), rbf_data()
    grown, objective = over_grown(model, x), Objective([(x, y)], F.mse_loss)
    before = objective.mean(grown.graph_module)
    scores = Splitting(eps=0.02).search(grown, objective, torch.Generator(), not_asked)
    best = int(scores.split.argmax())
    assert scores.split[best] > 0
    with torch.no_grad():
        grown.candidates.split_eps[torch.arange(4) != best] = 0
    gained = before - objective.mean(grown.graph_module)
    assert gained == pytest.approx(float(scores.split[best]), rel=0.01)


def test_stable_neurons_are_copied_and_not_moved() -> None:
    model, (x, y) = rbf(4, seed=4), rbf_data()
    grown, objective = over_grown(model, x), Objective([(x, y)], F.mse_loss)
    scores = Splitting().search(grown, objective, torch.Generator(), not_asked)
    stable = torch.linalg.eigvalsh(by_hand(model, x, y))[:, 0] >= 0
    assert stable.any() and not stable.all()
    assert torch.equal(grown.candidates.split_eps == 0, stable)
    assert torch.equal(scores.split <= 0, stable)


def test_grows_a_network_downhill() -> None:
    batch = (images(8), torch.tensor([0, 1] * 4))
    growth = fxgrow.grow(
        network("residual"), [batch], F.cross_entropy, example_inputs=(images(),), method=Splitting(),
        budget=Budget(neurons=2),
    )  # fmt: skip
    report = growth.report
    assert report.loss_after < report.loss_before
    assert sum(w.split for w in report.widths) == 2 and sum(w.new for w in report.widths) == 0


def test_too_large_is_said_before_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "_MAX_ENTRIES", 15)
    x, y = rbf_data()
    grown = over_grown(rbf(4), x)
    with pytest.raises(GrowthError, match="4 neurons with up to 2 weights"):
        splitting_matrices(
            grown, Objective([(x, y)], F.mse_loss), NeuronEntries.splits(grown), STEP
        )


def test_neurons_that_see_few_inputs_have_eigenvectors() -> None:
    """Nearly all of such a matrix is 0, and eigh in float32 does not converge for it."""
    generator = torch.Generator().manual_seed(1)
    seen = torch.randperm(145, generator=generator)[:31]
    block = torch.randn(31, 31, generator=generator) * torch.logspace(-2, -9, 31)[:, None]
    matrix = torch.zeros(145, 145)
    matrix[seen[:, None], seen] = (block + block.T) / 2
    lowest, vectors = lowest_eigenpair(matrix[None])
    exact = torch.linalg.eigvalsh(matrix.double())[0]
    torch.testing.assert_close(lowest[0], exact.float())
    torch.testing.assert_close(matrix @ vectors[0], lowest[0] * vectors[0], rtol=1e-4, atol=1e-7)
