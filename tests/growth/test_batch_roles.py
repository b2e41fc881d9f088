"""Each growth batch has one role: searched on, scored on, or held out."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly, RandomGrowth
from fxgrow.growth import Objective
from fxgrow.growth.batch_roles import BatchRoles, assign_roles, take_batches

METHOD = Firefly(new=2, steps=3, refine_steps=2, points=2, rounds=2)
"""8 search steps: as many batches are searched on."""
BUDGET = Budget(neurons=2)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def batch(number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(16, 3, generator=generator, dtype=torch.float64)
    return x, x.prod(1, keepdim=True).sin()


class Seen:
    """A loss that counts how often a gradient was taken on each batch."""

    def __init__(self, targets: list[Tensor]) -> None:
        self.numbers = {id(target): number for number, target in enumerate(targets)}
        self.counts: Counter[int] = Counter()

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        number = self.numbers[id(target)]
        if output.requires_grad:
            output.register_hook(lambda _: self.counts.update([number]))
        return F.mse_loss(output, target)


@pytest.mark.parametrize(
    ("total", "roles"),
    [
        (1, (1, 1, 1)),
        (2, (1, 1, 1)),
        (3, (1, 1, 1)),
        (4, (2, 1, 1)),
        (8, (4, 2, 2)),
        (23, (13, 5, 5)),
        (24, (8, 8, 8)),
        (99, (8, 8, 8)),
    ],
)
def test_roles(total: int, roles: tuple[int, int, int]) -> None:
    kept = take_batches(range(total), METHOD)
    objective = Objective([(number, number) for number in kept], F.mse_loss)
    divided, found = assign_roles(objective, METHOD)
    assert (found.searched, found.scored, found.held_out) == roles
    assert found.total == len(kept) == min(total, 24) and found.steps == 8
    numbers = [
        [number for number, _ in one.batches]
        for one in (divided, divided.scoring, divided.held_out)
    ]
    assert [len(part) for part in numbers] == list(roles)
    if total > 2:
        assert [*numbers[0], *numbers[1], *numbers[2]] == kept, "no batch has two roles"


def test_every_search_step_takes_a_batch_of_its_own() -> None:
    """Scores are taken on others, and nothing is decided by the ones that are held out."""
    batches = [batch(number) for number in range(24)]
    loss = Seen([target for _, target in batches])
    fxgrow.grow(model(), batches, loss, method=METHOD, budget=BUDGET)
    loss.counts[0] -= 1  # whether the loss has a gradient at all is tried on the first one
    assert [loss.counts[number] for number in range(8)] == [1] * 8
    # Two midpoints in each of two rounds.
    assert [loss.counts[number] for number in range(8, 16)] == [4] * 8
    assert not any(loss.counts[number] for number in range(16, 24))


def test_losses_are_of_batches_that_no_step_saw() -> None:
    batches = [batch(number) for number in range(8)]
    before = model()
    growth = fxgrow.grow(before, batches, F.mse_loss, method=METHOD, budget=BUDGET)
    report = growth.report
    scored = Objective(batches[4:6], F.mse_loss)
    held_out = Objective(batches[6:], F.mse_loss)
    assert report.loss_before == pytest.approx(scored.mean(before), rel=1e-12)
    assert report.loss_after == pytest.approx(scored.mean(growth.module), rel=1e-9)
    assert report.loss_after <= report.loss_before
    assert report.held_out_before == pytest.approx(held_out.mean(before), rel=1e-12)
    assert report.held_out_after == pytest.approx(held_out.mean(growth.module), rel=1e-9)
    step = growth.spec.history[0]
    assert (step.held_out_before, step.held_out_after) == (
        report.held_out_before,
        report.held_out_after,
    )
    assert str(report.batches) == (
        "8 growth batches: 4 to search on (by 8 steps in turn), 2 to score on, 2 held out"
    )


@pytest.mark.parametrize("method", [METHOD, RandomGrowth(new=2), fxgrow.Splitting()])
def test_one_batch_serves_for_everything(method: Any) -> None:
    growth = fxgrow.grow(model(), [batch(0)], F.mse_loss, method=method, budget=BUDGET)
    report = growth.report
    assert (report.held_out_before, report.held_out_after) == (
        report.loss_before,
        report.loss_after,
    )
    assert "1 growth batch serves the search, the scores and the held-out loss" in str(
        report.batches
    )


def test_two_batches() -> None:
    report = fxgrow.grow(
        model(), [batch(0), batch(1)], F.mse_loss, method=METHOD, budget=BUDGET
    ).report
    assert report.loss_after <= report.loss_before == report.held_out_before
    assert "1 to score on, which serves for the held-out loss, too" in str(report.batches)


def test_no_more_is_read_than_can_be_used() -> None:
    read: list[int] = []

    def endless() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            read.append(len(read))
            yield batch(read[-1])

    report = fxgrow.grow(model(), endless(), F.mse_loss, method=METHOD, budget=BUDGET).report
    assert len(read) == 24 and report.batches == BatchRoles(8, 8, 8, 8, 24)
    assert str(report.batches) == "24 growth batches: 8 to search on, 8 to score on, 8 held out"


def test_what_is_searched_on_does_not_move_the_scores_of_one_step() -> None:
    """Without any step the directions are the drawn ones, and scores see the scored batches only."""
    method = Firefly(split=False, new=3, steps=0, refine_steps=0)
    batches = [batch(number) for number in range(8)]
    others = [batch(number + 50) for number in range(4)] + batches[4:]
    reports = [
        fxgrow.grow(
            model(), one, F.mse_loss, method=method, budget=BUDGET, accept_no_gain=True
        ).report
        for one in (batches, others)
    ]
    assert reports[0].widths == reports[1].widths and reports[0].loss_after == reports[1].loss_after
