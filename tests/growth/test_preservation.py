"""Widen compares what it gives with what it got, and takes a difference back."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import fxgrow
from fxgrow.errors import GrowthError
from fxgrow.growth import Scope
from fxgrow.growth.emit import emit as right_emit
from fxgrow.growth.invariants import relative_error, require_close, rounding_tolerance
from fxgrow.growth.rounding import amplified_rounding
from fxgrow.growth.widen import widen
from fxgrow.training import EveryEpochs, Grower

# In so many numbers some digit is rounded in another way, whatever kernels a processor runs.
X = torch.randn(256, 5, generator=torch.Generator().manual_seed(0), dtype=torch.double)
# New neurons without outgoing weights may leave every digit as it is.
SPLITS = fxgrow.Firefly(new=2, steps=2)
INFINITY = float("inf")


class Net(nn.Module):
    """Three layers; the second hidden one is read as it is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(4, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.between(torch.tanh(self.a(x)))).tanh())

    def between(self, h: Tensor) -> Tensor:
        return h


class ScaledByLength(Net):
    """Coupling runs without values, and cannot know what is done to them."""

    def between(self, h: Tensor) -> Tensor:
        return h if h.is_meta else h / torch.ones(self.a.out_features).sum() ** 0.5


class BreaksWhenWide(Net):
    def between(self, h: Tensor) -> Tensor:
        if not h.is_meta and torch.ones(self.a.out_features).sum() > 6:
            raise ValueError("too wide")
        return h


class NoiseOnTheWidth(Net):
    def between(self, h: Tensor) -> Tensor:
        return h + 0.1 * torch.randn_like(h)


class NoiseAndScale(Net):
    def between(self, h: Tensor) -> Tensor:
        noisy = h + 1e-4 * torch.randn_like(h)
        return noisy if h.is_meta else noisy / torch.ones(self.a.out_features).sum() ** 2


class NoiseBehind(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y + 0.1 * torch.randn_like(y)


class Chooses(Net):
    """Its output hangs on the last digits of a float."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.remainder(super().forward(x) * 1e7, 1.0)


class Amplifies(Net):
    """Every step of a logistic map doubles a difference."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(super().forward(x))
        for _ in range(20):
            y = 4 * y * (1 - y)
        return y


class AmplifiesBehindPadding(Amplifies):
    """Max pooling of some cells pads with minus infinity, whose digits nothing takes away."""

    def between(self, h: Tensor) -> Tensor:
        padded = nn.functional.pad(h, (1, 1), value=-torch.inf)
        return nn.functional.max_pool1d(padded, 3, 1)


class AmplifiesMore(Net):
    """All digits of float32 are lost after 30 doublings, all of float64 after 60."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(super().forward(x))
        for _ in range(self.steps):
            y = 4 * y * (1 - y)
        return y


class AmplifiesAndScales(Amplifies):
    """Wrong by little, which is amplified, too, to more than rounding is."""

    def between(self, h: Tensor) -> Tensor:
        if h.is_meta:
            return h
        return h * (1 + 1e-11 * torch.ones(self.a.out_features, dtype=h.dtype).sum())


class Counts(Net):
    """Computes something else at every call, from a buffer that it writes into."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1, dtype=torch.double))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return super().forward(x) * self.calls


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("kind", [ScaledByLength, BreaksWhenWide, NoiseAndScale])
def test_a_broken_promise_is_taken_back(kind: type[Net], inplace: bool, how: Any) -> None:
    model = kind()
    before, objects = copy.deepcopy(model.state_dict()), [id(p) for p in model.parameters()]
    with pytest.raises(GrowthError, match=f"{kind.__name__} .* more neurons in 'a': ") as caught:
        widen(model, {"a": 3, "b": 2}, X, how=how, inplace=inplace)
    assert caught.value.code == "broken-promise"
    assert "leave them out and widen others ('b')" in str(caught.value)
    assert (model.a.out_features, model.b.out_features, model.training) == (6, 4, True)
    assert [id(p) for p in model.parameters()] == objects
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_other_width_of_such_a_model_grows() -> None:
    wider = widen(ScaledByLength(), {"b": 2}, X)
    assert wider.module.get_parameter("c.weight").shape == (3, 6)
    assert wider.preservation_error is not None and wider.preservation_error < 1e-14


UNCHECKED: list[tuple[nn.Module, Tensor, str]] = [
    (NoiseOnTheWidth(), X, "its output is random"),
    (Chooses().float(), X.float(), "it amplifies rounding"),
    (Amplifies(), X, "it amplifies rounding"),
    (Net().to("meta"), X, "shapes but no values"),
    (Net(), X.to("meta"), "shapes but no values"),
]


@pytest.mark.parametrize(("model", "x", "reason"), UNCHECKED)
def test_what_cannot_be_compared_is_widened_and_says_so(
    model: nn.Module, x: Tensor, reason: str
) -> None:
    wider = widen(model, {"a": 3}, x)
    assert wider.module.get_parameter("a.weight").shape == (9, 5)
    assert wider.preservation_error is None
    assert reason in wider.unchecked


@pytest.mark.parametrize("kind", [NoiseBehind, Counts])
def test_random_numbers_and_state_are_the_same_in_both_runs(kind: type[Net]) -> None:
    model = kind()
    wider = widen(model, {"a": 3}, X)
    assert wider.preservation_error is not None and wider.preservation_error < 1e-14
    assert not wider.unchecked
    assert all(buffer.eq(0).all() for buffer in (*model.buffers(), *wider.module.buffers()))


def test_the_model_cannot_write_into_the_example_inputs() -> None:
    class WritesInput(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2))

    x = X.clone()
    widen(WritesInput(), {"a": 1}, x)
    assert torch.equal(x, X)


def test_equal_infinities_are_no_difference() -> None:
    masked = torch.tensor([1.0, -INFINITY, float("nan")])
    assert require_close("equal", masked, masked.clone()) == 0
    assert relative_error(torch.tensor([1.1, -INFINITY]), masked[:2]) == pytest.approx(0.1)
    with pytest.raises(GrowthError, match="off by nan"):
        require_close("equal", torch.tensor([1.0, INFINITY, 0.0]), masked)


def test_complex_outputs_count() -> None:
    expected = torch.tensor([3 + 4j])
    assert relative_error(torch.tensor([3 + 3j]), expected) == pytest.approx(0.2)


def test_a_growth_whose_model_does_not_run_is_one_sentence() -> None:
    model = BreaksWhenWide()
    before = copy.deepcopy(model.state_dict())
    batches = [(X, torch.zeros(len(X), 3, dtype=X.dtype))]
    with pytest.raises(GrowthError, match=r"does not run .too wide.") as caught:
        fxgrow.grow(model, batches, nn.functional.mse_loss, inplace=True, only=["a"])
    assert caught.value.code == "broken-promise"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def amplifying(dtype: torch.dtype) -> tuple[nn.Module, Tensor, list[tuple[Tensor, Tensor]]]:
    """A model that amplifies rounding, its input, and a growth batch."""
    model, x = Amplifies().to(dtype), X.to(dtype)
    return model, x, [(x, torch.zeros_like(x[:, :3]))]


def test_grow_excuses_what_widen_excuses() -> None:
    model, x, batches = amplifying(torch.float64)
    widened = widen(model, {"a": 3, "b": 2}, x)
    growth = fxgrow.grow(
        model, batches, nn.functional.mse_loss, only=["a"], method=SPLITS, accept_no_gain=True
    )
    assert growth.report.unchecked == widened.unchecked
    assert "it amplifies rounding" in widened.unchecked
    report = growth.report
    # Which of the two checks meets amplified digits depends on the kernels of the processor.
    assert max(report.preservation_error, report.faithful_error) > rounding_tolerance(x)


def test_rounding_is_told_of_a_model_that_runs_in_its_own_dtype_alone() -> None:
    """LeViT keeps a cache of tensors that ``module.float()`` does not see."""

    class KeepsATensor(Amplifies):
        kept = {"bias": torch.zeros(1, dtype=torch.double)}  # noqa: RUF012

        def between(self, h: Tensor) -> Tensor:
            return h + self.kept["bias"]

    with pytest.raises(RuntimeError, match="dtype"):
        KeepsATensor().float()(X.float())
    assert "it amplifies rounding" in widen(KeepsATensor(), {"a": 3, "b": 2}, X).unchecked


def test_infinity_keeps_its_digits() -> None:
    """Of a model with it, rounding was not a number, and excused nothing."""
    model = AmplifiesBehindPadding()
    allowed = amplified_rounding(model, (X,))
    assert rounding_tolerance(X) < allowed < 1e-3


def test_digits_that_cancel_inside_a_sum_are_counted() -> None:
    """No operator gives a large number here, and yet the digits of float32 are lost in one."""

    class Cancels(Net):
        def between(self, h: Tensor) -> Tensor:
            weight = torch.tensor([1e4, -1e4, 1.0], dtype=h.dtype).repeat_interleave(6)
            every = torch.cat([h, h, h], 1) * weight.sign()
            mixed = torch.eye(6, dtype=h.dtype).repeat(1, 3) * weight.abs()
            return every @ (mixed + 0.3 * weight.abs()).t()

    assert amplified_rounding(Cancels(), (X,)) > 10 * amplified_rounding(Net(), (X,))


@pytest.mark.parametrize("new", [2, 8])
def test_what_is_amplified_beside_the_graph_is_excused_by_itself(new: int) -> None:
    """More than at eps = 0, or where that has no error at all."""
    model, _, batches = amplifying(torch.float64)
    growth = fxgrow.grow(
        model, batches, nn.functional.mse_loss, only=["a"], accept_no_gain=True,
        method=fxgrow.Firefly(new=new, steps=2), budget=fxgrow.Budget(neurons=new),
    )  # fmt: skip
    # What is left of float64 depends on the kernels of the processor: 1e-9 to 1e-6 were seen.
    assert growth.report.faithful_error < 1e-5
    assert "it amplifies" in growth.report.unchecked


def test_a_wrong_emission_is_not_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, batches = amplifying(torch.float64)

    def slightly_wrong(module: nn.Module, *args: Any, **options: Any) -> Any:
        maps = right_emit(module, *args, **options)
        with torch.no_grad():
            module.get_parameter("c.bias").mul_(1 + 1e-9)
        return maps

    monkeypatch.setattr("fxgrow.growth.verify.emit", slightly_wrong)
    with pytest.raises(GrowthError, match="not f"):
        fxgrow.grow(
            model, batches, nn.functional.mse_loss, only=["a"], method=SPLITS, accept_no_gain=True
        )


def test_grow_excuses_nothing_where_all_digits_are_lost() -> None:
    """Else a wrong emission would go unseen; ``widen``, which emits no updates, may excuse it.

    What grew is rounded to float32 once, and that is amplified in float64, too.
    """
    model, x, batches = amplifying(torch.float32)
    assert "it amplifies rounding" in widen(model, {"a": 3, "b": 2}, x).unchecked
    with pytest.raises(GrowthError, match="not faithful to the over-grown graph"):
        fxgrow.grow(
            model, batches, nn.functional.mse_loss, only=["a"], method=SPLITS, accept_no_gain=True
        )


def normalized(dtype: torch.dtype) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """Batch norms with the statistics of two images that are alike: variances far below eps."""
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1)]
    for _ in range(6):
        layers += [nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 3)).to(dtype)
    x = torch.rand(2, 3, 1, 1, dtype=dtype)
    x[1] = x[0] * (1 + 1e-4)
    return model, [(x, torch.zeros(2, 3, dtype=dtype))]


@pytest.mark.parametrize("method", [fxgrow.ZeroOutgoing(), SPLITS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_norms_of_two_alike_images_are_no_wrong_growth(
    dtype: torch.dtype, method: fxgrow.Method
) -> None:
    model, batches = normalized(dtype)
    growth = fxgrow.grow(
        model, batches, nn.functional.mse_loss, method=method, budget=fxgrow.Budget(neurons=6),
        accept_no_gain=True,
    )  # fmt: skip
    report = growth.report
    assert max(report.faithful_error, report.preservation_error) > rounding_tolerance(batches[0][0])
    assert "it amplifies rounding" in report.unchecked


@pytest.mark.parametrize("method", [fxgrow.ZeroOutgoing(), SPLITS])
def test_a_wrong_emission_is_seen_under_such_norms(
    monkeypatch: pytest.MonkeyPatch, method: fxgrow.Method
) -> None:
    model, batches = normalized(torch.float32)

    def wrong(module: nn.Module, *args: Any, **options: Any) -> Any:
        maps = right_emit(module, *args, **options)
        if "treatment" in options:  # at eps = 0 all is right
            with torch.no_grad():
                module.get_parameter("0.bias").mul_(1 + 1e-3)
        return maps

    monkeypatch.setattr("fxgrow.growth.verify.emit", wrong)
    with pytest.raises(GrowthError, match="not faithful"):
        fxgrow.grow(
            model, batches, nn.functional.mse_loss, method=method, budget=fxgrow.Budget(neurons=6),
            accept_no_gain=True,
        )  # fmt: skip


def test_a_companion_may_amplify_rounding() -> None:
    model, _, batches = amplifying(torch.float64)
    average = AveragedModel(model)
    grower = Grower(
        model, loss_fn=nn.functional.mse_loss, when=EveryEpochs(epochs=1), scope=Scope(only=("a",)),
        method=fxgrow.Firefly(new=0, steps=2), budget=fxgrow.Budget(neurons=3), accept_no_gain=True,
    )  # fmt: skip
    grower.follow(average)
    assert grower.step(batches, loss=1.0, epoch=1) is not None
    assert shapes_of_parameters(average.module) == shapes_of_parameters(model)


def shapes_of_parameters(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kind", [AmplifiesAndScales, ScaledByLength])
def test_a_wrong_growth_is_never_excused(kind: type[Net]) -> None:
    model = kind()
    batches = [(X, torch.zeros(len(X), 3, dtype=X.dtype))]
    with pytest.raises(GrowthError, match="not function-preserving at eps = 0") as caught:
        fxgrow.grow(model, batches, nn.functional.mse_loss, only=["a"])
    assert caught.value.code == "broken-promise"
    with pytest.raises(GrowthError, match="more neurons in 'a'"):
        widen(model, {"a": 3}, X)


def test_rounding_is_told_where_all_digits_of_float32_are_lost() -> None:
    widened = widen(AmplifiesMore(30), {"a": 3, "b": 2}, X)
    assert "it amplifies rounding" in widened.unchecked or widened.preservation_error == 0.0


def test_a_wrong_growth_is_seen_where_all_digits_of_float32_are_lost() -> None:
    class Scales(AmplifiesMore):
        between = AmplifiesAndScales.between

    with pytest.raises(GrowthError) as caught:
        widen(Scales(30), {"a": 3, "b": 2}, X)
    assert caught.value.code == "broken-promise"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_can_be_told_of_a_model_that_loses_all_digits(dtype: torch.dtype) -> None:
    model, x = AmplifiesMore(60).to(dtype), X.to(dtype)
    before = copy.deepcopy(model.state_dict())
    batches = [(x, torch.zeros_like(x[:, :3]))]
    with pytest.raises(GrowthError, match="AmplifiesMore amplifies rounding so far") as caught:
        fxgrow.grow(
            model, batches, nn.functional.mse_loss, only=["a"], inplace=True, accept_no_gain=True
        )
    assert caught.value.code == "unstable-model"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
