"""Lists of residual blocks get longer: same class, same function, new blocks that learn at once."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.errors import BudgetError, GrowthError
from tests.networks import randomised

SIZE = 4


class Block(nn.Module):
    """Pre-norm, with dropout on its branch."""

    def __init__(self, hidden: int = 5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(SIZE)
        self.up, self.down = nn.Linear(SIZE, hidden), nn.Linear(hidden, SIZE)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.down(F.gelu(self.up(self.norm(x)))))


class Stack(nn.Module):
    def __init__(self, depth: int = 3, block: type[nn.Module] = Block) -> None:
        super().__init__()
        self.stem = nn.Linear(3, SIZE)
        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.head = nn.Linear(SIZE, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def points(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 3, dtype=torch.float64, generator=generator)


def equal(one: nn.Module, other: nn.Module, x: Any = None) -> None:
    x = points(seed=1) if x is None else x
    torch.testing.assert_close(one(x), other(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", ["copied", "new"])
def test_blocks_at_the_end_keep_the_function_and_all_names(how: Any) -> None:
    model = randomised(Stack())
    names = dict(model.named_parameters())
    deeper = fxgrow.deepen(model, {"blocks": 2}, points(), how=how)
    assert type(deeper.module) is Stack and len(deeper.module.blocks) == 5
    assert deeper.new_blocks == {"blocks.3": "blocks.2", "blocks.4": "blocks.2"}
    assert deeper.renamed == {} and deeper.exact and deeper.preservation_error == 0.0
    assert deeper.zeroed == {
        f"blocks.{number}.down.{name}": 0.0 for number in (3, 4) for name in ("weight", "bias")
    }
    equal(deeper.module, model)
    now = dict(deeper.module.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in names.items())
    assert torch.equal(now["blocks.3.up.weight"], names["blocks.2.up.weight"]) == (how == "copied")
    assert len(model.blocks) == 3


def test_new_blocks_are_the_identity_in_training_mode_and_learn_at_once() -> None:
    deeper = fxgrow.deepen(randomised(Stack()), {"blocks": 1}, points()).module.train()
    torch.manual_seed(0)  # of few numbers dropout may leave a row out
    stream = torch.randn(5, SIZE, dtype=torch.float64)
    assert torch.equal(deeper.blocks[3](stream), stream)
    many = points().repeat(16, *[1] * (points().dim() - 1))
    deeper(many).square().mean().backward()
    assert deeper.blocks[3].down.weight.grad.abs().min() > 0


def test_blocks_after_chosen_ones_and_spread_evenly() -> None:
    model = randomised(Stack(4))
    chosen = fxgrow.deepen(model, {"blocks": (0, 2, 2)}, points())
    assert chosen.new_blocks == {
        "blocks.1": "blocks.0",
        "blocks.4": "blocks.2",
        "blocks.5": "blocks.2",
    }
    assert chosen.renamed == {
        "blocks.1": "blocks.2",
        "blocks.2": "blocks.3",
        "blocks.3": "blocks.6",
    }
    assert torch.equal(chosen.module.blocks[6].up.weight, model.blocks[3].up.weight)
    spread = fxgrow.deepen(model, {"blocks": 2}, points(), where="spread")
    assert spread.new_blocks == {"blocks.2": "blocks.1", "blocks.5": "blocks.3"}
    equal(chosen.module, model)
    equal(spread.module, model)


class Stage(nn.Module):
    """A basic block of a ResNet; the first one of its stage has a projection."""

    def __init__(self, inside: int, size: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, size, 3, padding=1), nn.BatchNorm2d(size)
        self.conv2, self.bn2 = nn.Conv2d(size, size, 3, padding=1), nn.BatchNorm2d(size)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity() if inside == size else nn.Conv2d(inside, size, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu(out)


def resnet() -> nn.Module:
    stage = nn.Sequential(Stage(3, 4), Stage(4, 4))
    return nn.Sequential(stage, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def test_a_stage_with_batch_norm_zeroes_the_last_gain_and_keeps_the_convolution() -> None:
    model, x = randomised(resnet()), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    deeper = fxgrow.deepen(model, {"0": 1}, x)
    assert deeper.zeroed == {"0.2.bn2.weight": 0.0, "0.2.bn2.bias": 0.0}
    assert torch.equal(deeper.module[0][2].bn2.running_var, model[0][1].bn2.running_var)
    other = torch.randn(3, 3, 5, 5, dtype=torch.float64)
    equal(deeper.module, model, other)
    equal(copy.deepcopy(deeper.module).train(), copy.deepcopy(model).train(), other)


def test_a_block_that_changes_the_size_is_refused() -> None:
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    with pytest.raises(GrowthError, match=r"Stage at '0\.0' is no block") as refusal:
        fxgrow.deepen(randomised(resnet()), {"0": (0,)}, x)
    assert refusal.value.code == "not-residual"
    assert "by their numbers: {'0': (1,)}" in str(refusal.value)


class PostNorm(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.down(F.gelu(self.up(x))))


def test_post_norm_is_refused_with_its_reason_and_nothing_changes() -> None:
    model = randomised(Stack(block=PostNorm))
    with pytest.raises(GrowthError, match="post-norm") as refusal:
        fxgrow.deepen(model, {"blocks": 1}, points(), inplace=True)
    assert refusal.value.code == "not-residual" and len(model.blocks) == 3
    assert "no block of this list would do" in str(refusal.value)


class Counted(Stack):
    """Runs as many blocks as a number of its own says."""

    def __init__(self) -> None:
        super().__init__()
        self.width = self.depth = 3

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number in range(self.depth):
            x = self.blocks[number](x)
        return self.head(x)


class Talkative(Stack):
    """Gives the states of all blocks as well, of which there are more in a deeper model."""

    def forward(self, x: Tensor) -> Any:
        x, states = self.stem(x), []
        for block in self.blocks:
            x = block(x)
            states.append(x)
        return {"logits": self.head(x), "states": states}


def test_what_there_is_of_every_block_is_not_compared() -> None:
    model = randomised(Talkative())
    deeper = fxgrow.deepen(model, {"blocks": (0,)}, points()).module
    before, after = model(points()), deeper(points())
    assert torch.equal(after["logits"], before["logits"])
    assert len(after["states"]) == len(before["states"]) + 1


class Named(Stack):
    """Calls each of its blocks by its place."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.blocks[2](self.blocks[1](self.blocks[0](x))))


def test_a_number_of_blocks_that_the_model_holds_follows() -> None:
    model = randomised(Counted())
    deeper = fxgrow.deepen(model, {"blocks": 2}, points()).module
    assert deeper.depth == 5 and deeper.width == 3 and model.depth == 3
    equal(deeper, model)


def test_blocks_that_the_model_would_not_run_are_refused() -> None:
    model = randomised(Named())
    with pytest.raises(GrowthError, match=r"does not run 'blocks\.3'") as refusal:
        fxgrow.deepen(model, {"blocks": 1}, points(), inplace=True)
    assert refusal.value.code == "unreached-blocks" and len(model.blocks) == 3


class Doubling(Block):
    """Adds its input twice: zeros make it no identity, which only a run tells."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.down(F.gelu(self.up(x))), x, alpha=2)


def test_what_is_not_the_identity_when_it_is_run_is_undone() -> None:
    model = randomised(Stack(block=Doubling))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(GrowthError, match="not what it was before") as refusal:
        fxgrow.deepen(model, {"blocks": (0,)}, points(), inplace=True, optimizer=optimizer)
    assert refusal.value.code == "broken-promise"
    assert len(model.blocks) == 3 and len(optimizer.param_groups[0]["params"]) == 22


def test_the_optimizer_trains_new_blocks_in_the_groups_of_their_neighbours() -> None:
    model = randomised(Stack())
    groups = [
        {"params": list(model.blocks.parameters()), "weight_decay": 0.1},
        {"params": [*model.stem.parameters(), *model.head.parameters()]},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    model(points()).square().mean().backward()
    optimizer.step()
    deeper = fxgrow.deepen(model, {"blocks": 1}, points(), optimizer=optimizer)
    grown: Any = deeper.optimizer
    old, new = optimizer.param_groups[0]["params"], grown.param_groups[0]["params"]
    assert len(new) == len(old) + 6 and len(grown.param_groups[1]["params"]) == 4
    assert {id(one) for one in deeper.module.blocks.parameters()} == {id(one) for one in new}
    assert torch.equal(grown.state[new[0]]["exp_avg"], optimizer.state[old[0]]["exp_avg"])
    before = deeper.module.blocks[3].down.weight.clone()
    deeper.module(points()).square().mean().backward()
    grown.step()
    assert not torch.equal(deeper.module.blocks[3].down.weight, before)


def test_in_place() -> None:
    model = randomised(Stack())
    expected, last = model(points()), model.blocks[2]
    assert fxgrow.deepen(model, {"blocks": 1}, points(), inplace=True).module is model
    assert len(model.blocks) == 4 and model.blocks[2] is last
    assert torch.equal(model(points()), expected)
    for block in model.blocks:
        assert "forward" not in vars(block) and not block._forward_pre_hooks


class Tied(Stack):
    """All blocks share one projection."""

    def __init__(self) -> None:
        super().__init__()
        first: Any = self.blocks[0]
        for block in self.blocks:
            block.down = first.down


def test_a_zero_that_others_would_see_is_refused() -> None:
    with pytest.raises(GrowthError, match="other modules hold it, too") as refusal:
        fxgrow.deepen(randomised(Tied()), {"blocks": 1}, points())
    assert refusal.value.code == "not-residual"


def test_what_blocks_share_is_shared_by_new_ones() -> None:
    model = randomised(Stack())
    for block in model.blocks:
        block.norm = model.blocks[0].norm
    deeper = fxgrow.deepen(model, {"blocks": 1}, points()).module
    assert deeper.blocks[3].norm is deeper.blocks[0].norm
    equal(deeper, model)


@pytest.mark.parametrize(
    ("how", "count", "sources"),
    [("stack", 4, [0, 1, 2, 3, 0, 1, 2, 3]), ("middle", 2, [0, 1, 2, 1, 2, 3])],
)
def test_methods_that_are_not_exact_tell_the_loss_jump(how: Any, count: int, sources: Any) -> None:
    model = randomised(Stack(4))
    batches = [(points(seed), points(seed)[:, :2]) for seed in range(2)]
    deeper = fxgrow.deepen(
        model, {"blocks": count}, points(), how=how, batches=batches, loss_fn=F.mse_loss
    )
    for block, source in zip(deeper.module.blocks, sources, strict=True):
        assert torch.equal(block.down.weight, model.blocks[source].down.weight)
    losses = [
        sum(float(F.mse_loss(network(x), y).detach()) for x, y in batches) / 2
        for network in (model, deeper.module)
    ]
    assert [deeper.loss_before, deeper.loss_after] == pytest.approx(losses)
    assert losses[0] != losses[1]
    assert not deeper.exact and deeper.preservation_error > 0 and deeper.zeroed == {}


def test_it_is_saved_pickled_copied_and_compiled(tmp_path: Path) -> None:
    deeper = fxgrow.deepen(randomised(Stack()), {"blocks": 1}, points())
    for twin in (pickle.loads(pickle.dumps(deeper.module)), copy.deepcopy(deeper.module)):
        assert torch.equal(twin(points()), deeper.module(points()))
    compiled = torch.compile(deeper.module, fullgraph=True, backend="eager")
    assert torch.equal(compiled(points()), deeper.module(points()))
    fxgrow.save(deeper, tmp_path / "saved")
    assert torch.equal(fxgrow.load(tmp_path / "saved")(points()), deeper.module(points()))


@pytest.mark.parametrize(
    ("blocks", "options", "error", "code"),
    [
        ({"layers": 1}, {}, GrowthError, "unknown-blocks"),
        ({"stem": 1}, {}, GrowthError, "unknown-blocks"),
        ({"blocks": (3,)}, {}, GrowthError, "bad-blocks"),
        ({"blocks": (0,) * 1025}, {}, GrowthError, "bad-blocks"),
        ({"blocks": (1,)}, {"how": "stack"}, GrowthError, "bad-blocks"),
        ({"blocks": 4}, {"how": "middle"}, GrowthError, "bad-blocks"),
        ({"blocks": 0}, {}, BudgetError, "empty-budget"),
        ({"blocks": ()}, {}, BudgetError, "empty-budget"),
    ],
)
def test_wrong_requests(blocks: Any, options: Any, error: Any, code: str) -> None:
    with pytest.raises(error) as refusal:
        fxgrow.deepen(randomised(Stack()), blocks, points(), **options)
    assert refusal.value.code == code


@pytest.mark.parametrize("how", ["copied", "stack"])
def test_inputs_that_the_model_does_not_take(how: Any) -> None:
    with pytest.raises(fxgrow.ModelError, match="does not run on its example") as refusal:
        fxgrow.deepen(Stack(), {"blocks": 1}, torch.zeros(2, 7), how=how)
    assert refusal.value.code == "does-not-run"


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(Block(), Block())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_a_list_in_a_block_of_another_one() -> None:
    model = randomised(Stack(block=Nested))
    with pytest.raises(GrowthError, match="lies in a block of 'blocks'"):
        fxgrow.deepen(model, {"blocks": 1, "blocks.1.inner": 1}, points())
    equal(fxgrow.deepen(model, {"blocks.1.inner": 1}, points()).module, model)


def test_without_values_shapes_alone_grow() -> None:
    model = Stack().to("meta")
    deeper = fxgrow.deepen(model, {"blocks": 1}, torch.empty(6, 3, device="meta"))
    assert len(deeper.module.blocks) == 4 and deeper.unchecked
