"""Step two (Eq. 5): the integrated gradient of the loss along each candidate's eps.

    s_i = 1/eps_i Integral_0^{eps_i} dL/d zeta_i d zeta_i  ~  1/n sum_{z=1..n} dL/dc at c_z = (2z - 1) / (2n) eps_i

``joint`` moves all candidates along the ray c_z * eps (n passes over the batches); ``single`` moves one at a time, the
others staying at eps (n passes per candidate): exact, for small networks, and the oracle of the first. They differ by
O(eps^2).
"""

import torch
from torch import Tensor

from fxgrow.growth import Objective
from fxgrow.methods.gradients import mean_gradients
from fxgrow.rewrite import OverGrown


def midpoints(points: int) -> list[float]:
    """The midpoint rule's places in (0, 1)."""
    return [(2 * z - 1) / (2 * points) for z in range(1, points + 1)]


def joint_scores(grown: OverGrown, objective: Objective, points: int) -> tuple[Tensor, Tensor]:
    """The s of all split and all new candidates, moved together."""
    eps = _eps(grown)
    total = torch.zeros_like(eps)
    for place in midpoints(points):
        total += _gradient(grown, objective, eps * place) / points
    _set(grown, eps)
    return _parts(grown, total)


def single_scores(grown: OverGrown, objective: Objective, points: int) -> tuple[Tensor, Tensor]:
    """The s of all split and all new candidates, each moved alone."""
    eps = _eps(grown)
    total = torch.zeros_like(eps)
    for i in range(len(eps)):
        for place in midpoints(points):
            at = eps.clone()
            at[i] *= place
            total[i] += _gradient(grown, objective, at)[i] / points
    _set(grown, eps)
    return _parts(grown, total)


def _eps(grown: OverGrown) -> Tensor:
    return torch.cat([grown.candidates.split_eps.detach(), grown.candidates.new_eps.detach()])


def _parts(grown: OverGrown, both: Tensor) -> tuple[Tensor, Tensor]:
    count = len(grown.candidates.split_eps)
    return both[:count], both[count:]


@torch.no_grad()
def _set(grown: OverGrown, eps: Tensor) -> None:
    for parameter, values in zip(
        (grown.candidates.split_eps, grown.candidates.new_eps), _parts(grown, eps), strict=True
    ):
        parameter.copy_(values)


def _gradient(grown: OverGrown, objective: Objective, eps: Tensor) -> Tensor:
    """dL/d eps at ``eps``, the mean over the growth batches."""
    _set(grown, eps)
    return torch.cat(
        mean_gradients(grown, objective, [grown.candidates.split_eps, grown.candidates.new_eps])
    )
