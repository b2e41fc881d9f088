"""Blocks are placed where one first-order step gains most, within a budget."""

from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.errors import BudgetError, GrowthError
from fxgrow.growth import described_model
from fxgrow.growth.block_gains import STEP_SHARE
from tests.growth.test_deepen import SIZE, Block, PostNorm, Stack, points
from tests.networks import randomised

LABELS = torch.tensor([0, 1, 1, 0, 1, 0])
BATCHES = [(points(), LABELS), (points(seed=1)[:4], LABELS[:4])]
LOSS = nn.functional.cross_entropy


def loss_of(model: nn.Module) -> float:
    """The mean over all examples of the batches, in evaluation mode."""
    losses = [LOSS(model.eval()(inputs), targets, reduction="none") for inputs, targets in BATCHES]
    return torch.cat(losses).mean().item()


def deepened(model: nn.Module, blocks: Any, **others: Any) -> fxgrow.Deepened:
    settings = {"where": "gain", "batches": BATCHES, "loss_fn": LOSS, **others}
    return fxgrow.deepen(model, blocks, points(), **settings)


def after_one_step(deeper: fxgrow.Deepened, source: nn.Module, share: float) -> nn.Module:
    """Each constant parameter moved down its gradient, by a share of the way to the original."""
    model = deeper.module.eval()
    names = list(deeper.zeroed)
    learning = [model.get_parameter(name) for name in names]
    losses = [LOSS(model(inputs), targets, reduction="none") for inputs, targets in BATCHES]
    gradients = torch.autograd.grad(torch.cat(losses).mean(), learning)
    with torch.no_grad():
        for name, parameter, gradient in zip(names, learning, gradients, strict=True):
            path, tail = name.rsplit(".", 2)[0], ".".join(name.rsplit(".", 2)[1:])
            old = source.get_submodule(deeper.new_blocks[path]).get_parameter(tail)
            parameter -= share * (old - parameter).norm() * gradient / gradient.norm()
    return model


def test_a_gain_is_what_one_small_step_lowers_the_loss_by() -> None:
    model = randomised(Stack(4))
    before = loss_of(model)
    for number in range(4):
        deeper = fxgrow.deepen(model, {"blocks": (number,)}, points())
        share = 1e-4
        lowered = before - loss_of(after_one_step(deeper, model, share))
        gain = deepened(model, {"blocks": 1}).gains[f"blocks.{number}"]
        assert lowered == pytest.approx(gain * share / STEP_SHARE, rel=2e-2)


def test_the_best_places_are_taken_and_the_function_is_kept() -> None:
    model = randomised(Stack(4))
    deeper = deepened(model, {"blocks": 2})
    best = sorted(deeper.gains, key=lambda path: -deeper.gains[path])[:2]
    assert set(deeper.new_blocks.values()) == set(best) and len(deeper.gains) == 4
    assert len(set(deeper.gains.values())) == 4
    torch.testing.assert_close(deeper.module(points()), model(points()), rtol=1e-12, atol=1e-12)
    assert deeper.loss_before == pytest.approx(loss_of(model))
    assert deeper.loss_after == pytest.approx(deeper.loss_before)
    (step,) = described_model(deeper).spec.history
    assert step.method.settings["by_gain"] is True
    scores = dict(zip(step.blocks[0].new_paths, step.blocks[0].scores, strict=True))
    assert scores == {new: deeper.gains[old] for new, old in deeper.new_blocks.items()}


class TwoStacks(Stack):
    """Small and large blocks, the large ones after the small ones."""

    def __init__(self) -> None:
        super().__init__(2)
        self.large = nn.ModuleList(Block(hidden=50) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in (*self.blocks, *self.large):
            x = block(x)
        return self.head(x)


def test_lists_share_a_budget_in_which_parameters_count() -> None:
    model = randomised(TwoStacks())
    small, large = (
        sum(p.numel() for p in part[0].parameters()) for part in (model.blocks, model.large)
    )
    both = {"blocks": 2, "large": 2}
    budget = fxgrow.Budget(parameters=2 * small)
    assert set(deepened(model, both, budget=budget).new_blocks.values()) == {"blocks.0", "blocks.1"}
    free = deepened(model, both, budget=fxgrow.Budget(parameters=2 * (small + large)))
    assert len(free.new_blocks) == 4
    one = deepened(model, both, budget=fxgrow.Budget(parameters=1.0, layers=1))
    rates = {p: gain / (small if "blocks" in p else large) for p, gain in one.gains.items()}
    assert list(one.new_blocks.values()) == [max(rates, key=lambda path: rates[path])]
    (step,) = described_model(one).spec.history
    assert step.budget == {"parameters": 1.0, "layers": 1}
    with pytest.raises(BudgetError, match=f"smallest adds {small} parameters") as refusal:
        deepened(model, both, budget=fxgrow.Budget(parameters=small - 1))
    assert refusal.value.code == "empty-budget"


def test_a_block_that_is_not_residual_is_no_candidate() -> None:
    model: Any = randomised(Stack(3))
    model.blocks[1] = randomised(PostNorm())
    assert set(deepened(model, {"blocks": 1}).gains) == {"blocks.0", "blocks.2"}
    with pytest.raises(GrowthError, match="ask for 2 at most, and then again") as refusal:
        deepened(model, {"blocks": 3})
    assert refusal.value.code == "bad-blocks"
    # As a limit of what a budget may buy it is no promise.
    assert (
        len(
            deepened(
                model, {"blocks": 3}, budget=fxgrow.Budget(parameters=9.0, layers=3)
            ).new_blocks
        )
        == 2
    )
    with pytest.raises(GrowthError, match="leave this list out") as refusal:
        deepened(randomised(Stack(2, PostNorm)), {"blocks": 1})
    assert refusal.value.code == "not-residual"


def test_frozen_blocks_are_no_candidates_and_the_optimizer_follows() -> None:
    model = randomised(Stack(3))
    model.blocks[0].requires_grad_(requires_grad=False)
    model.blocks[1].down.weight.requires_grad_(requires_grad=False)
    assert set(deepened(model, {"blocks": 1}).gains) == {"blocks.1", "blocks.2"}
    model = randomised(Stack(2))
    optimizer = torch.optim.Adam(model.parameters())
    deeper = deepened(model, {"blocks": 1}, optimizer=optimizer)
    grown: Any = deeper.optimizer
    assert len(grown.param_groups[0]["params"]) == len(list(deeper.module.parameters()))
    assert model.stem.weight.shape == (SIZE, 3) and len(model.blocks) == 2


@pytest.mark.parametrize(
    ("others", "sentence", "code"),
    [
        ({"how": "new"}, "say how='copied'", "bad-blocks"),
        ({"loss_fn": None}, "give batches and loss_fn", "bad-blocks"),
        ({"where": "end", "budget": fxgrow.Budget(parameters=9)}, "say where='gain'", "bad-blocks"),
        ({"blocks": {"blocks": 4}}, "ask for 3 at most", "bad-blocks"),
        ({"blocks": {"blocks": (0,)}}, "give their number", "bad-blocks"),
        ({"blocks": {"blocks": 0}}, "ask for at least one", "empty-budget"),
        ({"budget": fxgrow.Budget(neurons=3)}, "parameters and layers", "bad-budget"),
    ],
    ids=str,
)
def test_refusals(others: dict[str, Any], sentence: str, code: str) -> None:
    model, settings = randomised(Stack(3)), {"blocks": {"blocks": 1}, **others}
    with pytest.raises(fxgrow.FxgrowError, match=sentence) as refusal:
        deepened(model, **settings)
    assert refusal.value.code == code and len(model.blocks) == 3
