"""Copies of blocks and neurons are bought from one budget, by gain per cost; the function stays."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import Budget, Firefly
from fxgrow.errors import FxgrowError, GrowthError
from fxgrow.growth import check_step, described_model, regrow, replay
from fxgrow.growth.block_choice import PricedBlock, choose_blocks, matching_lists
from fxgrow.growth.block_gains import BlockCandidate
from fxgrow.growth.budget import Limit, ResolvedBudget
from fxgrow.growth.cost_models import NeuronCost
from fxgrow.growth.scope import block_patterns
from fxgrow.growth.select import Increment
from tests.growth.test_block_gains import BATCHES, LOSS
from tests.growth.test_deepen import SIZE, Block, PostNorm, Stack, points
from tests.networks import randomised

METHOD = Firefly(new=6, steps=2, refine_steps=1, points=1)
BLOCK = 8 + 25 + 24
"""Parameters of a block."""


def grown(model: nn.Module, budget: Budget, **others: Any) -> fxgrow.Growth:
    settings = {"layers": "block:blocks", "method": METHOD, **others}
    return fxgrow.grow(model, BATCHES, LOSS, budget=budget, **settings)


def size_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_blocks_and_neurons_share_a_budget() -> None:
    model = randomised(Stack(4))
    growth = grown(model, Budget(parameters=2 * BLOCK - 1))
    report = growth.report
    assert (
        type(growth.module) is Stack and len(growth.module.blocks) == 5 and len(model.blocks) == 4
    )
    (record,) = report.blocks
    best = max(report.block_gains, key=lambda path: report.block_gains[path])
    assert len(report.block_gains) == 4 and record.scores == (report.block_gains[best],)
    assert report.widths and sum(width.new + width.split for width in report.widths) > 0
    added = size_of(growth.module) - size_of(model)
    spending = report.plan.spending["parameters"]
    assert added == report.params_after - report.params_before == spending.spent
    assert (spending.present, spending.limit) == (254, 113) and BLOCK < added <= 113
    assert report.preservation_error <= 1e-9 and report.faithful_error <= 1e-9
    assert report.loss_after <= report.loss_before


def test_one_step_of_the_history_tells_of_both(tmp_path: Path) -> None:
    model = randomised(Stack(3))
    growth = grown(model, Budget(parameters=90))
    (step,) = growth.spec.history
    assert step.blocks[0].new_paths and step.widths and step.method.name == "Firefly"
    first = described_model(model, (points(),)).spec
    assert step.parent == first.fingerprint and step.cost_before == first.cost
    assert step.cost_after == growth.spec.cost and step.budget == {"parameters": 90}
    assert replay(first, growth.spec.history)[-1].fingerprint == growth.spec.fingerprint
    again = regrow(copy.deepcopy(model), (points(),), growth.spec.history)
    again.load_state_dict(growth.module.state_dict())
    assert torch.equal(again.eval()(points()), growth.module.eval()(points()))
    fxgrow.save(growth, tmp_path)
    assert torch.equal(fxgrow.load(tmp_path)(points()), growth.module(points()))
    assert fxgrow.diff(first, growth.spec).steps


def test_without_neurons_left_to_buy_blocks_alone_grow() -> None:
    # No width takes a neuron for what a block leaves of this budget.
    model = randomised(Stack(3))
    growth = grown(
        model,
        Budget(parameters=BLOCK + 3),
        only=["blocks.*"],
        method=Firefly(new=0, split=True, steps=1),
    )
    assert growth.report.widths == () and growth.report.num_blocks == 1
    torch.testing.assert_close(growth.module.eval()(points()), model(points()), rtol=1e-12, atol=0)
    assert growth.report.plan.spending["parameters"].spent == BLOCK
    assert growth.spec.history[0].widths == ()


def test_a_block_that_does_not_fit_is_not_bought() -> None:
    model, budget = randomised(Stack(2)), Budget(parameters=BLOCK - 1)
    report = grown(model, budget).report
    assert report.blocks == () and report.widths and len(report.block_gains) == 2
    # Steps of blocks are as long, relative to the weights, as those of neurons.
    wider = grown(model, budget, method=METHOD.model_copy(update={"eps": 0.2})).report
    for path, gain in report.block_gains.items():
        assert wider.block_gains[path] == pytest.approx(2 * gain)


def test_every_limit_holds_for_both_together() -> None:
    amounts: dict[str, Any] = dict.fromkeys(
        ("neurons", "parameters", "multiply_adds", "activation_memory"), 1.2
    )
    report = grown(randomised(Stack(2)), Budget(layers=1, **amounts)).report
    assert report.num_blocks == 1 and report.widths
    for unit in amounts:
        spending = report.plan.spending[unit]
        assert spending.present * 0.3 < spending.spent <= spending.limit
    grown_neurons = sum(width.after - width.before for width in report.widths)
    assert report.plan.spending["neurons"].spent == 5 + grown_neurons


class Convolutional(nn.Module):
    """A list of blocks with batch norms, at two resolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.near = nn.Sequential(ConvBlock(), ConvBlock())
        self.far = nn.Sequential(ConvBlock(), ConvBlock())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.near(self.stem(x).relu())
        return self.head(self.far(nn.functional.max_pool2d(x, 2)).mean((2, 3)))


class ConvBlock(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


def images() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2, 1, 0, 2])
    return [
        (torch.randn(6, 1, 6, 6, dtype=torch.float64, generator=generator), labels)
        for _ in range(3)
    ]


def test_lists_of_batch_norm_networks_compete_and_followers_follow() -> None:
    model = randomised(Convolutional())
    follower, batches = copy.deepcopy(model), images()
    with torch.no_grad():
        follower.head.weight += 1
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = follower.eval()(batches[0][0])
    grower = fxgrow.Grower(
        model, optimizer, loss_fn=LOSS, when=fxgrow.training.AtEpochs(epochs=(1,)), method=METHOD,
        budget=Budget(multiply_adds=0.9, layers=1), scope=fxgrow.Scope(blocks=("*ar",)),
    )  # fmt: skip
    grower.follow(follower)
    growth = grower.step(batches, loss=1.0)
    assert growth is not None and grower.model is model
    assert set(growth.report.block_gains) == {"near.0", "near.1", "far.0", "far.1"}
    # What lies at a fourth of the positions costs a fourth.
    gains, prices = growth.report.block_gains, {"near": 4, "far": 1}
    best = max(gains, key=lambda path: gains[path] / prices[path.split(".")[0]])
    (record,) = growth.report.blocks
    assert len(getattr(model, record.blocks)) == 3 and record.scores == (gains[best],)
    torch.testing.assert_close(follower.eval()(batches[0][0]), before, rtol=1e-9, atol=1e-12)
    assert {name: value.shape for name, value in follower.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters()))
    LOSS(model.train()(batches[0][0]), batches[0][1]).backward()
    optimizer.step()
    again = fxgrow.training.regrow_from_state(
        randomised(Convolutional()), grower.state_dict(), batches[0][0]
    )
    again.load_state_dict(model.state_dict())


def test_a_list_without_candidates_is_left_out_and_named() -> None:
    class Two(Stack):
        def __init__(self) -> None:
            super().__init__(2)
            self.more = nn.ModuleList(PostNorm() for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for block in (*self.blocks, *self.more):
                x = block(x)
            return self.head(x)

    report = grown(randomised(Two()), Budget(parameters=80), layers="block:*").report
    assert set(report.block_gains) == {"blocks.0", "blocks.1"}
    assert report.refusals["more"].code == "not-residual"
    with pytest.raises(GrowthError, match="leave this list out") as refusal:
        grown(randomised(Two()), Budget(parameters=80), layers="block:more")
    assert refusal.value.code == "not-residual"


def test_frozen_blocks_are_no_candidates_and_new_ones_learn() -> None:
    model = randomised(Stack(3))
    model.blocks[0].requires_grad_(requires_grad=False)
    growth = grown(model, Budget(parameters=90))
    assert set(growth.report.block_gains) == {"blocks.1", "blocks.2"}
    (path,) = growth.report.blocks[0].new_paths
    assert all(p.requires_grad for p in growth.module.get_submodule(path).parameters())


def test_a_failure_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(Stack(3))
    optimizer = torch.optim.Adam(model.parameters())
    before, groups = copy.deepcopy(model.state_dict()), len(optimizer.param_groups[0]["params"])

    def fails(*_: Any) -> None:
        raise GrowthError("broken-promise", "on purpose")

    monkeypatch.setattr("fxgrow.growth.step.require_same", fails)
    with pytest.raises(GrowthError, match="on purpose"):
        grown(model, Budget(parameters=90), inplace=True, optimizer=optimizer)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert len(model.blocks) == 3 and len(optimizer.param_groups[0]["params"]) == groups


def test_blocks_are_bought_where_they_promise_more_than_the_neurons_they_displace() -> None:
    """By hand: gains per share of a limit of 10 neurons."""
    resolved = ResolvedBudget((Limit("neurons", 10, NeuronCost(0)),), {0: 100}, {0: 10})

    def block(gain: float, cost: float, number: int = 0) -> PricedBlock:
        candidate = BlockCandidate("list", number, f"list.{number}", gain, int(cost))
        return PricedBlock(candidate, {"neurons": cost})

    def neurons(count: int, worth: float) -> list[Increment]:
        return [Increment((0,), ((number,),), worth) for number in range(count)]

    one = block(gain=2.0, cost=5)  # worth 4
    assert choose_blocks([one], neurons(5, worth=9.0), resolved) == [one]
    assert choose_blocks([one], neurons(6, worth=9.0), resolved) == []
    assert choose_blocks([one], neurons(6, worth=3.9), resolved) == [one]
    other = block(gain=1.0, cost=4, number=1)  # worth 2.5
    assert choose_blocks([other, one], neurons(1, worth=9.0), resolved) == [one, other]
    assert choose_blocks([other, one], neurons(2, worth=9.0), resolved) == [one]
    assert choose_blocks([block(gain=0.0, cost=1)], [], resolved) == []


def test_patterns_name_the_outermost_lists() -> None:
    nested = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Sequential(Block())]))
    assert matching_lists(nested, ["1"]) == ("1",) and matching_lists(nested, ["1*"]) == ("1",)
    assert matching_lists(nested, ["1.0"]) == ("1.0",)
    assert block_patterns(["block:a", "block:b*"]) == ("a", "b*") and block_patterns(()) == ()
    with pytest.raises(GrowthError, match=r"there are '', '1', '1\.0'") as refusal:
        matching_lists(nested, ["2*"])
    assert refusal.value.code == "unknown-blocks"


@pytest.mark.parametrize(
    ("others", "sentence", "code"),
    [
        ({"method": fxgrow.RandomGrowth(new=2)}, "not in units of the loss", "no-promise"),
        ({"method": fxgrow.methods.Auto()}, "not in units of the loss", "no-promise"),
        ({"method": Firefly(new=2, layers=2)}, "ask for blocks or for layers", "bad-blocks"),
        ({"budget": Budget(latency=0.5)}, "parameters or multiply_adds", "bad-budget"),
        ({"layers": "block:missing"}, "there are 'blocks'", "unknown-blocks"),
        ({"layers": "blocks"}, "'block:model.layers'", "bad-blocks"),
        ({"layers": ["block:blocks", "2"]}, "layers='2'", "bad-blocks"),
    ],
    ids=str,
)
def test_refusals(others: dict[str, Any], sentence: str, code: str) -> None:
    model, settings = randomised(Stack(3)), {"budget": Budget(parameters=90), **others}
    with pytest.raises(FxgrowError, match=sentence) as refusal:
        grown(model, **settings)
    assert refusal.value.code == code and len(model.blocks) == 3


def test_the_default_method_is_one_that_can_compare() -> None:
    growth = grown(randomised(Stack(2)), Budget(parameters=70), method=None)
    assert growth.spec.history[0].method.name == "Firefly"


def test_a_grower_is_told_when_it_is_made() -> None:
    model, scope = randomised(Stack(2)), fxgrow.Scope(blocks=("blocks",))
    when = fxgrow.training.AtEpochs(epochs=(1,))
    assert isinstance(fxgrow.Grower(model, loss_fn=LOSS, when=when, scope=scope).method, Firefly)
    method = fxgrow.RandomGrowth(new=1)
    with pytest.raises(GrowthError) as refusal:
        fxgrow.Grower(model, loss_fn=LOSS, when=when, scope=scope, method=method)
    assert refusal.value.code == "no-promise"


def test_a_run_is_told_before_it_trains() -> None:
    scope = fxgrow.Scope(blocks=("missing",))
    options = fxgrow.growth.StepOptions(scope=scope)
    with pytest.raises(GrowthError, match="'missing'"):
        check_step(
            randomised(Stack(2)), BATCHES, LOSS, method=METHOD, budget=Budget(neurons=3),
            options=options,
        )  # fmt: skip
    assert SIZE == 4
