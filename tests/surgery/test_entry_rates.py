"""How fast entries learn after a growth, under each rule: the transients that ``docs/optimizers.md`` gives.

An entry that Adam has seen for long moves by the learning rate in every step of a constant gradient.
What an entry moves in units of that is its rate. The bounds are computed here from Adam's equations.
"""

import numpy as np
import pytest
import torch
from torch import nn

from fxgrow.surgery import STATE_RULES, Change, StateRuleName, StateTreatment, axis_map, resize

OLD_STEPS, AFTER, LR = 20_000, 300, 1e-6
FIRST, SECOND = 0.9, 0.999  # the betas
COPY_SHARE = 0.5
"""What a neuron that occurs twice sees of the gradient that it saw alone."""
OLD, COPY, NEW = [0, 3], [1, 2], [4]
"""Rows afterwards: neuron 1 of three occurs twice, and one is new."""


def rates(state: StateRuleName) -> torch.Tensor:
    """The rates of all rows of a matrix in the steps after a growth, ``[steps, rows]``."""
    module = nn.Linear(1, 3, bias=False).double()
    weight = module.weight
    optimizer = torch.optim.Adam([weight], lr=LR, betas=(FIRST, SECOND), eps=0.0)
    gradient = torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)
    weight.grad = gradient.clone()
    optimizer.step()
    # What so many steps of this gradient come to, without doing them.
    kept = optimizer.state[weight]
    kept["step"].fill_(OLD_STEPS)
    kept["exp_avg"].copy_(gradient)
    kept["exp_avg_sq"].copy_(gradient**2)
    neurons = np.arange(3)
    change = {0: Change((1, 2, 1), 1)}
    written = axis_map(np.zeros_like(neurons), neurons, change, reads=False)
    resize(module, {("weight", 0): written}, [optimizer], StateTreatment(state))
    # Copies see their share of what the neuron saw; the new one sees anything.
    after = torch.tensor([[1.0], [-1.0], [-1.0], [0.5], [3.0]], dtype=torch.float64)
    measured = []
    for _ in range(AFTER):
        weight.grad = after.clone()
        before = weight.detach().clone()
        optimizer.step()
        measured.append((weight.detach() - before).abs()[:, 0] / LR)
    return torch.stack(measured)


def under_the_old_count(moment: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
    """Rates from moments in units of the gradient, where no correction of the start is left."""
    return moment / square.sqrt()


STEPS = torch.arange(1, AFTER + 1, dtype=torch.float64)
ONE = torch.ones(AFTER, dtype=torch.float64)
PADDED_NEW = under_the_old_count(1 - FIRST**STEPS, 1 - SECOND**STEPS)
# Full moments of a neuron whose copies see half: m and v fall to a and a^2 at rates of their own.
PADDED_COPY = under_the_old_count(
    COPY_SHARE + (1 - COPY_SHARE) * FIRST**STEPS,
    COPY_SHARE**2 + (1 - COPY_SHARE**2) * SECOND**STEPS,
)
EXPECTED: dict[StateRuleName, tuple[torch.Tensor, torch.Tensor]] = {
    "padded": (PADDED_COPY, PADDED_NEW),
    "scaled": (ONE, PADDED_NEW),
    "own-age": (ONE, ONE),
    "reset-grown": (ONE, ONE),
    "reset": (ONE, ONE),
}
"""Per rule the rates of copies and of new entries; old ones have 1 under all of them."""


def test_every_rule_has_its_bounds() -> None:
    assert EXPECTED.keys() == STATE_RULES.keys()


@pytest.mark.parametrize("state", EXPECTED)
def test_rates_after_growth_are_within_their_bounds(state: StateRuleName) -> None:
    measured = rates(state)
    copies, new = EXPECTED[state]
    for rows, expected in ((OLD, ONE), (COPY, copies), (NEW, new)):
        for row in rows:
            torch.testing.assert_close(measured[:, row], expected, rtol=1e-5, atol=0)


def test_the_figures_of_the_documentation() -> None:
    """3.2 times in the first step, 6.6 in the twelfth, where it is largest, and twice after 280."""
    new = rates("padded")[:, NEW[0]]
    assert round(float(new[0]), 1) == 3.2
    assert round(float(new.max()), 1) == 6.6 and int(new.argmax()) == 12 - 1
    assert 2.0 <= float(new[280 - 1]) < 2.05
    # Copies are never faster than they should be, and no slower than their share.
    copies = rates("padded")[:, COPY]
    assert float(copies.max()) <= 1.0 and float(copies.min()) >= COPY_SHARE
