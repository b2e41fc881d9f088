"""Step one lowers the loss and stays inside the box and the ball; and the method's settings and ranking."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly
from fxgrow.errors import ArgumentError, ModelError
from fxgrow.growth import Objective, Scores, Selection
from fxgrow.growth.statistics import new_channel_norms
from fxgrow.methods.firefly import neighborhood
from fxgrow.methods.firefly.importance import joint_scores
from fxgrow.methods.firefly.neighborhood import (
    Neighborhood,
    candidate_directions,
    initialize,
    overgrown_layers,
    split_tensors,
)
from fxgrow.methods.firefly.relax import CONSTRAINTS, OPTIMIZERS, PRECISIONS, ConstraintRule, relax
from fxgrow.rewrite import OverGrown
from tests.networks import NETWORKS, images, network
from tests.rewrite.rewriting import over_grown

OBJECTIVE = Objective([(images(8), torch.tensor([0, 1] * 4))], F.cross_entropy)


def not_asked(scores: Scores) -> Selection:
    raise AssertionError("Firefly does not try selections out")


@pytest.mark.parametrize("name", NETWORKS)
def test_relax_lowers_the_loss_within_its_constraints(name: str) -> None:
    grown = over_grown(network(name), images(), new=2)
    initialize(grown, 0.1, torch.Generator().manual_seed(0))
    before = OBJECTIVE.mean(grown.graph_module)
    relax(grown, OBJECTIVE, eps=0.1, steps=10, lr=0.03)
    assert OBJECTIVE.mean(grown.graph_module) < before
    for eps in (grown.candidates.split_eps, grown.candidates.new_eps):
        assert eps.abs().max() <= 0.1
    for layer in overgrown_layers(grown):
        for outgoing in layer.outgoing:
            assert outgoing.transpose(0, 1).flatten(1).norm(dim=1).max() <= 1 + 1e-12


def test_step_size_falls_to_zero() -> None:
    """Adam under a gradient of one sign moves by the sum of its step sizes: lr (1 + 3/4 + 1/2 + 1/4) in four steps."""
    grown = over_grown(network("chain"), images(), new=2)
    initialize(grown, 0.1, torch.Generator().manual_seed(0))
    relax(grown, OBJECTIVE, eps=0.1, steps=4, lr=0.01)
    moved = max(
        float(outgoing.detach().abs().max())
        for layer in overgrown_layers(grown)
        for outgoing in layer.outgoing
    )
    assert moved == pytest.approx(0.025, rel=0.05)


def test_refining_keeps_the_unselected_off() -> None:
    grown = over_grown(network("chain"), images(), new=2)
    initialize(grown, 0.1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        grown.candidates.split_eps[::2] = 0
        grown.candidates.new_eps[1:] = 0
    before = OBJECTIVE.mean(grown.graph_module)
    Firefly(refine_steps=10).refine(grown, OBJECTIVE)
    assert (grown.candidates.split_eps[::2] == 0).all() and (
        grown.candidates.new_eps[1:] == 0
    ).all()
    assert grown.candidates.split_eps[1::2].abs().min() > 0
    assert OBJECTIVE.mean(grown.graph_module) < before


def test_directions_leave_out_eps_and_base() -> None:
    module = network("gate")
    grown = over_grown(module, images(), new=2)
    moved = {id(p) for p in candidate_directions(grown)}
    assert not moved & {id(p) for p in module.parameters()}
    assert id(grown.candidates.split_eps) not in moved and id(grown.candidates.new_eps) not in moved
    carriers = [
        n for n, p in grown.graph_module.named_parameters() if id(p) in moved and "depth" in n
    ]
    assert carriers


def test_search_scores_are_gains() -> None:
    grown = over_grown(network("chain"), images(), new=2)
    method = Firefly(new=2, steps=5)
    scores = method.search(grown, OBJECTIVE, torch.Generator().manual_seed(0), not_asked)
    assert (scores.new >= 0).all()
    assert grown.candidates.new_eps.abs().unique().numel() == 1
    assert len(scores.split) == 13 and len(scores.new) == 6


def started(name: str = "residual", eps: float = 0.1) -> OverGrown:
    grown = over_grown(network(name), images(), new=2)
    initialize(grown, eps, torch.Generator().manual_seed(0))
    return grown


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_choice_lowers_the_loss_within_the_neighbourhood(
    optimizer: str, constraint: str
) -> None:
    grown = started()
    before = OBJECTIVE.mean(grown.graph_module)
    relax(grown, OBJECTIVE, 0.1, 10, 0.03, OPTIMIZERS[optimizer], CONSTRAINTS[constraint])
    assert OBJECTIVE.mean(grown.graph_module) < before
    assert (
        Neighborhood.of(grown, 0.1).violation() < 1e-28
    )  # rounding of a norm of 1, to the fourth power


def test_gradient_steps_do_not_depend_on_the_unit_of_eps() -> None:
    """eps = e u: one step of plain gradient descent moves u by -lr e dL/deps, so eps by -lr e^2 dL/deps."""
    grown = started(eps=0.05)
    with torch.no_grad():
        grown.candidates.new_eps.fill_(0.02)
        for layer in overgrown_layers(grown):
            for outgoing in layer.outgoing:
                outgoing.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    before = grown.candidates.new_eps.detach().clone()
    gradient = torch.autograd.grad(
        OBJECTIVE.on(grown.graph_module, OBJECTIVE.batches[0]), grown.candidates.new_eps
    )[0]
    relax(grown, OBJECTIVE, 0.05, 1, 0.01, OPTIMIZERS["sgd"])
    torch.testing.assert_close(
        grown.candidates.new_eps.detach() - before, -0.01 * 0.05**2 * gradient
    )


def test_violation() -> None:
    """1/4 ((1 + v)^2 - 1)^2 for one eps and one direction that are too long, nothing inside; projection ends it."""
    grown = started()
    assert Neighborhood.of(grown, 0.1).violation() < 1e-28
    with torch.no_grad():
        grown.candidates.split_eps[0] *= -1.5
        for tensor, index, _ in split_tensors(grown):  # all that writes neuron 3
            tensor[index == 3] *= 1.2
    found = Neighborhood.of(grown, 0.1).violation()
    assert float(found.detach()) == pytest.approx((1.5**2 - 1) ** 2 / 4 + (1.2**2 - 1) ** 2 / 4)
    assert all(
        bool(g.isfinite().all())
        for g in torch.autograd.grad(found, candidate_directions(grown), allow_unused=True)
        if g is not None
    )
    Neighborhood.of(grown, 0.1).project()
    assert Neighborhood.of(grown, 0.1).violation() < 1e-28


def test_layers_of_one_shape_are_projected_as_if_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tensors are put beside each other, so few that each is alone included."""
    found = []
    for at_once in (neighborhood._AT_ONCE, 100, 1):
        monkeypatch.setattr(neighborhood, "_AT_ONCE", at_once)
        grown = started()
        with torch.no_grad():
            for number, direction in enumerate(candidate_directions(grown)):
                direction += 0.1 * (1 + number)
        space = Neighborhood.of(grown, 0.1)
        violation = space.violation().detach()
        space.project()
        assert violation > 0.1 and space.violation() < 1e-28
        found.append([violation, *(one.detach() for one in candidate_directions(grown))])
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


def violations(constraint: ConstraintRule) -> list[float]:
    """The violation before every step of a relaxation with large steps."""
    found: list[float] = []

    def added(neighborhood: Neighborhood) -> Tensor | float:
        found.append(float(neighborhood.violation().detach()))
        return constraint.added(neighborhood)

    relax(started(), OBJECTIVE, 0.1, 30, 0.1, constraint=constraint._replace(added=added))
    return found


def test_constraints_hold_between_the_steps() -> None:
    """Projection: at every step. The penalty lets candidates leave the ball, and its gradient brings them back."""
    penalty = CONSTRAINTS["penalty"]
    free = violations(penalty._replace(added=lambda *_: 0.0))[-1]
    assert 0 < violations(penalty)[-1] < free / 4
    assert max(violations(CONSTRAINTS["projection"])) < 1e-28


def test_bf16_passes_are_close_but_not_the_same() -> None:
    """Scores under autocast agree to bfloat16's 8 bits; gradients arrive in the parameters' own float32."""
    module = network("residual").float()
    grown = over_grown(module, images().float(), new=2)
    initialize(grown, 0.1, torch.Generator().manual_seed(0))
    batch = (images(8).float(), torch.tensor([0, 1] * 4))
    full, low = (
        Objective([batch], F.cross_entropy, autocast=PRECISIONS[name]) for name in ("fp32", "bf16")
    )
    relax(grown, full, 0.1, 5, 0.03)
    expected, found = (torch.cat(joint_scores(grown, objective, 3)) for objective in (full, low))
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_precision_reaches_step_two() -> None:
    """Without a step of relaxation only the scores of splits can tell."""
    batch = (images(8).float(), torch.tensor([0, 1] * 4))
    scores = []
    for precision in PRECISIONS:
        grown = over_grown(network("residual").float(), images().float())
        method = Firefly(steps=0, precision=precision)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(0)
        scores.append(
            method.search(grown, Objective([batch], F.cross_entropy), generator, not_asked).split
        )
    assert 0 < (scores[0] - scores[1]).norm() < 0.5 * scores[0].norm()


def test_new_neurons_begin_with_their_own_statistics() -> None:
    """What batch norm subtracts and divides by is estimated before the first step (exactly: tests/growth)."""
    grown = over_grown(network("chain"), images(), new=2)
    Firefly(new=2).begin(grown, OBJECTIVE, torch.Generator().manual_seed(0))
    norms = list(new_channel_norms(grown).values())
    assert norms and all(
        bool((norm.running_mean != 0).all() and (norm.running_var != 1).all()) for norm in norms
    )


def test_bf16_stays_within_the_two_steps() -> None:
    """The promises hold to float32 rounding, and no parameter changes its type."""
    module = network("chain").float()
    batches = [(images(8).float(), torch.tensor([0, 1] * 4))]
    growth = fxgrow.grow(
        module, batches, F.cross_entropy, example_inputs=(images().float(),),
        method=Firefly(new=2, steps=4, precision="bf16"), budget=Budget(neurons=3),
    )  # fmt: skip
    assert (
        growth.report.faithful_error < 1e-5
        and growth.report.loss_after <= growth.report.loss_before
    )
    assert {p.dtype for p in growth.module.parameters()} == {torch.float32}


def test_rounds_take_turns() -> None:
    """Two rounds are one round whose end is relaxed and scored again."""
    once, twice = started("chain"), started("chain")
    method = Firefly(new=2, steps=3)
    first = method.search(once, OBJECTIVE, torch.Generator().manual_seed(0), not_asked)
    relax(once, OBJECTIVE, method.eps, 3, method.lr)
    split, new = joint_scores(once, OBJECTIVE, method.points)
    found = Firefly(new=2, steps=3, rounds=2).search(
        twice, OBJECTIVE, torch.Generator().manual_seed(0), not_asked
    )
    torch.testing.assert_close(found.new, method.eps * new.abs())
    torch.testing.assert_close(found.split, -once.candidates.split_eps.detach() * split)
    assert (found.new - first.new).abs().max() > 1e-6


@pytest.mark.parametrize(
    "settings",
    [{"eps": 0}, {"new": -1}, {"path": "both"}, {"stepz": 3}, {"optimizer": "lion"}, {"rounds": 0}],
)
def test_settings_are_closed(settings: dict[str, object]) -> None:
    with pytest.raises(ArgumentError) as caught:
        Firefly(**settings)
    assert caught.value.code == "bad-setting"


def test_bf16_passes_without_a_sound_gradient_are_refused() -> None:
    """oneDNN leaves parts of it unwritten where a map is smaller than the stride."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.Flatten(), nn.Linear(4, 2)
    )
    images = torch.randn(4, 3, 2, 2)
    batches = [(images, torch.tensor([0, 1, 0, 1]))]
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelError, match="no sound gradient in bfloat16") as caught:
        fxgrow.grow(
            model, batches, F.cross_entropy, inplace=True,
            method=Firefly(new=1, steps=1, precision="bf16"), budget=Budget(neurons=1),
        )  # fmt: skip
    assert caught.value.code == "unsafe-convolution"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
