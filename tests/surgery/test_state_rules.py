"""The rules for an optimizer's state, against steps that are written out, in float64."""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import ArgumentError, Firefly, GrowthError
from fxgrow.surgery import (
    DEFAULT_STATE,
    SCARCE,
    STATE_NAMES,
    STATE_RULES,
    Change,
    IndexMap,
    StateRuleName,
    StateTreatment,
    apply_maps,
    axis_map,
    reshape_along,
    resize,
)

INPUTS = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.randn(8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
STATES = list(STATE_RULES)
LR, BETAS, EPS, DECAY, MOMENTUM = 0.01, (0.9, 0.99), 1e-8, 0.1, 0.8
STEPS_BEFORE, STEPS_AFTER = 7, 6
SPLIT, NEW = 1, 2
"""The first writer's neuron 1 occurs twice afterwards, and two new ones follow."""

Maps = dict[tuple[str, int], IndexMap]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)
    return nn.Sequential(*layers).double()


def maps(times: tuple[int, ...] = (1, 2, 1), new: int = NEW) -> Maps:
    """The hidden width grows: the first layer writes it, the last one reads it."""
    neurons = np.arange(3)
    change = {0: Change(times, new)}
    written = axis_map(np.zeros_like(neurons), neurons, change, reads=False)
    read = axis_map(np.zeros_like(neurons), neurons, change, reads=True)
    return {("0.weight", 0): written, ("0.bias", 0): written, ("2.weight", 1): read}


@dataclass
class Entries:
    """A parameter and what an optimizer keeps of every entry, each with a count of its own."""

    value: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor

    @staticmethod
    def of(value: Tensor) -> "Entries":
        return Entries(value.detach().clone(), *(torch.zeros_like(value) for _ in range(3)))


def adam(entries: Entries, gradient: Tensor) -> None:
    moments(entries, gradient + DECAY * entries.value)


def adamw(entries: Entries, gradient: Tensor) -> None:
    entries.value *= 1 - LR * DECAY
    moments(entries, gradient)


def moments(entries: Entries, gradient: Tensor) -> None:
    entries.steps += 1
    entries.first = BETAS[0] * entries.first + (1 - BETAS[0]) * gradient
    entries.second = BETAS[1] * entries.second + (1 - BETAS[1]) * gradient**2
    mean = entries.first / (1 - BETAS[0] ** entries.steps)
    square = entries.second / (1 - BETAS[1] ** entries.steps)
    entries.value -= LR * mean / (square.sqrt() + EPS)


def sgd(entries: Entries, gradient: Tensor) -> None:
    entries.first = MOMENTUM * entries.first + gradient + DECAY * entries.value
    entries.value -= LR * entries.first


WRITTEN_OUT = {
    "Adam": (adam, {"betas": BETAS, "eps": EPS}),
    "AdamW": (adamw, {"betas": BETAS, "eps": EPS}),
    "SGD": (sgd, {"momentum": MOMENTUM}),
}


def grown_entries(
    entries: Entries, axes: dict[int, IndexMap], state: str, value: Tensor
) -> Entries:
    """What a rule says that entries are after growth; ``value``: of the grown parameter."""
    if state == "reset" or (axes and state == "reset-grown"):
        return Entries.of(value)
    first, second, steps = (
        apply_maps(kept, axes, scaled=False)
        for kept in (entries.first, entries.second, entries.steps)
    )
    is_new = apply_maps(torch.ones_like(entries.value), axes, scaled=False) == 0
    if state != "own-age":  # new entries are under the old count
        steps = steps.masked_fill(is_new, float(entries.steps.max()))
    if state in ("own-age", "scaled") and 0 in axes:
        halves = torch.ones_like(value)
        halves[SPLIT : SPLIT + 2] = 0.5
        first, second = first * halves, second * halves**2
    return Entries(value.detach().clone(), first, second, steps)


def random_gradients(model: nn.Module, generator: torch.Generator) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", WRITTEN_OUT)
def test_the_steps_after_growth_are_those_written_out(kind: str, state: Any) -> None:
    model, generator = network(), torch.Generator().manual_seed(1)
    reference, options = WRITTEN_OUT[kind]
    make = getattr(torch.optim, kind)
    optimizer = make(model.parameters(), lr=LR, weight_decay=DECAY, **options)
    entries = {name: Entries.of(parameter) for name, parameter in model.named_parameters()}

    def step() -> None:
        random_gradients(model, generator)
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            reference(entries[name], parameter.grad)
        optimizer.step()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.data, entries[name].value, rtol=1e-11, atol=1e-13)

    for _ in range(STEPS_BEFORE):
        step()
    by_key = maps()
    resize(model, by_key, [optimizer], StateTreatment(state))
    for name, parameter in model.named_parameters():
        axes = {axis: index_map for (key, axis), index_map in by_key.items() if key == name}
        entries[name] = grown_entries(entries[name], axes, state, parameter)
    for _ in range(STEPS_AFTER):
        step()


def test_gradients_of_copies_are_what_scaled_takes_them_for() -> None:
    """Half as large where a copy is written, the same where it is read."""
    model, split = network(), network()
    resize(split, maps((1, 2, 1), 0))
    for which in (model, split):
        nn.functional.mse_loss(which(INPUTS), TARGETS).backward()
    before, after = ([p.grad for p in which.parameters()] for which in (model, split))
    for old, new in zip(before[:2], after[:2], strict=True):
        assert old is not None and new is not None
        halves = old[[0, 1, 1, 2]] * reshape_along(torch.tensor([1, 0.5, 0.5, 1]), 0, old.dim())
        torch.testing.assert_close(new, halves)
    assert before[2] is not None
    torch.testing.assert_close(after[2], before[2][:, [0, 1, 1, 2]])


def test_the_table_and_the_names_agree() -> None:
    assert set(get_args(StateRuleName)) == {"auto", *STATE_RULES}
    assert STATE_NAMES[0] == DEFAULT_STATE == "auto"


@pytest.mark.parametrize(
    ("neurons", "state"), [(1, "padded"), (SCARCE, "padded"), (SCARCE + 1, "reset-grown")]
)
def test_the_number_of_neurons_picks_a_rule(neurons: int, state: StateRuleName) -> None:
    rate = fxgrow.NewEntryRate(multiplier=2.0)
    picked = StateTreatment("auto", rate).picked(neurons)
    assert picked == StateTreatment(state, rate)
    for named in STATE_RULES:
        assert StateTreatment(named).picked(neurons).state == named


@pytest.mark.parametrize("width", [SCARCE - 2, SCARCE - 1])
def test_moments_go_on_where_few_neurons_grow(width: int) -> None:
    """Two are added: 64 are few, 65 are not. What does not grow goes on in any case."""
    torch.manual_seed(0)
    layers = nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 2)
    model = nn.Sequential(*layers).double()
    optimizer = torch.optim.Adam(model.parameters(), LR)
    nn.functional.mse_loss(model(INPUTS), TARGETS).backward()
    optimizer.step()
    wider = fxgrow.widen(model, {"0": 2}, INPUTS, "new", optimizer=optimizer)
    assert wider.optimizer is not None
    moments = wider.optimizer.state[wider.module[0].weight]
    if width + 2 > SCARCE:
        assert not moments
    else:
        assert torch.equal(moments["exp_avg"][:-2], optimizer.state[model[0].weight]["exp_avg"])
    kept = wider.optimizer.state[wider.module[2].bias]["exp_avg"]
    assert torch.equal(kept, optimizer.state[model[2].bias]["exp_avg"])


def grow(model: nn.Module, optimizer: Any, **options: Any) -> fxgrow.Growth:
    return fxgrow.grow(
        model,
        [(INPUTS, TARGETS)],
        nn.functional.mse_loss,
        optimizer=optimizer,
        method=Firefly(new=2, steps=1, refine_steps=1),
        budget=fxgrow.Budget(neurons=2),
        **options,
    )


def trained(kind: Any, **options: Any) -> tuple[nn.Module, Any]:
    model = network()
    optimizer = kind(model.parameters(), **options)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(INPUTS), TARGETS)
        loss.backward()
        return loss

    optimizer.step(closure)
    return model, optimizer


@pytest.mark.parametrize("state", STATES)
def test_grow_takes_the_rule(state: Any) -> None:
    model, optimizer = trained(torch.optim.AdamW)
    bias = model[2].bias
    growth = grow(model, optimizer, state=state, inplace=True)
    assert (bias in optimizer.state) == (state != "reset")
    assert (model[0].weight in optimizer.state) == (not state.startswith("reset"))
    assert growth.module[0].out_features > 3


@pytest.mark.parametrize("kind", ["Adafactor", "LBFGS", "Muon", "SparseAdam"])
@pytest.mark.parametrize("state", ["own-age", "scaled"])
def test_optimizers_that_cannot_follow_are_refused(kind: str, state: Any) -> None:
    model = network()
    parameters = [p for p in model.parameters() if p.dim() == 2]
    optimizer = getattr(torch.optim, kind)(parameters)
    with pytest.raises(GrowthError, match=f"the {kind} is not known to") as error:
        grow(model, optimizer, state=state)
    assert error.value.code == "state-rule"


class Mixing(torch.optim.SGD):
    """A step of its own, of which nothing is known."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class Renamed(torch.optim.AdamW):
    """The step of its base."""


def test_a_subclass_is_served_if_its_step_is_the_base_class_s() -> None:
    model = network()
    grow(model, Renamed(model.parameters()), state="own-age")
    with pytest.raises(GrowthError, match="Mixing is not known to treat"):
        grow(model, Mixing(model.parameters(), lr=0.1), state="own-age")


@pytest.mark.parametrize("state", ["reset-grown", "reset"])
def test_lbfgs_with_a_history_cannot_be_reset_either(state: Any) -> None:
    """It remembers how many numbers its history is of."""
    model, optimizer = trained(torch.optim.LBFGS)
    with pytest.raises(GrowthError) as error:
        grow(model, optimizer, state=state)
    assert error.value.code == "optimizer-state"


class Blocks(torch.optim.SGD):
    """Keeps a matrix of its own shape per parameter."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter].setdefault("matrix", torch.eye(parameter.shape[0]))
        return super().step(closure)


def test_what_cannot_follow_a_shape_can_be_reset() -> None:
    model, optimizer = trained(Blocks, lr=0.1)
    with pytest.raises(GrowthError, match="matrix"):
        grow(model, optimizer)
    growth = grow(model, optimizer, state="reset-grown")
    assert growth.optimizer is not None
    growth.optimizer.step()
    assert len(growth.optimizer.state[growth.module[0].weight]["matrix"]) > 3


def test_a_name_that_is_none() -> None:
    model = network()
    with pytest.raises(ArgumentError, match="own-age"):
        grow(model, torch.optim.Adam(model.parameters()), state="old-age")
    with pytest.raises(GrowthError, match="say one of 'auto', 'padded'") as error:
        StateTreatment("old-age").rule  # type: ignore[arg-type]  # noqa: B018
    assert error.value.code == "unknown-state"
