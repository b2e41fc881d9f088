"""New neurons of streams are scored by what they are worth: by eps, and by one backward pass."""

import pytest
import torch
from torch import Tensor, nn

from fxgrow.capture import capture
from fxgrow.coupling import couple, free_for_new_neurons
from fxgrow.growth import Objective
from fxgrow.methods import Firefly, GradientPool
from fxgrow.methods.firefly.importance import joint_scores, single_scores
from fxgrow.methods.firefly.neighborhood import initialize, overgrown_layers
from fxgrow.methods.writer_scores import Writing
from fxgrow.rewrite import OverGrown, overgrow
from tests.growth.streams import NORMS, Stream, made, words

BATCHES = 3
EPS = 0.1


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def over_grown(norm: str, new: int) -> tuple[nn.Module, OverGrown]:
    network = made(Stream(NORMS[norm])).requires_grad_(False)
    captured = capture(network, words())
    coupling = free_for_new_neurons(captured, couple(captured), ["words"], [(words(),)])
    (number,) = coupling.under_norms
    generator = torch.Generator().manual_seed(0)
    return network, overgrow(captured, coupling, [], {number: new}, generator)


def squares(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean()


def planted(norm: str, new: int = 4) -> tuple[OverGrown, Objective]:
    """A graph whose target is what it computes with candidate 2 on; nobody reads candidate 0."""
    network, grown = over_grown(norm, new)
    initialize(grown, EPS, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in overgrown_layers(grown):
            for rows in layer.new or ():
                rows.copy_(0.5 * torch.randn(rows.shape, generator=generator, dtype=rows.dtype))
            for columns in layer.outgoing:
                columns[:, 0] = 0
        grown.candidates.new_eps.zero_()
        grown.candidates.new_eps[2] = EPS
        inputs = [words(seed, 4) for seed in range(BATCHES)]
        batches = [(x, grown.graph_module(x)) for x in inputs]
        grown.candidates.new_eps.fill_(EPS)
    return grown, Objective.of(batches, squares, network)


def test_the_planted_candidate_has_the_best_score_and_a_useless_one_the_worst() -> None:
    # An RMS norm: under layer norm a candidate is in everybody's center, though nobody reads it.
    grown, objective = planted("RMS norm")
    _, scores = joint_scores(grown, objective, 3)
    worth = scores.abs()
    assert worth.argmax() == 2
    assert worth.argmin() == 0
    assert scores[2] < 0  # more of it lowers the loss


def test_moved_together_or_alone_the_planted_candidate_wins() -> None:
    for norm in ("layer norm", "RMS norm"):
        grown, objective = planted(norm)
        assert joint_scores(grown, objective, 3)[1].argmin() == 2
        assert single_scores(grown, objective, 3)[1].argmin() == 2


def test_the_search_of_firefly_finds_it() -> None:
    network, grown = over_grown("layer norm", 4)
    batches = [(words(seed, 4), words(seed, 4)) for seed in range(BATCHES)]
    objective = Objective.of(batches, _cross_entropy, network)
    method = Firefly(steps=6, points=1)
    before = objective.mean(grown.graph_module)
    scores = method.search(grown, objective, torch.Generator().manual_seed(0), _nothing)
    assert (scores.new > 0).all()
    assert objective.mean(grown.graph_module) < before


def _cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())


def _nothing(_: object) -> None:
    raise AssertionError("it selects nothing")


def test_the_pool_scores_by_the_gradient_of_what_writes() -> None:
    network, grown = over_grown("RMS norm", 6)
    batches = [(words(seed, 4), words(seed, 4)) for seed in range(BATCHES)]
    objective = Objective.of(batches, _cross_entropy, network)
    scores = GradientPool().search(grown, objective, torch.Generator().manual_seed(0), _nothing).new
    assert (scores > 0).all()
    losses = []
    rows = [tensor for layer in overgrown_layers(grown) for tensor in layer.new or ()]
    gradients = torch.autograd.grad(_mean(objective, grown), rows)
    for number in range(6):
        with torch.no_grad():
            for tensor, gradient in zip(rows, gradients, strict=True):
                tensor[number] -= 1e-3 * gradient[number]
            losses.append(float(_mean(objective, grown)))
            for tensor in rows:
                tensor[number] = 0
    # What a small step gains is the squared gradient; layers weigh otherwise than in the score.
    gains = -torch.tensor(losses)
    assert gains.argmax() in scores.topk(2).indices
    assert gains.argmin() in (-scores).topk(2).indices


def test_scores_do_not_depend_on_the_unit_of_a_layer() -> None:
    """Rows are multiplied by it, so their gradients are, too."""
    _, grown = over_grown("RMS norm", 3)
    writing = Writing.all_of(grown)[0]
    rows = [torch.randn(tensor.shape).double() for tensor in writing.rows]
    writing.inputs, writing.input_square, writing.outputs = 10, 20.0, 4
    writing.seen.square = 1e-3
    expected = writing.score(rows, examples=5.0)
    writing.layer.unit_row *= 10
    found = writing.score([10 * tensor for tensor in rows], examples=5.0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert expected.min() > 1.0  # beyond the noise


def _mean(objective: Objective, grown: OverGrown) -> Tensor:
    losses = [objective.on(grown.graph_module, batch) for batch in objective.batches]
    return torch.stack(losses).mean()


def test_positions_write_as_well_and_stay_in_the_ball_with_the_layers() -> None:
    network, grown = over_grown("layer norm", 3)
    batches = [(words(seed, 4), words(seed, 4)) for seed in range(BATCHES)]
    objective = Objective.of(batches, _cross_entropy, network)
    method = Firefly(steps=8, points=1, lr=1.0)  # so large that the ball binds
    method.search(grown, objective, torch.Generator().manual_seed(0), _nothing)
    (positions,) = [entry for entry in grown.entries if entry.unit is not None]
    assert positions.parameter == "places"
    written = positions.parameter_itself.detach()
    assert written.abs().max() > 1e-3
    squares = written.square().sum(0)
    for layer in overgrown_layers(grown):
        for rows in layer.new or ():
            squares += rows.detach().reshape(3, -1).square().sum(1)
    torch.testing.assert_close(squares, torch.ones(3, dtype=torch.float64))
