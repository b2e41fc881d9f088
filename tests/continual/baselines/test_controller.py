import math

import torch

from fxgrow.continual.baselines.controller import Controller
from fxgrow.training import seeded


def test_what_is_ruled_out_is_never_drawn_and_has_no_probability() -> None:
    with seeded(0):
        controller = Controller((0, 1, 4), hidden=4, layers=1)
        drawn = {controller(2, lambda choices: [not choices, True, False])[0] for _ in range(30)}
        assert drawn == {(0, 1), (1, 1)}
        _, log_probability = controller(3, lambda _: [False, True, False])
    assert log_probability.item() == 0


def test_the_probabilities_of_all_draws_add_up_to_one() -> None:
    with seeded(0):
        controller = Controller((0, 1, 4), hidden=4, layers=2)
        with torch.no_grad():
            drawn = {
                choices: log.item()
                for choices, log in (controller(2, lambda _: [True] * 3) for _ in range(200))
            }
    assert len(drawn) == 9 and abs(sum(map(math.exp, drawn.values())) - 1) < 1e-5
