"""Entries that count their own steps or learn at a rate of their own, under every optimizer."""

import copy
import io
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import ArgumentError, NewEntryRate
from fxgrow.copying import copy_with_optimizers
from fxgrow.surgery import Change, StateTreatment, axis_map, resize, restore_on_failure
from fxgrow.surgery.entrywise import ENTRYWISE

OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    "Adam": {"amsgrad": True, "weight_decay": 0.1},
    "AdamW": {"weight_decay": 0.1, "maximize": True},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adagrad": {"lr_decay": 0.3, "initial_accumulator_value": 0.2},
    "Rprop": {"lr": 0.3},
    "ASGD": {"lr": 0.1, "t0": 2},
}
FUSED = {"SGD", "Adam", "AdamW", "Adagrad"}
KINDS = [kind.__name__ for kind in ENTRYWISE]
WAYS = [
    *((kind, {"foreach": foreach}) for kind in KINDS for foreach in (False, True)),
    *((kind, {"fused": True}) for kind in KINDS if kind in FUSED),
]
OWN = StateTreatment("own-age")
ROWS, COLUMNS, NEW = 3, 4, 2


class Weight(nn.Module):
    """One matrix."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(value.clone())


def weight(rows: int = ROWS, seed: int = 0) -> Weight:
    generator = torch.Generator().manual_seed(seed)
    return Weight(torch.randn(rows, COLUMNS, generator=generator, dtype=torch.float64))


def make(kind: str, module: nn.Module, **options: Any) -> Any:
    return getattr(torch.optim, kind)(module.parameters(), **{**OPTIONS.get(kind, {}), **options})


def gradient(step: int, shape: torch.Size) -> Tensor:
    """The gradient of a step: of its first rows the same, however many there are."""
    generator = torch.Generator().manual_seed(100 + step)
    whole = torch.randn(9, COLUMNS, generator=generator, dtype=torch.float64)
    return whole[: shape[0], : shape[1]].clone()


def step(module: Any, optimizer: Any, number: int, rows: slice | None = None) -> None:
    shape = torch.Size((9, COLUMNS)) if rows else module.weight.shape
    module.weight.grad = gradient(number, shape)[rows or slice(None)]
    optimizer.step()


def add_rows(module: Any, optimizer: Any, treatment: StateTreatment, new: int = NEW) -> None:
    old = len(module.weight)
    neurons = np.arange(old)
    rows = axis_map(np.zeros_like(neurons), neurons, {0: Change((1,) * old, new)}, reads=False)
    resize(module, {("weight", 0): rows}, [optimizer], treatment)


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_old_entries_go_on_and_new_ones_are_a_new_optimizer_s(kind: str, way: Any) -> None:
    module = weight()
    optimizer = make(kind, module, **way)
    for number in range(4):
        step(module, optimizer, number)
    old, (old_optimizer,) = copy_with_optimizers(module, [optimizer])
    add_rows(module, optimizer, OWN)
    young = Weight(module.weight.data[ROWS:])
    young_optimizer = make(kind, young, **way)
    for number in range(4, 12):
        step(module, optimizer, number)
        step(old, old_optimizer, number)
        step(young, young_optimizer, number, slice(ROWS, ROWS + NEW))
        torch.testing.assert_close(module.weight[:ROWS], old.weight, rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(module.weight[ROWS:], young.weight, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("kind", ["AdamW", "NAdam", "Adagrad"])
def test_it_is_the_count_that_matters(kind: str) -> None:
    """The test above fails under plain padding."""
    steps = []
    for treatment in (OWN, StateTreatment("padded")):
        module = weight()
        optimizer = make(kind, module)
        for number in range(20):
            step(module, optimizer, number)
        add_rows(module, optimizer, treatment)
        step(module, optimizer, 20)
        steps.append(module.weight[ROWS:].abs().mean())
    assert abs(steps[0] - steps[1]) > 0.1 * steps[1]


def test_every_growth_has_its_own_count() -> None:
    module = weight()
    optimizer = make("NAdam", module)
    for number in range(3):
        step(module, optimizer, number)
    young, slices = [], (slice(ROWS, ROWS + 1), slice(ROWS + 1, ROWS + 3))
    for born, rows in enumerate(slices):
        add_rows(module, optimizer, OWN, rows.stop - rows.start)
        part = Weight(module.weight.data[rows])
        young.append((part, make("NAdam", part), rows))
        for number in range(3 + 2 * born, 5 + 2 * born):
            step(module, optimizer, number)
            for part, part_optimizer, part_rows in young:
                step(part, part_optimizer, number, part_rows)
    for part, _, rows in young:
        torch.testing.assert_close(module.weight[rows], part.weight, rtol=1e-13, atol=1e-14)


def test_copies_of_young_entries_are_as_young() -> None:
    module = weight()
    optimizer = make("Adam", module)
    for number in range(3):
        step(module, optimizer, number)
    add_rows(module, optimizer, OWN)
    step(module, optimizer, 3)
    neurons = np.arange(ROWS + NEW)
    twice = {0: Change((1, 1, 1, 1, 2))}
    rows = axis_map(np.zeros_like(neurons), neurons, twice, reads=False)
    resize(module, {("weight", 0): rows}, [optimizer], OWN)
    module.weight.grad = gradient(4, torch.Size((5, 4)))[[0, 1, 2, 3, 4, 4]]
    optimizer.step()
    # The copy's moments are halved, and its gradient is not: all the same for both.
    assert torch.equal(module.weight[4], module.weight[5])


def saved_and_loaded(module: Any, optimizer: Any, kind: str) -> tuple[Any, Any]:
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    other = Weight(module.weight.data)
    loaded = make(kind, other)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    return other, loaded


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [None, NewEntryRate(multiplier=3.0, half_life=2)])
def test_ages_are_saved_with_the_state(kind: str, rate: NewEntryRate | None) -> None:
    module = weight()
    optimizer = make(kind, module)
    for number in range(5):
        step(module, optimizer, number)
    add_rows(module, optimizer, StateTreatment("own-age", rate))
    step(module, optimizer, 5)
    other, loaded = saved_and_loaded(module, optimizer, kind)
    fxgrow.follow_ages(loaded)
    copied, (copied_optimizer,) = copy_with_optimizers(module, [optimizer])
    for number in range(6, 9):
        step(module, optimizer, number)
        step(other, loaded, number)
        step(copied, copied_optimizer, number)
    assert torch.equal(module.weight, copied.weight)  # type: ignore[arg-type]
    # Torch casts NAdam's products to the type of the parameter when it loads them.
    torch.testing.assert_close(module.weight, other.weight, rtol=1e-7, atol=1e-9)


def test_a_growth_attaches_what_was_saved() -> None:
    module = weight()
    optimizer = make("AdamW", module)
    step(module, optimizer, 0)
    add_rows(module, optimizer, OWN)
    other, loaded = saved_and_loaded(module, optimizer, "AdamW")
    for which in ((module, optimizer), (other, loaded)):
        add_rows(*which, StateTreatment("padded"), 1)
        step(*which, 1)
    assert torch.equal(module.weight, other.weight)


def test_what_is_of_age_is_let_go() -> None:
    module = weight()
    optimizer = make("Adam", module, betas=(0.5, 0.6))
    for number in range(100):
        step(module, optimizer, number)
    add_rows(module, optimizer, OWN)
    young = Weight(module.weight.data[ROWS:])
    young_optimizer = make("Adam", young, betas=(0.5, 0.6))
    plain = set(torch.optim.Adam(weight().parameters()).param_groups[0])
    for number in range(90):
        assert (set(optimizer.param_groups[0]) == plain) == (number > 70)
        step(module, optimizer, number)
        step(young, young_optimizer, number, slice(ROWS, ROWS + NEW))
    torch.testing.assert_close(module.weight[ROWS:], young.weight, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("state", ["padded", "own-age", "reset-grown"])
@pytest.mark.parametrize("kind", ["SGD", "AdamW", "Muon"])
@pytest.mark.parametrize("half_life", [None, 3.0])
def test_the_rate_is_of_new_entries_and_decays(
    kind: str, state: Any, half_life: float | None
) -> None:
    if kind == "Muon" and state == "own-age":
        pytest.skip("refused")
    module = weight()
    optimizer = make(kind, module)
    for number in range(3):
        step(module, optimizer, number)
    plain, (plain_optimizer,) = copy_with_optimizers(module, [optimizer])
    rate = NewEntryRate(multiplier=4.0, half_life=half_life)
    add_rows(module, optimizer, StateTreatment(state, rate))
    add_rows(plain, plain_optimizer, StateTreatment(state))
    for age in range(7):
        before = module.weight.detach().clone()
        plain.weight.data.copy_(before)  # one step of both from the same place
        step(module, optimizer, age)
        step(plain, plain_optimizer, age)
        factor = 1 + 3 * (1.0 if half_life is None else 0.5 ** (age / half_life))
        moved, expected = module.weight - before, plain.weight - before
        torch.testing.assert_close(moved[:ROWS], expected[:ROWS], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(moved[ROWS:], factor * expected[ROWS:], rtol=1e-9, atol=1e-12)


def test_a_rate_that_has_decayed_is_let_go() -> None:
    module = weight()
    optimizer = make("SGD", module)
    add_rows(module, optimizer, StateTreatment("padded", NewEntryRate(multiplier=2.0, half_life=1)))
    groups = []
    for number in range(60):
        step(module, optimizer, number)
        groups.append(len(optimizer.param_groups[0]))
    assert groups[0] == groups[-1] + 1


def test_parameters_without_a_gradient_do_not_age() -> None:
    module = weight()
    optimizer = make("AdamW", module)
    step(module, optimizer, 0)
    add_rows(module, optimizer, StateTreatment("own-age", NewEntryRate()))
    before = module.weight.detach().clone()
    other = copy.deepcopy(optimizer.state_dict())
    module.weight.grad = None
    optimizer.step()
    assert torch.equal(module.weight, before)
    assert str(optimizer.state_dict()) == str(other)


def test_a_step_that_a_gradient_scaler_skips_changes_nothing() -> None:
    module = weight()
    optimizer = make("AdamW", module, fused=True)
    step(module, optimizer, 0)
    add_rows(module, optimizer, OWN)
    step(module, optimizer, 1)
    reference, (reference_optimizer,) = copy_with_optimizers(module, [optimizer])
    before = module.weight.detach().clone()
    optimizer.found_inf, optimizer.grad_scale = torch.ones(()), torch.full((), 2.0)
    step(module, optimizer, 2)
    assert torch.equal(module.weight, before)
    optimizer.found_inf = torch.zeros(())
    module.weight.grad = 2 * gradient(3, module.weight.shape)
    optimizer.step()
    step(reference, reference_optimizer, 3)
    torch.testing.assert_close(module.weight, reference.weight, rtol=1e-13, atol=1e-14)


def test_state_that_somebody_dropped_begins_anew() -> None:
    module = weight()
    optimizer = make("AdamW", module)
    step(module, optimizer, 0)
    add_rows(module, optimizer, OWN)
    step(module, optimizer, 1)
    optimizer.state.clear()
    other = Weight(module.weight.data)
    fresh = make("AdamW", other)
    step(module, optimizer, 2)
    step(other, fresh, 2)
    assert torch.equal(module.weight, other.weight)


def test_a_failure_takes_hooks_and_ages_back() -> None:
    module = weight()
    optimizer = make("AdamW", module)
    step(module, optimizer, 0)
    before = str(optimizer.state_dict())

    def fail() -> None:
        add_rows(module, optimizer, OWN)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), restore_on_failure(module, [optimizer]):
        fail()
    assert str(optimizer.state_dict()) == before
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize(
    "values", [{"multiplier": 0}, {"multiplier": float("inf")}, {"half_life": 0}]
)
def test_rates_out_of_range(values: Any) -> None:
    with pytest.raises(ArgumentError) as error:
        NewEntryRate(**values)
    assert error.value.code == "bad-setting"


@pytest.mark.parametrize("state", ["reset", "reset-grown"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_ends_all_counts(kind: str, state: Any) -> None:
    module = weight()
    optimizer = make(kind, module)
    step(module, optimizer, 0)
    add_rows(module, optimizer, OWN)
    step(module, optimizer, 1)
    add_rows(module, optimizer, StateTreatment(state), 1)
    other = Weight(module.weight.data)
    fresh = make(kind, other)
    for number in range(2, 5):
        step(module, optimizer, number)
        step(other, fresh, number)
    assert torch.equal(module.weight, other.weight)


def test_a_reset_ends_the_counts_of_what_does_not_grow_too() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (nn.Parameter(weight(seed=seed).weight.detach()) for seed in (1, 2))

    def both(module: Two, optimizer: Any, number: int) -> None:
        for parameter in module.parameters():
            parameter.grad = gradient(number, parameter.shape)
        optimizer.step()

    def add(module: Two, name: str, treatment: StateTreatment) -> None:
        neurons = np.arange(len(getattr(module, name)))
        change = {0: Change((1,) * len(neurons), 1)}
        rows = axis_map(np.zeros_like(neurons), neurons, change, reads=False)
        resize(module, {(name, 0): rows}, [optimizer], treatment)

    module = Two()
    optimizer = make("Adagrad", module)
    both(module, optimizer, 0)
    add(module, "b", OWN)
    both(module, optimizer, 1)
    add(module, "a", StateTreatment("reset"))
    other = copy.deepcopy(module)
    fresh = make("Adagrad", other)
    for number in range(2, 5):
        both(module, optimizer, number)
        both(other, fresh, number)
    assert torch.equal(module.a, other.a) and torch.equal(module.b, other.b)


@pytest.mark.parametrize("treatment", [OWN, StateTreatment("padded", NewEntryRate())])
def test_memory_formats_do_not_matter(treatment: StateTreatment) -> None:
    value = weight().weight.detach().reshape(3, 2, 2, 1)
    modules = [Weight(value), Weight(value.to(memory_format=torch.channels_last))]
    optimizers = [make("AdamW", module) for module in modules]
    for module, optimizer in zip(modules, optimizers, strict=True):
        for number in range(5):
            module.weight.grad = gradient(number, torch.Size((3, 4))).reshape(3, 2, 2, 1)
            optimizer.step()
        add_rows(module, optimizer, treatment)
        for number in range(5):
            module.weight.grad = gradient(number, torch.Size((5, 4))).reshape(5, 2, 2, 1)
            optimizer.step()
    assert not modules[1].weight.is_contiguous()
    torch.testing.assert_close(modules[0].weight, modules[1].weight)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("kind", ["Adam", "NAdam"])
def test_capturable_optimizers_count_in_tensors_that_stay(
    kind: str, foreach: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch allows them on accelerators only; a captured graph works on the tensors that it saw."""
    home = sys.modules[getattr(torch.optim, kind).__module__]
    monkeypatch.setattr(home, "_get_capturable_supported_devices", lambda *_, **__: ["cpu"])
    module, options = weight(), {"foreach": foreach, "capturable": True}
    optimizer = make(kind, module, **options)
    for number in range(3):
        step(module, optimizer, number)
    add_rows(module, optimizer, StateTreatment("own-age", NewEntryRate(multiplier=1.0)))
    young = Weight(module.weight.data[ROWS:])
    young_optimizer = make(kind, young, **options)
    counts = []
    for number in range(3, 8):
        step(module, optimizer, number)
        step(young, young_optimizer, number, slice(ROWS, ROWS + NEW))
        (cohort,) = optimizer.param_groups[0]["grown_entries"][0]
        counts.append((cohort["age"], cohort["own"]["scalars"]["step"]))
    torch.testing.assert_close(module.weight[ROWS:], young.weight, rtol=1e-13, atol=1e-14)
    assert all(age is counts[0][0] and count is counts[0][1] for age, count in counts)
    assert float(counts[0][0]) == float(counts[0][1]) == 5
