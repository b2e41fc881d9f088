"""Firefly on unlocked neurons: eps has a sign, and the score is what the loss falls by."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.growth import Objective, Scores, Selection
from fxgrow.methods import Firefly
from fxgrow.methods.firefly.importance import joint_scores
from fxgrow.rewrite import OverGrown, overgrow
from tests.methods.firefly.test_importance import Smooth
from tests.networks import images, randomised

OBJECTIVE = Objective([(images(8), torch.tensor([0, 1] * 4))], F.cross_entropy)


def not_asked(scores: Scores) -> Selection:
    raise AssertionError("Firefly does not try selections out")


def searched(eps: float, steps: int = 0) -> tuple[OverGrown, Scores, Tensor]:
    """The candidates after both steps, their scores, and the signs of the s of step two."""
    torch.manual_seed(0)
    captured = capture(randomised(Smooth()).requires_grad_(False), (images(),))
    coupling = couple(captured)
    numbers = [n for n, width in enumerate(coupling.widths) if width.growable]
    grown = overgrow(captured, coupling, numbers, {}, torch.Generator(), halves=False)
    method = Firefly(new=0, eps=eps, steps=steps, points=2)
    scores = method.search(grown, OBJECTIVE, torch.Generator().manual_seed(0), not_asked)
    after = grown.candidates.split_eps.detach().clone()
    with torch.no_grad():
        grown.candidates.split_eps.fill_(eps)  # where step two began: no step of step one was made
    signs = joint_scores(grown, OBJECTIVE, 2)[0].sign()
    with torch.no_grad():
        grown.candidates.split_eps.copy_(after)
    return grown, scores, signs


def test_eps_is_left_against_the_gradient() -> None:
    grown, scores, signs = searched(0.1)
    assert torch.equal(grown.candidates.split_eps.detach(), -0.1 * signs)
    assert signs.unique().tolist() == [-1, 1] and (scores.split > 0).all()


def test_a_score_is_what_the_loss_falls_by_to_first_order() -> None:
    """Each candidate alone at its eps, against all off: the rest is of second order in eps."""
    for eps in (1e-3, 1e-4):
        grown, scores, _ = searched(eps)
        own, chosen = grown.candidates.split_eps, grown.candidates.split_eps.detach().clone()
        losses = []
        with torch.no_grad():
            for kept in (torch.zeros_like(own), *chosen.diag()):
                own.copy_(kept)
                losses.append(OBJECTIVE.mean(grown.graph_module))
        saved = losses[0] - torch.tensor(losses[1:], dtype=torch.float64)
        assert (saved - scores.split).abs().max() < eps**2 < scores.split.max() / 30


def test_step_one_and_the_signs_lower_the_loss() -> None:
    grown, scores, _ = searched(0.1, steps=5)
    assert (
        set(grown.candidates.split_eps.abs().unique().tolist()) == {0.1}
        and (scores.split >= 0).all()
    )
    base = OBJECTIVE.mean(grown.graph_module)
    with torch.no_grad():
        grown.candidates.split_eps.zero_()
    assert base < OBJECTIVE.mean(grown.graph_module)
