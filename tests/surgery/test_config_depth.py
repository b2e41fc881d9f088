"""The config of a deeper model, without transformers (the real ones: tests/growth/test_deepen_hf.py)."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.surgery.config_depth import UNKNOWN_DEPTH
from tests.networks import randomised

X = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Config:
    """A depth, a kind per block, and numbers that are equal to the depth by accident."""

    def __init__(self, **fields: Any) -> None:
        self.depth, self.kinds, self.heads, self.tokens = 3, ["tanh", "relu", "tanh"], 3, [7, 8, 9]
        self.part = None
        vars(self).update(fields)

    def to_dict(self) -> dict[str, Any]:
        return copy.deepcopy(vars(self))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Config":
        return cls(**fields)


class Block(nn.Module):
    def __init__(self, config: Config, number: int) -> None:
        super().__init__()
        self.config, self.kind = config, config.kinds[number]
        self.up, self.down = nn.Linear(4, config.heads), nn.Linear(config.heads, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(getattr(torch, self.kind)(self.up(x)))


class Model(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.num_blocks = config, config.depth
        self.blocks = nn.ModuleList(Block(config, number) for number in range(config.depth))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks[: self.config.depth]:
            x = block(x)
        return x


class Foreign(Model):
    """Its constructor makes another model than the one there is."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.extra = nn.Linear(1, 1)


def test_the_depth_and_a_list_with_an_entry_per_block() -> None:
    model = randomised(Model(Config()))
    deeper = fxgrow.deepen(model, {"blocks": (1,)}, X)
    assert deeper.config.fields == {
        "config.depth": 4,
        "config.kinds": ["tanh", "relu", "relu", "tanh"],
    }
    config = deeper.module.config
    assert (config.depth, config.heads, config.tokens) == (4, 3, [7, 8, 9])
    assert deeper.module.num_blocks == 4
    assert all(block.config is config for block in deeper.module.blocks)
    assert model.config.depth == 3 and model.config.kinds == ["tanh", "relu", "tanh"]
    assert torch.equal(deeper.module(X), model(X))
    again = Model(config).double()
    again.load_state_dict(deeper.module.state_dict())
    assert torch.equal(again(X), model(X))


class Whole(nn.Module):
    """A model with a config inside one that has none."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = Model(Config()), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x))


def test_a_config_inside_a_model() -> None:
    model = randomised(Whole())
    deeper = fxgrow.deepen(model, {"inner.blocks": 1}, X)
    assert deeper.config.fields["inner.config.depth"] == 4
    assert torch.equal(deeper.module(X), model(X))


class Loose(Foreign):
    """Runs all the blocks that there are."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_a_config_that_does_not_describe_the_model_is_left_and_said_so() -> None:
    model = Loose(Config())
    del model.extra
    deeper = fxgrow.deepen(randomised(model), {"blocks": 1}, X)
    assert deeper.config.fields == {} and UNKNOWN_DEPTH in deeper.config.note
    assert deeper.module.config.depth == 3


def test_a_model_without_a_config_or_with_its_list_elsewhere() -> None:
    class Beside(Whole):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Sequential(Block(Config(), 0), Block(Config(), 0))
            for block in self.more:
                del block.config

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.more(self.inner(x)))

    deeper = fxgrow.deepen(randomised(Beside()), {"more": 1}, X)
    assert deeper.config is None and len(deeper.module.more) == 3
