"""Widening keeps the function: hypothesis-made networks in float64, to 1e-12, with randomised statistics."""

import copy
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.errors import ArgumentError, BudgetError, GrowthError, ModelError
from fxgrow.growth.widen import widen
from tests.random_networks import IMAGE, PLANS, network

VECTOR = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
HOW = pytest.mark.parametrize("how", ["split", "new"])


@HOW
@settings(deadline=None, max_examples=12)
@given(blocks=PLANS, seed=st.integers(0, 99))
def test_the_function_is_kept(how: Any, blocks: list[str], seed: int) -> None:
    model = network(blocks, seed).eval()
    coupling = couple(model, (IMAGE,))
    amounts = {
        width.name: 1 + seed % (2 * width.size) for width in coupling.widths if width.growable
    }
    refused = {width.refusal.code for width in coupling.widths if width.refusal}
    # gates in a row deal channels out so that a copy cannot stay beside its original: refused, not wrong
    assert refused <= ({"output", "order"} if "gate" in blocks else {"output"})
    wider = widen(model, amounts, (IMAGE,), how=how, seed=seed).module
    torch.testing.assert_close(wider(IMAGE), model(IMAGE), rtol=1e-12, atol=1e-12)
    sizes = {width.name: width.size for width in couple(wider, (IMAGE,)).widths}
    assert all(sizes[w.name] == w.size + amounts.get(w.name, 0) for w in coupling.widths)


def test_groups_across_a_concatenation_get_their_order_from_a_replay() -> None:
    """Two groups that cut through a concatenation unite all its channels; no local order fits them."""
    coupling = couple(network(["grouped", "dense", "grouped"], 0), (IMAGE,))
    assert coupling.replay
    assert {width.refusal.code for width in coupling.widths if width.refusal} == {"output"}


def pair() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))


def test_splits_are_spread_evenly_and_the_seed_decides_the_rest() -> None:
    first = widen(pair(), {"0": 6}, (VECTOR,), seed=1).index_maps["0.weight", 0]
    counts = torch.bincount(first.source)
    assert sorted(counts.tolist()) == [2, 2, 3, 3]
    assert torch.equal(
        first.source, widen(pair(), {"0": 6}, (VECTOR,), seed=1).index_maps["0.weight", 0].source
    )
    assert any(
        not torch.equal(
            first.source,
            widen(pair(), {"0": 6}, (VECTOR,), seed=n).index_maps["0.weight", 0].source,
        )
        for n in range(2, 6)
    )


def test_new_neurons_read_at_random_and_are_not_read() -> None:
    wider: Any = widen(pair(), {"0": 2}, (VECTOR,), how="new").module
    assert wider[0].weight[4:].unique().numel() == 12
    assert wider[2].weight[:, 4:].eq(0).all()


def test_a_copy_is_widened_and_has_the_same_class() -> None:
    model = pair()
    wider: Any = widen(model, {"0": 1}, (VECTOR,)).module
    assert model[0].out_features == 4
    assert (wider[0].out_features, wider[2].in_features, type(wider)) == (5, 5, nn.Sequential)


def test_in_place_keeps_the_parameter_objects() -> None:
    model = pair()
    before = [id(p) for p in model.parameters()]
    result = widen(model, {"0": 1}, (VECTOR,), inplace=True)
    assert result.module is model
    assert [id(p) for p in model.parameters()] == before


def test_a_captured_model_is_widened_with_its_graph() -> None:
    model = pair()
    captured = capture(model, (VECTOR,))
    expected = model(VECTOR)
    widen(captured, {"0": 3}, how="new", inplace=True)
    torch.testing.assert_close(captured.graph_module(VECTOR), expected)
    assert captured.graph_module.get_submodule("0") is model[0]


@HOW
def test_the_wider_model_trains(how: Any) -> None:
    wider = widen(
        network(["depthwise", "batch norm", "dense"], 0), {"0": 3}, (IMAGE,), how=how
    ).module.train()
    optimizer = torch.optim.SGD(wider.parameters(), lr=1e-3)
    wider(IMAGE).square().sum().backward()
    optimizer.step()
    assert all(p.grad is not None and p.isfinite().all() for p in wider.parameters())


WRONG: list[tuple[dict[str, int], str, str, type[Exception]]] = [
    ({}, "empty-budget", "adds no neuron", BudgetError),
    ({"0": 0}, "empty-budget", "adds no neuron", BudgetError),
    ({"0": -1}, "bad-argument", "give a whole number from 0", ArgumentError),
    ({"7": 1}, "unknown-width", "no width '7'; the model's widths are 0, 2", GrowthError),
    ({"2": 1}, "output", "width '2' cannot grow", GrowthError),
]


@pytest.mark.parametrize(("amounts", "code", "message", "kind"), WRONG)
def test_wrong_amounts(
    amounts: dict[str, int], code: str, message: str, kind: type[Exception]
) -> None:
    model = pair()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(kind, match=message) as caught:
        widen(model, amounts, (VECTOR,), inplace=True)
    assert caught.value.code == code  # type: ignore[attr-defined]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def chain(*sizes: int) -> Any:
    torch.manual_seed(0)
    layers = [nn.Linear(a, b) for a, b in zip((6, *sizes), (*sizes, 2), strict=True)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.Tanh())])


def sizes_of(model: Any) -> list[int]:
    return [layer.out_features for layer in model[::2]]


PATTERNS: list[tuple[dict[str, int], int | None, list[int]]] = [
    ({"*": 1}, None, [5, 6, 7, 2]),  # the output is refused, so the pattern does not stand for it
    ({"[02]": 2}, None, [6, 7, 6, 2]),
    ({"*": 1, "2": 4}, None, [5, 9, 7, 2]),  # who is named is not meant by the pattern
    ({"2": 4, "*": 1}, None, [5, 9, 7, 2]),
    ({"0": 1, "2": 4}, 8, [8, 16, 6, 2]),
    ({"*": 0}, 4, [4, 8, 8, 2]),
    ({"0": 1}, 1, [5, 5, 6, 2]),
]


@pytest.mark.parametrize(("amounts", "round_to", "expected"), PATTERNS)
def test_patterns_and_rounding(
    amounts: dict[str, int], round_to: int | None, expected: list[int]
) -> None:
    model = chain(4, 5, 6)
    wider = widen(model, amounts, (VECTOR,), round_to=round_to).module
    assert sizes_of(wider) == expected
    torch.testing.assert_close(wider(VECTOR), model(VECTOR))


MISSES: list[tuple[dict[str, int], int | None, str, str]] = [
    ({"*mlp*": 4}, None, "unknown-width", "no width '*mlp*'; the model's widths are 0, 2, 4, 6"),
    ({"[6-9]": 4}, None, "output", "width '[6-9]' cannot grow"),
    ({"0": 0}, 4, "empty-budget", "adds no neuron"),
    ({"0": 1}, 0, "bad-argument", "cannot use round_to=0; give a whole number from 1"),
]


@pytest.mark.parametrize(("amounts", "round_to", "code", "message"), MISSES)
def test_patterns_and_roundings_that_mean_nothing(
    amounts: dict[str, int], round_to: int | None, code: str, message: str
) -> None:
    with pytest.raises(
        (ArgumentError, BudgetError, GrowthError), match=re.escape(message)
    ) as caught:
        widen(chain(4, 5, 6), amounts, (VECTOR,), round_to=round_to)
    assert caught.value.code == code


class Named(nn.Module):
    """Takes its arguments by name, some of which may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
        y = self.b(self.a(x).relu()) * scale
        return y if mask is None else y * mask[:, None]


def test_inputs_by_name() -> None:
    model, mask = Named(), torch.tensor([1, 0])
    wider = widen(model, {"a": 3}, {"x": VECTOR, "mask": mask}).module
    torch.testing.assert_close(wider(VECTOR, mask=mask), model(VECTOR, mask=mask))
    with pytest.raises(ModelError, match="takes no positional argument 'y'"):
        widen(model, {"a": 3}, {"y": VECTOR})


class Full(nn.Module):
    """Runs when it has grown on the meta device only, where its config is sought."""

    class Config:
        size = 4

        def __init__(self, size: int = 4) -> None:
            self.size = size

        def to_dict(self) -> dict[str, int]:
            return {"size": self.size}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.a, self.b = nn.Linear(6, config.size), nn.Linear(config.size, 2)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_meta and self.a.out_features > 4:
            raise RuntimeError("no more than four")
        return self.b(self.a(x))


def test_a_failure_in_place_leaves_the_model_as_it_was() -> None:
    model = Full(Full.Config())
    model(VECTOR).sum().backward()
    before, objects = copy.deepcopy(model), [id(p) for p in model.parameters()]
    gradients = [p.grad.clone() for p in model.parameters()]
    with pytest.raises(GrowthError, match="no more than four"):
        widen(model, {"a": 3}, VECTOR, inplace=True)
    assert (model.a.out_features, model.b.in_features, model.config.size, model.training) == (
        4,
        4,
        4,
        True,
    )
    assert [id(p) for p in model.parameters()] == objects
    for now, then, gradient in zip(model.parameters(), before.parameters(), gradients, strict=True):
        assert torch.equal(now, then) and torch.equal(now.grad, gradient)
    torch.testing.assert_close(model(VECTOR), before(VECTOR))


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ArgumentError, match="how='clone'; give 'split' or 'new'"):
        widen(pair(), {"0": 1}, (VECTOR,), how="clone")  # type: ignore[arg-type]


@pytest.mark.parametrize("inplace", [False, True])
def test_the_optimizer_grows_along(inplace: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    inputs = torch.randn(8, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(inputs).square().mean().backward()
    optimizer.step()
    options: dict[str, Any] = {"optimizer": optimizer, "inplace": inplace, "how": "new"}
    wider = widen(model, {"0": 2}, inputs, state="own-age", **options)
    assert wider.optimizer is not None and (wider.optimizer is optimizer) == inplace
    weight = wider.module[0].weight
    assert wider.optimizer.state[weight]["exp_avg"].shape == weight.shape
    before = weight.detach().clone()
    # The first step of an entry that counts its own steps is as long as the rate.
    weight.grad = torch.ones_like(weight)
    wider.optimizer.step()
    decayed = before * (1 - 0.1 * 0.01)
    torch.testing.assert_close(decayed[3:] - weight[3:], torch.full((2, 4), 0.1))
    assert len(model[0].weight) == (5 if inplace else 3)


def test_an_optimizer_of_another_model_is_refused() -> None:
    model, other = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), nn.Linear(2, 2)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    with pytest.raises(GrowthError) as error:
        widen(model, {"0": 2}, torch.randn(8, 4), optimizer=optimizer, inplace=True)
    assert error.value.code == "foreign-optimizer" and len(model[0].weight) == 3
