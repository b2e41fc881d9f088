"""Configs in the style of Hugging Face, without transformers (the real ones: tests/growth/test_widen_hf.py)."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow.growth.widen import widen
from fxgrow.surgery.config import ConfigUpdate, parameter_shapes, update_config
from fxgrow.surgery.config_search import build_from_config, config_leaves, plausible_values

X = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))


class Config:
    """Some sizes, directly, in a list, in a sub-config, as a ratio, as a gap that stands for a default."""

    def __init__(self, **fields: Any) -> None:
        self.head_size, self.heads, self.sizes, self.ratio, self.last = 2, 2, [4, 7], 2.0, None
        self.names = {"cat": 0, "dog": 1, "cow": 2}
        self._private = 4
        vars(self).update(fields)

    def to_dict(self) -> dict[str, Any]:
        return copy.deepcopy(vars(self))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Config":
        return cls(**fields)


class Pooled(nn.Module):
    """The head count is seen in the values only: the largest of the heads' sums is what each head is divided by."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.head_size = config.head_size
        self.a = nn.Linear(6, config.heads * config.head_size)
        self.b = nn.Linear(config.heads * config.head_size, 6)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.a(x).unflatten(-1, (-1, self.head_size))
        return self.b(heads.softmax(-1).flatten(-2))


class Stages(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        one, two = config.sizes
        self.scale = two * 10
        self.a, self.b = nn.Linear(6, one), nn.Linear(one, two)
        self.c = nn.Linear(two, int(6 * config.ratio))
        self.d = nn.Linear(int(6 * config.ratio), config.last or 9)
        self.e = nn.Linear(config.last or 9, 6)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.a, self.b, self.c, self.d):
            x = layer(x).tanh()
        return self.e(x)


class Wrapper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 6))
        self.inner = Stages(Config())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.first(x))


def made(kind: Any, **fields: Any) -> Any:
    torch.manual_seed(0)
    return kind(Config(**fields))


def test_more_heads_are_not_larger_heads() -> None:
    """Both give the same shapes; only one computes the same."""
    model = made(Pooled)
    result = widen(model, {"a": 2}, X, inplace=True)
    assert result.config == ConfigUpdate({"config.heads": 4})
    assert (model.config.heads, model.config.head_size, model.head_size) == (4, 2, 2)


AMOUNTS: list[tuple[str, int, dict[str, Any]]] = [
    ("a", 3, {"config.sizes.0": 7}),
    ("b", 1, {"config.sizes.1": 8}),
    ("c", 3, {"config.ratio": 2.5}),
    ("d", 2, {"config.last": 11}),
]


@pytest.mark.parametrize(("width", "k", "fields"), AMOUNTS)
def test_each_kind_of_field(width: str, k: int, fields: dict[str, Any]) -> None:
    model = made(Stages)
    result = widen(model, {width: k}, X, inplace=True)
    assert result.config == ConfigUpdate(fields)
    again = Stages(Config.from_dict(model.config.to_dict()))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(X), model(X))


def test_a_config_that_could_not_be_read_again_is_left_alone() -> None:
    class Even(Config):
        @classmethod
        def from_dict(cls, fields: dict[str, Any]) -> "Config":
            if fields["sizes"][0] % 2:
                raise ValueError("odd")
            return cls(**fields)

    torch.manual_seed(0)
    result = widen(Stages(Even()), {"a": 3}, X)
    assert result.config is not None and not result.config.fields
    assert widen(Stages(Even()), {"a": 2}, X).config == ConfigUpdate({"config.sizes.0": 6})


def test_several_fields_at_once_and_attributes_that_follow_them() -> None:
    model = made(Stages)
    result = widen(model, {"a": 3, "b": 2, "d": 1}, X)
    assert result.config is not None
    assert result.config.fields == {"config.sizes.0": 7, "config.sizes.1": 9, "config.last": 10}
    wider: Any = result.module
    assert (wider.scale, wider.config.sizes) == (90, [7, 9])
    assert (model.scale, model.config.sizes, model.config.last) == (70, [4, 7], None)


def test_a_config_that_others_hold_too_is_not_changed() -> None:
    config = Config()
    model, other = Stages(config), Stages(config)
    widen(model, {"a": 3}, X, inplace=True)
    assert (other.config.sizes, model.config.sizes) == ([4, 7], [7, 7])


def test_a_part_of_the_model_has_the_config() -> None:
    torch.manual_seed(0)
    model = Wrapper()
    expected = model(X)
    result = widen(model, {"inner.b": 2}, X, inplace=True)
    assert result.config == ConfigUpdate({"inner.config.sizes.1": 9})
    assert model.inner.config.sizes == [4, 9]
    torch.testing.assert_close(model(X), expected)


def test_what_a_config_does_not_describe_leaves_it_alone() -> None:
    torch.manual_seed(0)
    model = Wrapper()
    assert widen(model, {"first.0": 2}, X, inplace=True).config is None

    class Uneven(Stages):
        def __init__(self, config: Config) -> None:
            super().__init__(config)
            self.d, self.e = (
                nn.Linear(self.c.out_features, config.sizes[0]),
                nn.Linear(config.sizes[0], 6),
            )

    uneven = made(Uneven)
    result = widen(uneven, {"a": 2}, X, inplace=True)  # d has the same field and has not grown
    assert result.config is not None and not result.config.fields
    assert "unchanged: no values of its fields" in result.config.note
    assert uneven.config.sizes == [4, 7]


def test_a_model_that_was_changed_by_hand_is_not_described() -> None:
    model = made(Stages)
    model.e = nn.Linear(9, 5)
    result = widen(model, {"a": 2}, X)
    assert result.config is not None
    assert "before it grew" in result.config.note


def test_a_grown_buffer_that_is_not_saved() -> None:
    class Table(Stages):
        def __init__(self, config: Config) -> None:
            super().__init__(config)
            self.register_buffer("table", torch.ones(config.sizes[0]) * 2, persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.b(self.a(x) * self.table).sum() * 0

    model = made(Table)
    result = widen(model, {"a": 2}, X, inplace=True)
    assert result.config is not None
    assert "not saved" in result.config.note
    assert model.config.sizes == [4, 7]


def test_no_config_no_update_and_the_mode_is_kept() -> None:
    model: Any = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    assert widen(model, {"0": 2}, X).config is None
    train = made(Stages).train()
    train.a.eval()
    widen(train, {"b": 2}, X, inplace=True)
    assert (train.training, train.a.training) == (True, False)


def test_nothing_has_grown() -> None:
    model = made(Stages)
    assert update_config(model, parameter_shapes(model), [], (X,)) is None


def test_leaves_are_numbers_and_gaps_but_neither_labels_nor_private_ones() -> None:
    config = Config(inner=Config(sizes=()), flag=True)
    found = dict(config_leaves(config))
    assert found[("sizes", 1)] == 7
    assert found[("inner", "heads")] == 2
    assert found[("last",)] is None
    assert not any({"names", "_private", "flag"} & set(path) for path in found)


@pytest.mark.parametrize(
    ("old", "values"),
    [
        (12, [18]),
        (4, [6]),
        (24, [36]),
        (8, []),
        (5, []),
        (None, [18]),
        (3.0, [4.5]),
        (0.1, []),
        (float("inf"), []),
    ],
)
def test_plausible_values(old: Any, values: list[float]) -> None:
    assert plausible_values(old, frozenset({(12, 18)}), frozenset({4, 12})) == values


def test_building_leaves_the_config_and_the_random_numbers_alone() -> None:
    config = Config()
    before = torch.get_rng_state()
    model = build_from_config(Stages, config, {("sizes", 0): 9})
    assert model is not None and parameter_shapes(model)["a.weight"] == (9, 6)
    assert config.sizes == [4, 7]
    assert torch.equal(torch.get_rng_state(), before)
    assert build_from_config(Stages, config, {("sizes", 0): -9}) is None
