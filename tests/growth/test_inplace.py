"""Growth of the caller's own model, all or nothing, and of models that can have no specification."""

import copy
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly
from fxgrow.copying import copy_with_optimizers
from fxgrow.errors import GrowthError, SpecError
from tests.networks import images, network

LABELS = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0])
SETTINGS: dict[str, Any] = {"method": Firefly(new=2, steps=3), "budget": Budget(neurons=3)}


def test_the_model_and_its_optimiser_themselves_grow() -> None:
    module = network("chain").train()
    optimizer = torch.optim.Adam(module.parameters())
    F.cross_entropy(module(images(8)), LABELS).backward()
    optimizer.step()
    parameters = list(module.parameters())
    before = sum(p.numel() for p in parameters)
    batch = [(images(8), LABELS)]
    growth = fxgrow.grow(
        module,
        batch,
        F.cross_entropy,
        example_inputs=images(),
        optimizer=optimizer,
        inplace=True,
        **SETTINGS,
    )
    assert growth.module is module and growth.optimizer is optimizer and module.training
    assert [id(p) for p in module.parameters()] == [id(p) for p in parameters]
    assert sum(p.numel() for p in parameters) > before
    assert all(optimizer.state[p]["exp_avg"].shape == p.shape for p in parameters)


def test_a_failure_leaves_the_model_as_it_was() -> None:
    """The last loss is that of the emitted model: when it is no number, everything has grown already."""
    module = network("chain")
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    before, state = copy.deepcopy(module.state_dict()), copy.deepcopy(optimizer.state_dict())
    calls: list[int] = []

    def grow(last: float, inplace: bool) -> None:
        def loss(output: Tensor, target: Tensor) -> Tensor:
            calls.append(1)
            return F.cross_entropy(output, target) * (float("nan") if len(calls) == last else 1)

        batch = [(images(8), LABELS)]
        fxgrow.grow(
            module,
            batch,
            loss,
            example_inputs=images(),
            optimizer=optimizer,
            inplace=inplace,
            **SETTINGS,
        )

    grow(float("inf"), inplace=False)
    total = len(calls)
    calls.clear()
    with pytest.raises(GrowthError, match="loss"):
        grow(total, inplace=True)
    assert len(calls) == total
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    assert optimizer.state_dict() == state
    assert all(p.requires_grad for p in module.parameters())


class Squared(nn.Module):
    """Calls a function that a specification may not call."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = squared(self.a(x))
        return self.b(hidden)  # type: ignore[no-any-return]


def squared(x: Tensor) -> Tensor:
    """Something that fx is told to leave alone."""
    return x.square()


torch.fx.wrap("squared")


def test_a_model_without_a_specification_grows() -> None:
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    growth = fxgrow.grow(
        Squared(), [(x, LABELS)], F.cross_entropy, example_inputs={"x": x}, **SETTINGS
    )
    assert growth.report.params_after > growth.report.params_before
    with pytest.raises(SpecError, match="squared") as caught:
        fxgrow.save(growth, "nowhere")
    assert caught.value.code == growth.described.code  # type: ignore[union-attr]


class Interrupted(KeyboardInterrupt):
    """Raised in the middle of a growth."""


def everything(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    """All that a growth may change, as text and copies."""
    state: list[Any] = []
    for name, submodule in module.named_modules():
        numbers = {key: v for key, v in vars(submodule).items() if type(v) in (int, bool)}
        hooks = len(submodule._forward_hooks) + len(submodule._forward_pre_hooks)
        state.append((name, numbers, hooks, "forward" in vars(submodule)))
    for name, tensor in module.state_dict(keep_vars=True).items():
        gradient = None if tensor.grad is None else tensor.grad.tolist()
        state.append((name, id(tensor), tensor.tolist(), tensor.requires_grad, gradient))
    for group in optimizer.param_groups:
        state.append([id(parameter) for parameter in group["params"]])
    for values in optimizer.state.values():
        state.append({key: value.tolist() for key, value in values.items()})
    return state


def interrupted_at(count: int, run: Any) -> int:
    """Raise at the given call of a function of fxgrow; gives back how many calls there were."""
    calls = 0
    package = str(Path(fxgrow.__file__).parent)

    def trace(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        # A generator that is given up is called once more to be closed: what is raised is lost.
        is_generator = frame.f_code.co_flags & inspect.CO_GENERATOR
        is_ours = frame.f_code.co_filename.startswith(package)
        if event == "call" and is_ours and not is_generator:
            calls += 1
            if calls == count:
                sys.settrace(None)
                raise Interrupted

    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(None)
    return calls


@pytest.mark.parametrize("state", ["padded", "reset-grown"])
def test_an_interrupt_at_any_moment_leaves_the_old_model(state: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)).train()
    module[1].eval()
    inputs = torch.randn(8, 4)
    optimizer = torch.optim.Adam(module.parameters())
    F.cross_entropy(module(inputs), LABELS).backward()
    optimizer.step()
    method = Firefly(new=1, steps=1, refine_steps=0, points=1, layers=1)
    before = everything(module, optimizer)

    def grow(model: nn.Module = module, with_optimizer: Any = optimizer) -> None:
        options: dict[str, Any] = {"method": method, "optimizer": with_optimizer, "inplace": True}
        fxgrow.grow(model, [(inputs, LABELS)], F.cross_entropy, state=state, **options)

    copies = copy_with_optimizers(module, [optimizer])
    total = interrupted_at(-1, lambda: grow(*copies))
    # The last steps write the report; the other moments are a sample of all.
    for count in [total // 5, total // 2, total - total // 5, total - 60, total - 20, total - 5]:
        with pytest.raises(Interrupted):
            interrupted_at(count, grow)
        assert everything(module, optimizer) == before


def test_a_result_that_is_still_alive_does_not_hinder_the_next_gradient() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    inputs = torch.randn(8, 4)
    calls: list[torch.Size] = []
    module[0].weight.register_post_accumulate_grad_hook(lambda p: calls.append(p.shape))
    loss = F.cross_entropy(module(inputs), LABELS)
    loss.backward()
    fxgrow.grow(module, [(inputs, LABELS)], F.cross_entropy, inplace=True, **SETTINGS)
    F.cross_entropy(module(inputs), LABELS).backward()
    assert calls == [torch.Size([3, 4]), module[0].weight.shape] and loss.grad_fn is not None
