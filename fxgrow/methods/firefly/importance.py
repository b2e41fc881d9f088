"""Step two (Eq. 5): the integrated gradient of the loss along each candidate's eps.

    s_i = 1/eps_i Integral_0^{eps_i} dL/d zeta_i d zeta_i
        ~ 1/n sum_{z=1..n} dL/dc at c_z = (2z - 1) / (2n) eps_i

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020. How we differ:
``joint_scores`` moves all candidates along the ray c_z * eps (n passes over the batches);
``single_scores`` moves one at a time, the others staying at eps (n passes per candidate): exact,
for small networks, and what tests compare the first with. They differ by O(eps^2).
"""

import torch
from torch import Tensor

from fxgrow.growth import Objective
from fxgrow.methods.gradients import mean_gradients
from fxgrow.rewrite import OverGrown


def midpoints(points: int) -> list[float]:
    """Return the midpoints of ``points`` equal parts of (0, 1)."""
    return [(2 * z - 1) / (2 * points) for z in range(1, points + 1)]


def joint_scores(grown: OverGrown, objective: Objective, points: int) -> tuple[Tensor, Tensor]:
    """Compute s of all candidates, moved together.

    Args:
        grown: the over-grown graph; its eps are the ends of the paths, and are left as they are.
        objective: the loss.
        points: points of the midpoint rule.

    Returns:
        s of the split candidates and s of the new neurons.
    """
    eps = _get_eps(grown)
    total = torch.zeros_like(eps)
    for fraction in midpoints(points):
        total += _eps_gradient(grown, objective, eps * fraction) / points
    _set_eps(grown, eps)
    return _split_and_new(grown, total)


def single_scores(grown: OverGrown, objective: Objective, points: int) -> tuple[Tensor, Tensor]:
    """Compute s of all candidates, each moved alone; arguments and result as ``joint_scores``."""
    eps = _get_eps(grown)
    total = torch.zeros_like(eps)
    for i in range(len(eps)):
        for fraction in midpoints(points):
            moved = eps.clone()
            moved[i] *= fraction
            total[i] += _eps_gradient(grown, objective, moved)[i] / points
    _set_eps(grown, eps)
    return _split_and_new(grown, total)


def _get_eps(grown: OverGrown) -> Tensor:
    """Return the eps of all candidates as one vector: splits, then new neurons."""
    return torch.cat([grown.candidates.split_eps.detach(), grown.candidates.new_eps.detach()])


@torch.no_grad()
def _set_eps(grown: OverGrown, eps: Tensor) -> None:
    split, new = _split_and_new(grown, eps)
    grown.candidates.split_eps.copy_(split)
    grown.candidates.new_eps.copy_(new)


def _split_and_new(grown: OverGrown, vector: Tensor) -> tuple[Tensor, Tensor]:
    count = len(grown.candidates.split_eps)
    return vector[:count], vector[count:]


def _eps_gradient(grown: OverGrown, objective: Objective, eps: Tensor) -> Tensor:
    """Return dL/d eps at ``eps``, the mean over the growth batches."""
    _set_eps(grown, eps)
    parameters = [grown.candidates.split_eps, grown.candidates.new_eps]
    return torch.cat(mean_gradients(grown, objective, parameters))
