"""Losses and batches of every kind: they grow a model and leave nothing behind, or are refused before work is spent."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
import fxgrow.growth.objective as objective_module
from fxgrow import BatchLoss, Firefly
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective, gradients_of
from fxgrow.growth.batch_roles import assign_roles

torch.manual_seed(0)
X = torch.randn(8, 5, dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
WEIGHTS = torch.rand(8, dtype=torch.float64)
POINTS = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
QUICK = Firefly(new=2, steps=2, refine_steps=1)


def network(inputs: int = 5, outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, outputs)).double()


def grown(model: nn.Module, batches: Any, loss: Any, **options: Any) -> fxgrow.Growth:
    return fxgrow.grow(model, batches, loss, method=QUICK, **options)


def square(output: Tensor, target: Any) -> Tensor:
    return output.pow(2).mean()


def weighted(output: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(output, target[0], reduction="none") * target[1]


def named(model: Any, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(input=batch["x"]), batch["labels"])


def of_three(model: Any, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    x, y, weights = batch
    return weighted(model(x), (y, weights))


def gradient_penalty(model: Any, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    output = model(x)
    (slope,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    return output.mean() + (slope.norm(dim=1) - 1).square().mean()


def two_views(model: Any, x: Tensor) -> Tensor:
    return square(model(x) - model(x + 0.1), None) - model(2 * x).mean()


PAIRS: dict[str, tuple[Any, Any]] = {
    "no target": ([(X, None)], square),
    "0-d target": ([(X, torch.tensor(1.0))], square),
    "number": ([(X, 1)], square),
    "tuple": ([(X, (Y, WEIGHTS))], weighted),
    "dict": ([(X, {"y": Y})], lambda out, t: F.cross_entropy(out, t["y"])),
    "list of dicts": ([(X, [{"label": 1}] * 8)], square),
    "list as batch": ([[X, Y]], F.cross_entropy),
    "per example": ([(X, Y)], nn.CrossEntropyLoss(reduction="none")),
    "batch loss, dict": ([{"x": X, "labels": Y}], BatchLoss(named)),
    "batch loss, three": ([(X, Y, WEIGHTS)], BatchLoss(of_three)),
    "batch loss, tensor, derivatives": ([X, X[:4]], BatchLoss(gradient_penalty)),
    "batch loss, several calls": ([X], BatchLoss(two_views)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_batches_and_losses(name: str) -> None:
    batches, loss = PAIRS[name]
    growth = grown(network(), batches, loss)
    objective = Objective.of(batches, loss, growth.module)
    assert growth.report.widths and growth.report.loss_after < growth.report.loss_before
    scoring = assign_roles(objective, QUICK)[0].scoring
    assert scoring.mean(growth.module) == pytest.approx(growth.report.loss_after, abs=1e-12)


def residual(output: Tensor, _: Any) -> Tensor:
    """u_y - u_xx, as in a physics-informed network."""
    (first,) = torch.autograd.grad(output.sum(), POINTS, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), POINTS, create_graph=True)
    return (first[:, 1] - second[:, 0]).square().mean()


@pytest.mark.parametrize("method", [QUICK, fxgrow.RandomGrowth(), fxgrow.Splitting()])
def test_second_derivatives_by_the_inputs(method: Any) -> None:
    model = network(2, 1)
    growth = fxgrow.grow(model, [(POINTS, None)], residual, method=method)
    assert growth.report.widths and growth.report.loss_after <= growth.report.loss_before
    assert POINTS.grad is None and all(p.grad is None for p in growth.module.parameters())


def test_batches_count_by_their_examples() -> None:
    """By the target's; without one by the input's."""
    model = network()
    kinds: list[list[Any]] = [
        [Y, Y[:2]],
        [None, None],
        [{"y": Y}, {"y": Y[:2]}],
        [[{}] * 8, [{}] * 2],
    ]
    for targets in kinds:
        objective = Objective.of([(X, targets[0]), (X[:2], targets[1])], square, model)
        assert objective.sizes == [8, 2]
        expected = (8 * square(model(X), None) + 2 * square(model(X[:2]), None)) / 10
        assert objective.mean(model) == pytest.approx(expected.item())


class LearnedMetric(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, dtype=torch.float64))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output @ self.weight, target)


@pytest.mark.parametrize("gradient", [None, torch.ones(3, 3, dtype=torch.float64)])
def test_a_loss_with_parameters_keeps_its_gradients(gradient: Tensor | None) -> None:
    loss = LearnedMetric()
    before = loss.weight.detach().clone()
    loss.weight.grad = None if gradient is None else gradient.clone()
    grown(network(), [(X, Y)], loss)
    assert torch.equal(loss.weight, before) and loss.weight.requires_grad
    if gradient is None:
        assert loss.weight.grad is None
    else:
        assert torch.equal(loss.weight.grad, gradient)  # type: ignore[arg-type]


def no_call(model: Any, batch: Any) -> Tensor:
    return batch[0].mean()


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "accuracy": ([(X, Y)], lambda out, y: (out.argmax(1) != y).float().mean(), "no-gradient"),
    "detached": ([(X, Y)], lambda out, y: F.cross_entropy(out.detach(), y), "no-gradient"),
    "number": ([(X, Y)], lambda *_: 1.0, "bad-loss"),
    "tuple": ([(X, Y)], lambda out, y: (square(out, y),), "bad-loss"),
    "complex": ([(X, Y)], lambda out, y: torch.complex(out, out).mean(), "bad-loss"),
    "three": ([(X, Y, Y)], F.cross_entropy, "bad-batch"),
    "one": ([(X,)], F.cross_entropy, "bad-batch"),
    "dict": ([{"x": X, "labels": Y}], F.cross_entropy, "bad-batch"),
    "tensor of two": ([X[:2]], F.cross_entropy, "bad-batch"),
    "no call of the model": ([(X, Y)], BatchLoss(no_call), "bad-batch"),
    "none": ([], F.cross_entropy, "no-batches"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_work_is_spent(name: str) -> None:
    batches, loss, code = REFUSED[name]
    model = network()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(fxgrow.FxgrowError) as error:
        grown(model.train(), batches, loss, inplace=True)
    assert error.value.code == code
    assert model.training and flags == [parameter.requires_grad for parameter in model.parameters()]


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, x: Tensor, scale: Any = 1.0) -> dict[str, Tensor]:
        return {"logits": self.layers(x) * scale}


def test_a_batch_loss_sees_the_models_own_output_and_arguments() -> None:
    def loss(model: Any, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0], scale=batch[2])["logits"], batch[1])

    assert grown(Scaled(), [(X, Y, torch.tensor(0.5).double())], BatchLoss(loss)).report.widths


def test_calls_with_different_numbers_of_arguments_are_refused() -> None:
    def loss(model: Any, batch: Any) -> Tensor:
        return square(model(batch)["logits"], None) + square(model(batch, 2.0)["logits"], None)

    with pytest.raises(fxgrow.DataError, match="called with 1 and 2 arguments") as error:
        grown(Scaled(), [X], BatchLoss(loss))
    assert error.value.code == "bad-batch"


MODES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


@pytest.mark.parametrize("name", MODES)
def test_inside_of_no_grad_and_inference_mode(name: str) -> None:
    """What comes back trains, as does what widen gives."""
    model = network()
    with MODES[name]():
        x = X + 0  # in inference mode a tensor of its own kind
        growth = grown(model, [(x, Y)], F.cross_entropy)
        wider = fxgrow.widen(model, {"0": 2}, x).module
        fxgrow.couple(model, x)
        assert not torch.is_grad_enabled()
    for module in (growth.module, wider):
        F.cross_entropy(module(X), Y).backward()
        assert all(p.grad is not None and p.requires_grad for p in module.parameters())


FOREIGN: list[tuple[Any, Any, Any, str]] = [
    (torch.zeros(4, 3), torch.zeros(4, dtype=torch.long), F.cross_entropy, "does-not-run"),
    (
        torch.zeros(4, 5),
        torch.zeros(4, dtype=torch.long, device="meta"),
        F.cross_entropy,
        "bad-loss",
    ),
    (torch.zeros(4, 5), torch.zeros(4, 9), lambda output, target: output @ target, "bad-loss"),
    (torch.zeros(4, 5), torch.zeros(4), lambda output, target: 1 // 0, "bad-loss"),
    (
        torch.zeros(4, 3),
        torch.zeros(4),
        fxgrow.BatchLoss(lambda net, b: net(b[0]).sum()),
        "bad-loss",
    ),
]


@pytest.mark.parametrize(("inputs", "target", "loss", "code"), FOREIGN)
def test_what_a_model_or_loss_raises_is_one_sentence(
    inputs: Tensor, target: Tensor, loss: Any, code: str
) -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(fxgrow.FxgrowError, match="give batches and a loss that fit") as caught:
        fxgrow.grow(model, [(inputs, target)], loss)
    assert caught.value.code == code
    assert caught.value.__cause__ is not None


def test_kernels_are_looked_at_once_per_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which kernel a convolution takes depends on shapes and strides alone."""
    monkeypatch.setattr(objective_module, "has_unsafe_kernel", lambda: True)
    seen = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((tuple(x.shape), x.stride()))
            return super().forward(x)

    inputs = [torch.randn(4, 3), torch.randn(4, 3), torch.randn(3, 4).t(), torch.randn(2, 3)]
    batches = [(x, x[:, :2]) for x in inputs]
    model = Watched(3, 2)
    Objective(batches, F.mse_loss).require_safe_kernels(model)
    assert seen == [((4, 3), (3, 1)), ((4, 3), (1, 4)), ((2, 3), (3, 1))]


def test_a_backward_pass_that_fails() -> None:
    class OneWay(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            raise RuntimeError("there is no way back")

    class Model(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = OneWay.apply(super().forward(x))  # type: ignore[no-untyped-call]
            return result

    model, x = Model(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(5, 3)
    with pytest.raises(GrowthError, match=r"cannot be differentiated .*no way back") as caught:
        gradients_of(model(x).sum(), list(model.parameters()))
    assert caught.value.code == "bad-loss"
